"""One recorded series as SVG: its readings thinned to what can be seen, its limits, and when each rule spoke."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from tocsin_core.plant import AlarmDefinition, PlantPoint, Priority
from tocsin_core.plant.brought import GRADES, LIMITS
from tocsin_core.readings import F64, I64, Bool, Frame, is_good
from tocsin_core.replay import Occurrence, Spans
from tocsin_core.rules import NS
from tocsin_core.wording import KIND, number

LEFT: Final = 64
PLOT: Final = 1000
RIGHT: Final = 96
HEIGHT: Final = 150
LANE: Final = 14
NAME: Final = 11
TOP: Final = 8
AXIS: Final = 22

COLOUR: Final = {
    Priority.CRITICAL: "#b91c1c",
    Priority.HIGH: "#ea580c",
    Priority.MEDIUM: "#ca8a04",
    Priority.LOW: "#64748b",
}
LEVELS: Final = (*LIMITS, *GRADES)

# A bar for each occurrence can be told apart up to so many; beyond that they are drawn as what they cover.
MOST_BARS: Final = 300

_STEPS_S: Final = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200),
    *(86_400 * days for days in (1, 2, 7, 14, 28, 91, 182, 365)),
)
MOST_TICKS: Final = 9
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Axis:
    """The time axis that all pictures share: from `start_ns` to `end_ns`, in the site's time."""

    start_ns: int
    end_ns: int
    zone: ZoneInfo

    def x(self, time_ns: int) -> float:
        """Place on the picture, in its units."""
        return LEFT + (time_ns - self.start_ns) / max(self.end_ns - self.start_ns, 1) * PLOT

    def text(self, time_ns: int) -> str:
        """The site's date and time to the second."""
        return f"{_local(time_ns, self.zone):%Y-%m-%d %H:%M:%S}"

    def ticks(self) -> list[tuple[float, str]]:
        """Place and words of round local times, at most `MOST_TICKS`."""
        span_s = (self.end_ns - self.start_ns) / NS
        step_s = next((step for step in _STEPS_S if span_s / step <= MOST_TICKS), _STEPS_S[-1])
        start = _local(self.start_ns, self.zone)
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
        skipped = int((start - midnight).total_seconds() // step_s)
        words = "%m-%d" if step_s >= DAY_S else "%H:%M:%S" if step_s < _STEPS_S[6] else "%H:%M"
        found = []
        for place in range(skipped, skipped + MOST_TICKS + 2):
            time = midnight + timedelta(seconds=place * step_s)
            time_ns = round(time.timestamp()) * NS
            if self.start_ns <= time_ns <= self.end_ns:
                found.append((self.x(time_ns), f"{time:{words}}"))
        return found


def _local(time_ns: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(time_ns / NS, UTC).astimezone(zone)


def rect(x: float, y: float, wide: float, high: float, style: str, title: str = "") -> str:
    """A rectangle, with words for the pointer that rests on it."""
    words = f"<title>{escape(title)}</title>" if title else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" {style}>{words}</rect>'


def label(x: float, y: float, words: str, style: str = "") -> str:
    """Words in the picture."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def thinned(time_ns: I64, value: F64, start_ns: int, end_ns: int, bins: int) -> tuple[I64, F64]:
    """At most two readings a bin, the least and the greatest in their order: what a line of all would cover."""
    if len(time_ns) <= 2 * bins:
        return time_ns, value
    place = np.minimum((time_ns - start_ns) * bins // max(end_ns - start_ns, 1), bins - 1)
    first = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
    owner = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(place)]))
    ranked = np.lexsort((value, owner))
    last = np.r_[first[1:], len(place)] - 1
    chosen = np.unique(np.concatenate([ranked[first], ranked[last]]))
    return time_ns[chosen], value[chosen]


@dataclass(frozen=True, slots=True)
class Series:
    """What one picture shows: a point, its readings, and of each rule of it that spoke its occurrences."""

    point: PlantPoint
    frame: Frame
    spoke: tuple[tuple[AlarmDefinition, list[Occurrence]], ...]


def draw(series: Series, axis: Axis, labels: Spans | None, wrong: set[Occurrence]) -> str:
    """The SVG of one series; `wrong` are the occurrences outside of every labelled stretch."""
    low, high = _span(series)
    high_px = TOP + HEIGHT + 6 + LANE * len(series.spoke) + AXIS
    name = f"{series.point.id} {series.point.config.name.en}"
    parts = [f'<svg viewBox="0 0 {LEFT + PLOT + RIGHT} {high_px}" role="img" aria-label="{escape(name)}">']
    parts.append(rect(LEFT, TOP, PLOT, HEIGHT, 'class="plot"'))
    if labels is not None:
        parts += _stretches(labels, axis)
    parts += _shades(series, axis)
    parts += _levels(series, low, high)
    parts += _line(series, axis, low, high)
    for lane, (definition, mine) in enumerate(series.spoke):
        parts += _lane(TOP + HEIGHT + 6 + LANE * lane, definition, mine, series.point, axis, wrong)
    for x, words in axis.ticks():
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{high_px - AXIS}" class="grid"/>')
        parts.append(label(x, high_px - 8, words, 'text-anchor="middle"'))
    parts.append("</svg>")
    return "".join(parts)


def _span(series: Series) -> tuple[float, float]:
    """What the picture shows of the values: the readings, the limits that spoke, and others that are near."""
    good = series.frame.value[is_good(series.frame.quality)]
    shown = [d.setpoint for d, _ in series.spoke if d.kind in LEVELS or d.limit is not None]
    low = min([*shown, *([float(good.min())] if len(good) else [])], default=series.point.low)
    high = max([*shown, *([float(good.max())] if len(good) else [])], default=series.point.high)
    room = (high - low) / 2 or abs(high) / 10 or 1.0
    near = [d.setpoint for d in series.point.definitions if d.kind in LEVELS]
    near = [setpoint for setpoint in near if low - room <= setpoint <= high + room]
    low, high = min([low, *near]), max([high, *near])
    edge = (high - low) / 20 or abs(high) / 20 or 1.0
    return low - edge, high + edge


def _y(value: float, low: float, high: float) -> float:
    return TOP + HEIGHT - (value - low) / (high - low) * HEIGHT


def _stretches(labels: Spans, axis: Axis) -> list[str]:
    parts = []
    for start, end in zip(labels.start_ns.tolist(), labels.end_ns.tolist(), strict=True):
        words = f"labelled {axis.text(start)} – {axis.text(end)}"
        x, wide = axis.x(start), max(axis.x(end) - axis.x(start), 1.0)
        parts.append(rect(x, TOP, wide, HEIGHT, 'class="label"', words))
        parts.append(rect(x, TOP, wide, 4, 'class="mark"', words))
    return parts


def _shades(series: Series, axis: Axis) -> list[str]:
    """Early warnings and limits as a tint behind the readings."""
    parts = []
    for definition, mine in series.spoke:
        if definition.kind in LEVELS or definition.limit is not None:
            style = f'fill="{COLOUR[definition.priority]}" opacity="0.07"'
            parts += [rect(x, TOP, wide, HEIGHT, style) for x, wide in _covered(mine, axis)]
    return parts


def _covered(mine: Sequence[Occurrence], axis: Axis) -> list[tuple[float, float]]:
    """Where and how wide the bars of occurrences are; those that touch are one."""
    bars: list[tuple[float, float]] = []
    for each in mine:
        x = axis.x(each.raised_ns)
        end = max(axis.x(axis.end_ns if each.returned_ns is None else each.returned_ns), x + 1.0)
        if bars and x <= bars[-1][0] + bars[-1][1]:
            bars[-1] = bars[-1][0], max(bars[-1][1], end - bars[-1][0])
        else:
            bars.append((x, end - x))
    return bars


def _levels(series: Series, low: float, high: float) -> list[str]:
    point, edge = series.point, (high - low) / 20
    parts = [
        label(LEFT - 6, _y(value, low, high) + 4, number(value, point.decimals), 'text-anchor="end"')
        for value in (low + edge, high - edge)
    ]
    parts.append(label(LEFT - 6, TOP + HEIGHT / 2 + 4, point.unit, 'text-anchor="end" class="faint"'))
    limits = [d for d in point.definitions if d.kind in LEVELS and low <= d.setpoint <= high]
    below = 0.0
    for definition in sorted(limits, key=lambda d: -d.setpoint):
        y, colour = _y(definition.setpoint, low, high), COLOUR[definition.priority]
        parts.append(
            f'<line x1="{LEFT}" x2="{LEFT + PLOT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" class="limit"/>'
        )
        # Names of limits that lie close together stand one below the other.
        below = max(y + 4, below + NAME)
        # The name of a grade does not tell which side of it is bad.
        side = "" if definition.kind in LIMITS else "≥ " if definition.side > 0 else "≤ "
        words = f"{definition.kind} {side}{definition.setpoint:g}"
        parts.append(label(LEFT + PLOT + 6, below, words, f'fill="{colour}"'))
    return parts


def _line(series: Series, axis: Axis, low: float, high: float) -> list[str]:
    """The good readings as a line that breaks where there are none, the others as ticks on the floor."""
    frame = series.frame
    good = is_good(frame.quality)
    time_ns, value = thinned(frame.time_ns[good], frame.value[good], axis.start_ns, axis.end_ns, PLOT)
    parts = []
    if len(time_ns):
        x = LEFT + (time_ns - axis.start_ns) / max(axis.end_ns - axis.start_ns, 1) * PLOT
        y = TOP + HEIGHT - (value - low) / (high - low) * HEIGHT
        begins = _begins(time_ns, axis)
        words = [f"{'M' if b else 'L'}{u:.1f} {v:.1f}" for b, u, v in zip(begins, x.tolist(), y.tolist(), strict=True)]
        parts.append(f'<path d="{"".join(words)}" class="line"/>')
    bad = np.unique(np.floor((frame.time_ns[~good] - axis.start_ns) / max(axis.end_ns - axis.start_ns, 1) * PLOT))
    parts += [rect(LEFT + at, TOP + HEIGHT - 5, 1, 5, 'class="bad"', "not good") for at in bad.tolist()]
    return parts


def _begins(time_ns: I64, axis: Axis) -> Bool:
    """Which readings begin a new line: those after a gap that is longer than usual and wide enough to be seen."""
    gap = np.diff(time_ns)
    seen = (axis.end_ns - axis.start_ns) / PLOT * 3
    usual = float(np.median(gap)) if len(gap) else 0.0
    begins: Bool = np.r_[True, gap > max(seen, 5 * usual)]
    return begins


def _lane(
    y: float, definition: AlarmDefinition, mine: Sequence[Occurrence], point: PlantPoint, axis: Axis,
    wrong: set[Occurrence],
) -> list[str]:  # fmt: skip
    colour = COLOUR[definition.priority]
    parts = [label(LEFT - 6, y + 10, str(definition.kind).replace("time-to-limit", "early"), 'text-anchor="end"')]
    parts.append(rect(LEFT, y + 2, PLOT, LANE - 4, 'class="lane"'))
    if len(mine) > MOST_BARS:
        parts += [rect(x, y + 2, wide, LANE - 4, f'fill="{colour}"') for x, wide in _covered(mine, axis)]
    else:
        for each in mine:
            x = axis.x(each.raised_ns)
            end = axis.x(axis.end_ns if each.returned_ns is None else each.returned_ns)
            style = f'fill="{colour}"' if each not in wrong else f'fill="#fff" stroke="{colour}"'
            parts.append(rect(x, y + 2, max(end - x, 2.0), LANE - 4, style, _words(each, definition, point, axis)))
    parts.append(label(LEFT + PLOT + 6, y + 10, f"× {len(mine)}", f'fill="{colour}"'))
    return parts


def _words(each: Occurrence, definition: AlarmDefinition, point: PlantPoint, axis: Axis) -> str:
    kind = KIND[definition.kind]
    until = "to the end" if each.returned_ns is None else f"– {axis.text(each.returned_ns)}"
    value = number(each.value, point.decimals)
    reason = f" ({each.reason})" if each.reason else ""
    return f"{definition.id} {kind.zh} / {kind.en}: {value} {point.unit}{reason}, {axis.text(each.raised_ns)} {until}"
