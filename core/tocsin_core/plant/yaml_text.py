"""YAML texts turned into plain data in which every value knows the line it came from."""

import io
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tocsin_core.plant.source import Path, Problem, Source, path_text, short

TOO_MUCH: Final = "nested too deeply, or an alias repeats itself"
_TAG: Final = "tag:yaml.org,2002:"

# Far beyond any plant: an alias inside itself, or aliases of aliases, must not cost more than a message.
MOST_LEVELS: Final = 30
MOST_VALUES: Final = 2_000_000
TOO_MANY: Final = f"more than {MOST_VALUES:,} values, or an alias repeats itself: so many points belong into points.csv"


class _TooMuchError(Exception):
    """The document unfolds into more than any plant needs; says what."""


def _whole(text: str) -> int:
    digits = text.replace("_", "")
    based = digits.lstrip("+-")[:2].lower() in ("0x", "0o", "0b")
    return int(digits, 0) if based else int(digits)


def _real(text: str) -> float:
    # Minus nothing is nothing: points that differ in that alone are alike.
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan")) + 0.0


def _scalar(tag: str, text: str) -> object:
    """The value of a scalar by YAML 1.2's core schema.

    Raises:
        ValueError: the text is not of its tag (`!!int abc`).
    """
    match tag:
        case "null":
            return None
        case "bool":
            # Only under a `%YAML 1.1` directive does `yes` come as a bool; here it stays the word it is.
            return text.lower() == "true" if text.lower() in ("true", "false") else text
        case "int":
            return _whole(text)
        case "float":
            return _real(text)
        case _:
            return text


def _mapping(node: MappingNode, path: Path, file: str, source: Source) -> dict[str, object]:
    found: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            source.problems.append(Problem(file, line, path_text(path), "a key is one word, not a list or a mapping"))
            continue
        key = str(key_node.value)
        here = (*path, key)
        if key in found:
            before = source.places[here][1]
            source.problems.append(Problem(file, line, path_text(here), f"this key already stands in line {before}"))
            continue
        source.places[here] = (file, line)
        found[key] = _walk(value_node, here, file, source)
    return found


def _walk(node: Node, path: Path, file: str, source: Source) -> object:
    if len(path) > MOST_LEVELS:
        raise _TooMuchError(TOO_MUCH)
    if len(source.places) > MOST_VALUES:
        raise _TooMuchError(TOO_MANY)
    line = node.start_mark.line + 1
    source.places.setdefault(path, (file, line))
    if isinstance(node, MappingNode):
        return _mapping(node, path, file, source)
    if isinstance(node, SequenceNode):
        return [_walk(item, (*path, index), file, source) for index, item in enumerate(node.value)]
    tag, text = str(node.tag).removeprefix(_TAG), str(node.value)
    try:
        return _scalar(tag, text)
    except ValueError:
        source.problem(path, f"{short(text)!r} is not a number")
        return None


def read_yaml(text: str, file: str) -> Source:
    """The data of one YAML 1.2 document; where it cannot be parsed, `data` is None and the one problem says why."""
    source = Source()
    source.places[()] = (file, 1)
    try:
        node = YAML(typ="safe", pure=True).compose(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        source.problems.append(Problem(file, line, "", f"not YAML: {error.problem or error.context}"))
        return source
    except (YAMLError, ValueError) as error:
        source.problems.append(Problem(file, 1, "", f"not YAML: {_one_line(error)}"))
        return source
    except RecursionError:
        source.problems.append(Problem(file, 1, "", TOO_MUCH))
        return source
    try:
        source.data = None if node is None else _walk(node, (), file, source)
    except _TooMuchError as error:
        source.problems = [Problem(file, 1, "", str(error))]
        return source
    if source.data is None and not source.problems:
        source.problems.append(Problem(file, 1, "", "the file is empty"))
    return source


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
