"""YAML and CSV texts turned into plain data in which every value knows the file and line it came from."""

import csv
import io
from dataclasses import dataclass, field
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

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


def _scalar(tag: str, text: str) -> object:
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    if tag == "int":
        digits = text.replace("_", "")
        based = digits.lstrip("+-")[:2].lower() in ("0x", "0o", "0b")
        return int(digits, 0) if based else int(digits)
    if tag == "float":
        return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _walk(node: Node, path: Path, file: str, source: Source) -> object:
    source.places.setdefault(path, (file, node.start_mark.line + 1))
    if isinstance(node, MappingNode):
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            here = (*path, key)
            if key in found:
                source.places[here] = (file, key_node.start_mark.line + 1)
                source.problem(here, "this key stands twice")
                continue
            source.places[here] = (file, key_node.start_mark.line + 1)
            found[key] = _walk(value_node, here, file, source)
        return found
    if isinstance(node, SequenceNode):
        return [_walk(item, (*path, index), file, source) for index, item in enumerate(node.value)]
    return _scalar(str(node.tag).removeprefix(_TAG), str(node.value))


def read_yaml(text: str, file: str) -> Source:
    """The data of one YAML 1.2 document; what cannot be parsed becomes the source's only problem."""
    source = Source()
    source.places[()] = (file, 1)
    try:
        node = YAML(typ="safe", pure=True).compose(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        source.problems.append(Problem(file, line, "", f"not YAML: {error.problem or error.context}"))
        return source
    except ValueError as error:
        source.problems.append(Problem(file, 1, "", f"not YAML: {error}"))
        return source
    if node is None:
        source.problems.append(Problem(file, 1, "", "the file is empty"))
        return source
    source.data = _walk(node, (), file, source)
    return source


_TEXT_COLUMNS: Final = ("id", "kind", "register", "field", "metric", "unit", "source", "cas", "place")
_LIMIT_COLUMNS: Final = ("HH", "H", "L", "LL")
_COLUMNS: Final = (
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
        return float(text)
    except ValueError:
        source.problems.append(Problem(*where, column, f"{text!r} is not a number"))
        return None


def _point_of(row: dict[str, str], where: tuple[str, int], source: Source) -> dict[str, object]:
    point: dict[str, object] = {key: row[key].strip() for key in _TEXT_COLUMNS if (row.get(key) or "").strip()}
    zh, en = (row.get("name_zh") or "").strip(), (row.get("name_en") or "").strip()
    point["name"] = {"zh": zh or en or str(point.get("id", "")), "en": en or zh or str(point.get("id", ""))}
    low, high = _number(row, "low", where, source), _number(row, "high", where, source)
    if low is not None and high is not None:
        point["range"] = [low, high]
    decimals = _number(row, "decimals", where, source)
    if decimals is not None:
        point["decimals"] = int(decimals)
    limits = {
        key: {"setpoint": value} for key in _LIMIT_COLUMNS if (value := _number(row, key, where, source)) is not None
    }
    if limits:
        point["alarms"] = limits
    return point


def _devices(source: Source) -> dict[tuple[str, str], tuple[Path, list[object]]]:
    found: dict[tuple[str, str], tuple[Path, list[object]]] = {}
    gateways = source.data.get("gateways") if isinstance(source.data, dict) else None
    for g, gateway in enumerate(gateways if isinstance(gateways, list) else []):
        devices = gateway.get("devices") if isinstance(gateway, dict) else None
        for d, device in enumerate(devices if isinstance(devices, list) else []):
            if isinstance(device, dict):
                points = device.setdefault("points", [])
                if isinstance(points, list):
                    found[str(gateway.get("id")), str(device.get("id"))] = (
                        ("gateways", g, "devices", d, "points"),
                        points,
                    )
    return found


def add_points_csv(source: Source, text: str, file: str) -> None:
    """Append the rows of an instrument list to the devices they name; each wrong row or cell becomes a problem."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    unknown = [name for name in reader.fieldnames or [] if name not in _COLUMNS]
    if unknown:
        source.problems.append(
            Problem(file, 1, "", f"unknown columns: {', '.join(map(str, unknown))}; known: {', '.join(_COLUMNS)}")
        )
    devices = _devices(source)
    for row in reader:
        where = (file, reader.line_num)
        key = ((row.get("gateway") or "").strip(), (row.get("device") or "").strip())
        if None in row:
            source.problems.append(Problem(*where, "", "more cells than columns"))
            continue
        if key not in devices:
            source.problems.append(
                Problem(*where, "device", f"no device {key[1]!r} on a gateway {key[0]!r} in plant.yaml")
            )
            continue
        path, points = devices[key]
        source.places[(*path, len(points))] = where
        points.append(_point_of(row, where, source))
