"""YAML and CSV texts turned into plain data in which every value knows the file and line it came from."""

import csv
import io
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a plant: where (file, line from 1, path into the file) and what."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        """`plant.yaml:37: gateways[0].devices[2].modbus.port: …`."""
        return (
            f"{self.file}:{self.line}: {self.path}: {self.message}"
            if self.path
            else f"{self.file}:{self.line}: {self.message}"
        )


def path_text(path: Path) -> str:
    """`("gateways", 0, "id")` as `gateways[0].id`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


LONGEST_SHOWN: Final = 40
TOO_MUCH: Final = "nested too deeply, or an alias repeats itself"


@dataclass
class Source:
    """Plain data, where each part of it stands, and what was wrong while reading it."""

    data: object = None
    places: dict[Path, tuple[str, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path) -> tuple[str, int]:
        """File and line of `path`, or of the nearest part around it that is known."""
        for length in range(len(path), -1, -1):
            found = self.places.get(path[:length])
            if found is not None:
                return found
        return ("plant.yaml", 1)

    def problem(self, path: Path, message: str) -> None:
        """Note that what stands at `path` is wrong."""
        file, line = self.place(path)
        self.problems.append(Problem(file, line, path_text(path), message))


_TAG: Final = "tag:yaml.org,2002:"

# Far beyond any plant: an alias inside itself, or aliases of aliases, must not cost more than a message.
MOST_LEVELS: Final = 30
MOST_VALUES: Final = 2_000_000


class _TooMuchError(Exception):
    """The document unfolds into more than any plant needs."""


def _whole(text: str) -> int:
    digits = text.replace("_", "")
    based = digits.lstrip("+-")[:2].lower() in ("0x", "0o", "0b")
    return int(digits, 0) if based else int(digits)


def _real(text: str) -> float:
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


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
    if len(path) > MOST_LEVELS or len(source.places) > MOST_VALUES:
        raise _TooMuchError
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
        source.problem(path, f"{_short(text)!r} is not a number")
        return None


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


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
    except _TooMuchError:
        source.problems = [Problem(file, 1, "", TOO_MUCH)]
        return source
    if source.data is None and not source.problems:
        source.problems.append(Problem(file, 1, "", "the file is empty"))
    return source


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


_TEXT_COLUMNS: Final = ("id", "kind", "register", "field", "metric", "unit", "source", "cas", "place")
_LIMIT_COLUMNS: Final = ("HH", "H", "L", "LL", "red", "orange", "yellow", "blue")
NEEDED_COLUMNS: Final = ("gateway", "device", "id", "kind")
COLUMNS: Final = (
    "gateway",
    "device",
    "name_zh",
    "name_en",
    "low",
    "high",
    "decimals",
    *_TEXT_COLUMNS,
    *_LIMIT_COLUMNS,
)


def _number(row: dict[str, str], column: str, where: tuple[str, int], source: Source) -> float | None:
    text = (row.get(column) or "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = nan
    if isfinite(number):
        return number
    source.problems.append(Problem(*where, column, f"{text!r} is not a number"))
    return None


def _point_of(row: dict[str, str], where: tuple[str, int], source: Source) -> dict[str, object]:
    point: dict[str, object] = {key: row[key].strip() for key in _TEXT_COLUMNS if (row.get(key) or "").strip()}
    zh, en = (row.get("name_zh") or "").strip(), (row.get("name_en") or "").strip()
    point["name"] = {"zh": zh or en or str(point.get("id", "")), "en": en or zh or str(point.get("id", ""))}
    low, high = _number(row, "low", where, source), _number(row, "high", where, source)
    if low is not None and high is not None:
        point["range"] = [low, high]
    elif (row.get("low") or "").strip() and not (row.get("high") or "").strip():
        source.problems.append(Problem(*where, "high", "is missing: low and high come together"))
    elif (row.get("high") or "").strip() and not (row.get("low") or "").strip():
        source.problems.append(Problem(*where, "low", "is missing: low and high come together"))
    decimals = _number(row, "decimals", where, source)
    if decimals is not None:
        # As a spreadsheet writes it: 1 and 1.0 are the same; the model refuses 1.5.
        point["decimals"] = int(decimals) if decimals.is_integer() else decimals
    limits = {
        key: {"setpoint": value} for key in _LIMIT_COLUMNS if (value := _number(row, key, where, source)) is not None
    }
    if limits:
        point["alarms"] = limits
    return point


_Devices = dict[tuple[str, str], tuple[Path, list[object]]]


def _devices(source: Source) -> _Devices:
    found: _Devices = {}
    gateways = source.data.get("gateways") if isinstance(source.data, dict) else None
    for g, gateway in enumerate(gateways if isinstance(gateways, list) else []):
        devices = gateway.get("devices") if isinstance(gateway, dict) else None
        for d, device in enumerate(devices if isinstance(devices, list) else []):
            if isinstance(device, dict):
                points = device.setdefault("points", [])
                if isinstance(points, list):
                    path: Path = ("gateways", g, "devices", d, "points")
                    found[str(gateway.get("id")), str(device.get("id"))] = (path, points)
    return found


def _add_row(row: dict[str, str], where: tuple[str, int], devices: _Devices, source: Source) -> None:
    if None in row:
        source.problems.append(Problem(*where, "", "more cells than columns"))
        return
    if not any((cell or "").strip() for cell in row.values()):
        return
    key = ((row.get("gateway") or "").strip(), (row.get("device") or "").strip())
    if key not in devices:
        text = f"no device {key[1]!r} on a gateway {key[0]!r} in plant.yaml"
        source.problems.append(Problem(*where, "device", text))
        return
    path, points = devices[key]
    source.places[(*path, len(points))] = where
    points.append(_point_of(row, where, source))


def add_points_csv(source: Source, text: str, file: str) -> None:
    """Append the rows of an instrument list to the devices they name; each wrong row or cell becomes a problem."""
    # newline="": a cell may hold a line break, and a spreadsheet may end its lines in any way.
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    try:
        columns = reader.fieldnames or []
        unknown = [name for name in columns if name not in COLUMNS]
        missing = [name for name in NEEDED_COLUMNS if name not in columns]
        if unknown:
            named = ", ".join(name if name.isprintable() else repr(name) for name in map(_short, unknown))
            known = ", ".join(COLUMNS)
            source.problems.append(Problem(file, 1, "", f"unknown columns: {named}; known: {known}"))
        if missing:
            source.problems.append(Problem(file, 1, "", f"columns are missing: {', '.join(missing)}"))
            return
        devices = _devices(source)
        for row in reader:
            _add_row(row, (file, reader.line_num), devices, source)
    except csv.Error as error:
        source.problems.append(Problem(file, reader.line_num + 1, "", f"not CSV: {error}"))
