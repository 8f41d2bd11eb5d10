"""The short notation of rule tests: series of readings, lengths of time, and windows of time."""

import re
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from random import Random
from statistics import NormalDist
from typing import Final, NamedTuple

from tocsin_core.readings import BAD, GOOD, QUALITY_MASK, QUALITY_TEXT, UNCERTAIN
from tocsin_core.rules import NS

_SIZE: Final = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TOKEN: Final = re.compile(
    rf"""(?: (?P<value>[+-]?{_SIZE}) (?P<step>[+-]{_SIZE})? (?:~(?P<noise>{_SIZE}))?
      | (?P<gap>_)
      | (?P<stale>stale)
      | (?P<bad>bad) (?:\((?P<why>[a-z-]+)\))?
      | uncertain\((?P<unsure>[+-]?{_SIZE})(?:,(?P<doubt>[a-z-]+))?\) )
    (?:x(?P<times>\d+))?""",
    re.VERBOSE,
)
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")

MOST_READINGS: Final = 1_000_000
LONGEST_S: Final = 366 * 86400
LARGEST: Final = 1e100


def _words(top: int) -> dict[str, int]:
    """Quality byte by the word after the colon of its text: `sensor-failure`."""
    return {
        text.partition(": ")[2].replace(" ", "-"): quality
        for quality, text in QUALITY_TEXT.items()
        if quality & QUALITY_MASK == top and ": " in text
    }


BAD_WORDS: Final = _words(BAD)
UNCERTAIN_WORDS: Final = _words(UNCERTAIN)


class NotationError(ValueError):
    """A text that is not of the notation, and what was expected of it."""


class Sample(NamedTuple):
    """One reading of a series: its place (in intervals from the start), value (NaN where bad) and quality."""

    place: int
    value: float
    quality: int


@dataclass(frozen=True, slots=True)
class Series:
    """The readings of one point, and how many intervals the series takes, gaps included."""

    samples: tuple[Sample, ...]
    length: int


def series(text: str, interval_s: float, stale_after_s: float | None, seed: str) -> Series:
    """`0x5 0+2x10 20~0.5x60 _x3 bad(sensor-failure)x2 uncertain(28.5) stale` as readings.

    `V` one reading; `VxN` N of them; `A+BxN` and `A-BxN` N readings A, A±B, … A±(N-1)B; `~S` adds normal noise of
    standard deviation S, the same in each run for the same `seed`; `_` no reading; `bad`, `bad(reason)` a reading
    without value; `uncertain(V)`, `uncertain(V,reason)`; `stale` no readings until the point's stale alarm
    (`stale_after_s`) stands.

    Raises:
        NotationError: a word is none of these.
    """
    random = Random(seed)  # noqa: S311 -- noise of a test, no secret
    samples: list[Sample] = []
    place = 0
    for word in text.split():
        match = _TOKEN.fullmatch(word)
        if match is None:
            raise NotationError(f"{word!r} is none of V, VxN, A+BxN, A~SxN, _, bad(reason), uncertain(V,reason), stale")
        if any(abs(float(number)) > LARGEST for number in match.group("value", "step", "noise", "unsure") if number):
            raise NotationError(f"{word!r}: no number may be beyond {LARGEST:g}")
        times = _times(match, word, interval_s, stale_after_s)
        if place + times > MOST_READINGS:
            raise NotationError(f"{word!r}: a series has at most {MOST_READINGS} readings")
        if (place + times) * interval_s > LONGEST_S:
            raise NotationError(f"{word!r}: a series is no longer than {LONGEST_S // 3600}h")
        if match["gap"] is None and match["stale"] is None:
            quality = _quality(match, word)
            samples += [Sample(place + i, value, quality) for i, value in enumerate(_values(match, times, random))]
        place += times
    if not place:
        raise NotationError("a series has at least one word")
    return Series(tuple(samples), place)


def _times(match: re.Match[str], word: str, interval_s: float, stale_after_s: float | None) -> int:
    if match["stale"] is not None:
        if match["times"] is not None:
            raise NotationError(f"{word!r}: stale takes as long as it takes; for another length write _xN")
        if stale_after_s is None:
            raise NotationError("'stale': the point has no stale alarm")
        # A second more: it is the next tick of the clock that finds the point silent for so long.
        return ceil((stale_after_s + 1.0) / interval_s)
    if match["step"] is not None and match["times"] is None:
        raise NotationError(f"{word!r}: a ramp says how many readings it has: {word}x10")
    times = int(match["times"] or 1)
    if not times:
        raise NotationError(f"{word!r}: at least once")
    return times


def _quality(match: re.Match[str], word: str) -> int:
    if match["bad"] is not None:
        return _reason(match["why"], BAD, BAD_WORDS, word)
    if match["unsure"] is not None:
        return _reason(match["doubt"], UNCERTAIN, UNCERTAIN_WORDS, word)
    return GOOD


def _reason(reason: str | None, plain: int, known: dict[str, int], word: str) -> int:
    if reason is None:
        return plain
    if reason not in known:
        raise NotationError(f"{word!r}: no reason {reason!r}; there are: {', '.join(known)}")
    return known[reason]


def _values(match: re.Match[str], times: int, random: Random) -> list[float]:
    if match["bad"] is not None:
        return [float("nan")] * times
    # Decimal: 19+0.1x6 ends at 19.5 as it is written, not at the sum of rounded tenths.
    first, step = Decimal(match["value"] or match["unsure"]), Decimal(match["step"] or 0)
    ramp = [float(first + i * step) for i in range(times)]
    if match["noise"] is None:
        return ramp
    normal = NormalDist(0.0, float(match["noise"]))
    # Not gauss(): of all of Random only random() promises the same numbers in every version of Python.
    return [value + normal.inv_cdf(min(max(random.random(), 1e-12), 1.0 - 1e-12)) for value in ramp]


def duration_ns(text: object) -> int:
    """`40s`, `1m30s`, `2h`, `500ms`, or a number of seconds.

    Raises:
        NotationError: it is none of these, below 0, or longer than a year.
    """
    if isinstance(text, int | float) and not isinstance(text, bool) and 0 <= text <= LONGEST_S:
        return round(text * NS)
    match = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if match is None:
        raise NotationError(f"{text!r} is no time: write 40s, 1m30s, 2h or 500ms")
    hours, minutes, seconds, millis = (Decimal(part or 0) for part in match.groups())
    length_s = hours * 3600 + minutes * 60 + seconds + millis / 1000
    if length_s > LONGEST_S:
        raise NotationError(f"{text!r} is longer than {LONGEST_S // 3600}h")
    return int(length_s * NS)


class Window(NamedTuple):
    """From when to when, both included, in ns from the start of the test."""

    first_ns: int
    last_ns: int

    def __str__(self) -> str:
        """`8s`, or `7s..9s`."""
        first, last = seconds_text(self.first_ns), seconds_text(self.last_ns)
        return first if first == last else f"{first}..{last}"


def windows(text: object) -> tuple[Window, ...]:
    """`8s`, `7s..9s`, a list of these (one each time), or `never`.

    Raises:
        NotationError: it is none of these, or a window ends before it begins.
    """
    if text == "never":
        return ()
    return tuple(_window(item) for item in text) if isinstance(text, list) else (_window(text),)


def _window(text: object) -> Window:
    first, dots, last = text.partition("..") if isinstance(text, str) else (text, "", "")
    begin = duration_ns(first)
    window = Window(begin, duration_ns(last) if dots else begin)
    if window.last_ns < window.first_ns:
        raise NotationError(f"{text!r} ends before it begins")
    return window


def seconds_text(time_ns: int) -> str:
    """A length of time as the notation has it: `40s`, `0.5s`."""
    return f"{Decimal(time_ns) / NS:f}".rstrip("0").rstrip(".") + "s" if time_ns % NS else f"{time_ns // NS}s"
