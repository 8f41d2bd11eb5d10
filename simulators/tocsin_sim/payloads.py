"""What an MQTT sensor says and where: JSON built of the plant file's paths, words, and topics of their wildcards."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Final

from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.sensors import captured, parse_path
from tocsin_core.sensors.paths import Path

# Sensors print few digits; binary noise behind the last one is none of theirs.
DIGITS: Final = 6

Said = float | str | None


class FormError(ValueError):
    """A sensor cannot speak as the plant file says; the message says why."""


def topic_of(mqtt: Mqtt, device: str, topic_filter: str | None = None) -> str:
    """Name the topic on which the sensor publishes, or where `topic_filter` (its will's) leads for it.

    Raises:
        FormError: its name does not fit the wildcards.
    """
    wanted, name = topic_filter or mqtt.topic, mqtt.name or device
    if "+" not in wanted and not wanted.endswith("#"):
        return wanted
    rest, levels = name.split("/"), []
    for level in wanted.split("/"):
        if level == "#":
            levels += rest
        else:
            levels.append(rest.pop(0) if level == "+" and rest else level)
    topic = "/".join(levels)
    if captured(wanted, topic) != name:
        raise FormError(f"the name {name!r} does not fit {wanted!r}")
    return topic


def said(mqtt: Mqtt, values: Mapping[str, float]) -> dict[str, Said]:
    """Give what the sensor says of its values, by path: the number, or the plant file's word for it; null for none."""
    words = {number: word for word, number in mqtt.words.items()}
    return {path: words.get(value, round(value, DIGITS)) if isfinite(value) else None for path, value in values.items()}


def content(values: Mapping[str, Said]) -> object:
    """Build the decoded JSON in which each path leads to its value; the path "" is the payload itself.

    Raises:
        FormError: two paths exclude each other.
    """
    return _built([(parse_path(path), path, value) for path, value in values.items()])


def with_time(mqtt: Mqtt, values: Mapping[str, Said], now_ns: int) -> dict[str, Said]:
    """Add the time stamp where the plant file looks for one (RFC 3339, ms)."""
    if mqtt.time is None:
        return dict(values)
    stamp = datetime.fromtimestamp(now_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    return {**values, mqtt.time: stamp}


def _built(rows: Sequence[tuple[Path, str, Said]]) -> object:
    ends = [row for row in rows if not row[0]]
    if ends:
        if len(rows) > 1:
            raise FormError(f"{' and '.join(repr(name) for _, name, _ in rows)} lie inside each other")
        return ends[0][2]
    groups: dict[str | int, list[tuple[Path, str, Said]]] = {}
    listed = any(isinstance(steps[0], int) for steps, _, _ in rows)
    for (head, *tail), name, value in rows:
        if listed and isinstance(head, str) and not head.isdecimal():
            raise FormError(f"{name!r}: a key where others have places in a list")
        groups.setdefault(int(head) if listed else head, []).append((tuple(tail), name, value))
    if not listed:
        return {key: _built(group) for key, group in groups.items()}
    places = [int(place) for place in groups]
    # Places from the end lie behind those from the beginning.
    found: list[object] = [None] * (max(0, max(places) + 1) + max(0, -min(places)))
    for place, group in groups.items():
        found[int(place)] = _built(group)
    return found
