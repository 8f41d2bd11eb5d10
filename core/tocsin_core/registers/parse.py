"""The parser of device profiles: YAML to a checked register map, every mistake named by file and line."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tocsin_core.registers.profile import (
    ADDRESSES,
    INTEGERS,
    IllegalRange,
    Limits,
    Profile,
    RegisterValue,
    Repeat,
    StatusRule,
)

_Location = tuple[int | str, ...]

# More than any register map has; an alias of aliases must not cost more than a message.
MOST_NODES: Final = 200_000
TOO_MUCH: Final = "nested too deeply, or an alias repeats itself"
_MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "values": RegisterValue,
    "status": StatusRule,
    "limits": Limits,
    "illegal": IllegalRange,
}
_PLAIN_MESSAGE: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "model_type": "should be a mapping",
    "dict_type": "should be a mapping",
    "tuple_type": "should be a list",
    "too_short": "is empty",
}


class ProfileProblem(NamedTuple):
    """One thing that is wrong: where (line from 1, dotted path) and what."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        """As file:line: path: message."""
        return f"{self.file}:{self.line}: " + (f"{self.path}: " if self.path else "") + self.message


class ProfileError(ValueError):
    """A profile that does not hold: every problem on a line of its own, as file:line: path: message."""

    def __init__(self, problems: Sequence[ProfileProblem]) -> None:
        """Keep `problems` (at least one), in the order of the file."""
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def parse_profile(text: str, file: str) -> Profile:
    """Read a profile from YAML; repeated values are expanded into one per channel.

    Raises:
        ProfileError: not YAML, unknown keys, wrong types, or rules that name values that are not there.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415 -- who has a profile otherwise does without
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415

    try:
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        raise ProfileError([ProfileProblem(file, line, "", str(error.problem))]) from error
    except YAMLError as error:
        raise ProfileError([ProfileProblem(file, 1, "", " ".join(str(error).split()))]) from error
    except RecursionError as error:
        raise ProfileError([ProfileProblem(file, 1, "", TOO_MUCH)]) from error
    try:
        profile = Profile.model_validate(_plain(tree, [MOST_NODES]))
    except (RecursionError, OverflowError) as error:
        raise ProfileError([ProfileProblem(file, 1, "", TOO_MUCH)]) from error
    except ValidationError as error:
        found = [_problem(tuple(part["loc"]), part) for part in error.errors()]
        raise ProfileError(_report(file, tree, found)) from error
    problems = [*_repeat_problems(profile)]
    if not problems:
        written, profile = profile, _expand(profile)
        problems = [*_reference_problems(profile), *_illegal_problems(written)]
        problems += _rule_problems(written, profile.values)
    if problems:
        raise ProfileError(_report(file, tree, problems))
    return profile


def _problem(path: _Location, error: ErrorDetails) -> tuple[_Location, str]:
    """The place and the words of what pydantic refused; its own words are Python's."""
    if error["type"] == "extra_forbidden":
        known = _MODELS.get(str(path[0]), Profile) if len(path) > 1 else Profile
        near = get_close_matches(str(path[-1]), known.model_fields, 1)
        return path, "unknown key" + (f": is it {near[0]}?" if near else "")
    text = error["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    return path, _PLAIN_MESSAGE.get(error["type"], text)


def _plain(node: object, left: list[int]) -> object:
    """Rebuild the tree without the parser's own scalar classes, which strict models refuse.

    Raises:
        OverflowError: more than `left[0]` nodes.
    """
    left[0] -= 1
    if left[0] < 0:
        raise OverflowError
    if isinstance(node, Mapping):
        return {_plain(key, left): _plain(value, left) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item, left) for item in node]
    for scalar in (bool, int, float, str):
        if isinstance(node, scalar):
            return scalar(node)
    return node


def _report(file: str, tree: object, found: Sequence[tuple[_Location, str]]) -> list[ProfileProblem]:
    problems = [
        ProfileProblem(file, _line_of(tree, path), ".".join(map(str, path)) or "profile", message)
        for path, message in found
    ]
    return sorted(problems)


def _line_of(tree: object, path: _Location) -> int:
    """Find the line (from 1) of the innermost part of `path` that exists in the tree."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq  # noqa: PLC0415 -- as above

    line, node = 1, tree
    for part in path:
        if isinstance(node, CommentedMap) and part in node:
            line = node.lc.key(part)[0] + 1
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line = node.lc.item(part)[0] + 1
        else:
            break
        node = node[part]
    return line


def _repeat_problems(profile: Profile) -> Iterator[tuple[_Location, str]]:
    for name, value in profile.values.items():
        if ("{n}" in name) != (value.repeat is not None):
            yield ("values", name), "{n} in the name and repeat go together"
        elif (
            value.repeat is not None
            and value.address + (value.repeat.count - 1) * value.repeat.step + value.words > ADDRESSES
        ):
            yield ("values", name, "repeat"), f"the last channel passes address {ADDRESSES - 1}"


def _expand(profile: Profile) -> Profile:
    """Every repeated value, and every rule on one, written out for its channels."""
    if not any(value.repeat for value in profile.values.values()):
        return profile
    values: dict[str, RegisterValue] = {}
    counts: dict[str, int] = {}
    for name, value in profile.values.items():
        if value.repeat is None:
            values[name] = value
            continue
        counts[name] = value.repeat.count
        for channel in range(1, value.repeat.count + 1):
            one = {
                "address": value.address + (channel - 1) * value.repeat.step,
                "decimals_from": value.decimals_from and _numbered(value.decimals_from, channel),
                "repeat": None,
            }
            values[_numbered(name, channel)] = value.model_copy(update=one)
    return profile.model_copy(update={"values": values, "status": tuple(_expand_rules(profile.status, counts))})


def _expand_rules(rules: Sequence[StatusRule], counts: Mapping[str, int]) -> Iterator[StatusRule]:
    for rule in rules:
        names = (rule.value, *rule.affects)
        channels = max((counts.get(name, 1) for name in names if "{n}" in name), default=0)
        if not channels:
            yield rule
        for channel in range(1, channels + 1):
            affects = tuple(_numbered(name, channel) for name in rule.affects)
            yield rule.model_copy(update={"value": _numbered(rule.value, channel), "affects": affects})


def _numbered(name: str, channel: int) -> str:
    return name.replace("{n}", str(channel))


def _reference_problems(profile: Profile) -> Iterator[tuple[_Location, str]]:
    for name, value in profile.values.items():
        source = None if value.decimals_from is None else profile.values.get(value.decimals_from)
        if value.decimals_from is not None and (source is None or source.type not in {"u16", "s16"}):
            yield ("values", name, "decimals_from"), f"{value.decimals_from} is not a 16-bit integer of this profile"
        if value.words > profile.limits.registers:
            yield ("values", name), f"takes {value.words} registers, limits.registers allows {profile.limits.registers}"


def _rule_problems(written: Profile, values: Mapping[str, RegisterValue]) -> Iterator[tuple[_Location, str]]:
    """What each rule, as it is written, names that is not among all `values`: of its channels the first that is not."""
    counts = {name: value.repeat.count for name, value in written.values.items() if value.repeat is not None}
    for index, rule in enumerate(written.status):
        channels = [*_expand_rules([rule], counts)]
        for name in (each.value for each in channels):
            status = values.get(name)
            if status is None or status.type not in INTEGERS | {"bool"}:
                yield ("status", index, "value"), f"{name} is not an integer value or a bool of this profile"
                break
        for names in zip(*(each.affects for each in channels), strict=True):
            missing = next((name for name in names if name not in values), None)
            if missing is not None:
                yield ("status", index, "affects"), f"{missing} is not a value of this profile"


def _illegal_problems(written: Profile) -> Iterator[tuple[_Location, str]]:
    """Which values, as they are written, lie in an illegal range: of a repeated one the first channel that does."""
    for name, value in written.values.items():
        for illegal in written.illegal:
            if value.function != illegal.function:
                continue
            repeat = value.repeat or Repeat(count=1)
            for channel in range(1, repeat.count + 1):
                address = value.address + (channel - 1) * repeat.step
                if address <= illegal.last and illegal.first < address + value.words:
                    which = "" if value.repeat is None else f"{_numbered(name, channel)} "
                    told = f"{which}lies in the illegal range {illegal.first}-{illegal.last}"
                    yield ("values", name, "address"), told
                    break
