"""A payload of an MQTT sensor turned into values, qualities, a time, and the reasons of what is wrong with it."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tocsin_core.readings import BAD_CONFIGURATION, BAD_DEVICE_FAILURE, BAD_SENSOR_FAILURE, GOOD
from tocsin_core.sensors.paths import MISSING, Path, find
from tocsin_core.sensors.stamps import DEFAULT_WINDOW, Window, stamp_ms

LARGEST_PAYLOAD: Final = 65_536
# RFC 8259, 6: a number as JSON writes it, a sign + allowed; Python's own reader takes `1_0`, `inf` and `٣` too.
_NUMBER: Final = re.compile(r"[+-]?\d{1,400}(\.\d{1,400})?([eE][+-]?\d{1,6})?", re.ASCII)
LONGEST_WORD: Final = 400
WORDS: Final[Mapping[str, float]] = {"on": 1.0, "true": 1.0, "yes": 1.0, "off": 0.0, "false": 0.0, "no": 0.0}


class Kind(StrEnum):
    """What may be wrong with a message, or with a value in it; figures are kept by these."""

    TOO_LARGE = "too-large"
    NOT_TEXT = "not-utf8"
    NOT_JSON = "not-json"
    MISSING = "missing"
    NULL = "null"
    NOT_A_NUMBER = "not-a-number"
    NOT_FINITE = "not-finite"
    NO_TIME = "no-time"
    ABSURD_TIME = "absurd-time"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is wrong; the words are the same each time, so that a change of them is news."""

    kind: Kind
    words: str

    def __str__(self) -> str:
        """Give the words."""
        return self.words


@dataclass(frozen=True, slots=True)
class Reading:
    """How the payloads of one sensor are read: where its values and its time (None: it brings none) lie.

    `words` are the texts that stand for numbers, in lower case.
    """

    fields: tuple[Path, ...]
    names: tuple[str, ...]
    time: Path | None = None
    time_name: str = ""
    window: Window = DEFAULT_WINDOW
    words: Mapping[str, float] = field(default_factory=lambda: WORDS)


@dataclass(frozen=True, slots=True)
class Parsed:
    """One payload: value and OPC quality of each field, its own time (None: none of use, take the arrival), reasons."""

    value: tuple[float, ...]
    quality: tuple[int, ...]
    time_ms: int | None
    reasons: tuple[Reason, ...]


def parse(payload: bytes, reading: Reading, now_ms: int) -> Parsed:
    """Read a payload that arrived at `now_ms`; never raises, whatever the bytes are.

    Numbers, booleans, numbers in quotes and on/off words are good. What is missing or is none of these is bad, with the
    reason; nothing is made up for it. A payload that is not JSON is a plain text where a field is the payload itself.
    """
    n = len(reading.fields)
    if len(payload) > LARGEST_PAYLOAD:
        return _useless(n, Reason(Kind.TOO_LARGE, f"payload of more than {LARGEST_PAYLOAD} bytes"))
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        return _useless(n, Reason(Kind.NOT_TEXT, "payload is not UTF-8"))
    content = _content(text)
    if content is MISSING and not (n and all(path == () for path in reading.fields)):
        return _useless(n, Reason(Kind.NOT_JSON, "payload is not JSON"))
    if content is MISSING:
        content = text.strip()
    values, qualities, reasons = [], [], []
    for path, name in zip(reading.fields, reading.names, strict=True):
        number, quality, reason = _number(find(content, path), name, reading.words)
        values.append(number)
        qualities.append(quality)
        if reason is not None:
            reasons.append(reason)
    time_ms, late = _time(content, reading, now_ms)
    return Parsed(tuple(values), tuple(qualities), time_ms, (*reasons, *((late,) if late else ())))


def _content(text: str) -> object:
    try:
        content: object = json.loads(text)
    except (ValueError, RecursionError):
        return MISSING
    return content


def _useless(n: int, reason: Reason) -> Parsed:
    return Parsed((math.nan,) * n, (BAD_DEVICE_FAILURE,) * n, None, (reason,))


def _number(found: object, name: str, words: Mapping[str, float]) -> tuple[float, int, Reason | None]:
    if found is MISSING:
        return math.nan, BAD_CONFIGURATION, Reason(Kind.MISSING, f"nothing at {name!r}")
    if found is None:
        return math.nan, BAD_SENSOR_FAILURE, Reason(Kind.NULL, f"null at {name!r}")
    number = _text_number(found, words) if isinstance(found, str) else found
    if not isinstance(number, int | float):
        return math.nan, BAD_CONFIGURATION, Reason(Kind.NOT_A_NUMBER, f"no number at {name!r}")
    try:
        number = float(number)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        return math.nan, BAD_SENSOR_FAILURE, Reason(Kind.NOT_FINITE, f"not finite at {name!r}")
    return number, GOOD, None


def _text_number(text: str, words: Mapping[str, float]) -> float | None:
    if len(text) > LONGEST_WORD:
        return None
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return math.nan
    return words.get(text.lower())


def _time(content: object, reading: Reading, now_ms: int) -> tuple[int | None, Reason | None]:
    if reading.time is None:
        return None, None
    time_ms = stamp_ms(find(content, reading.time))
    if time_ms is None:
        return None, Reason(Kind.NO_TIME, f"no time at {reading.time_name!r}: its arrival is taken")
    if not reading.window.holds(time_ms, now_ms):
        return None, Reason(Kind.ABSURD_TIME, f"the time at {reading.time_name!r} cannot be: its arrival is taken")
    return time_ms, None
