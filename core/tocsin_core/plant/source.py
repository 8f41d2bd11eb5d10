"""Plain data of a plant in which every value knows the file and line it came from, and what CSV texts add to it."""

import csv
import io
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Final

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


LONGEST_SHOWN: Final = 40


def short(text: str) -> str:
    """`text` as a message quotes it."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


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
        # Minus nothing is nothing: points that differ in that alone are alike.
        return number + 0.0
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
            named = ", ".join(name if name.isprintable() else repr(name) for name in map(short, unknown))
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
