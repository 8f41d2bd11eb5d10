"""One MQTT sensor: its messages become samples, and its silence and its death become bad quality."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tocsin_core.clock import Clock
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.polling.health import GRACE_LEAST_S
from tocsin_core.readings import AHEAD_NS, BAD_CONFIGURATION, BAD_NOT_CONNECTED
from tocsin_core.sensors import DEFAULT_WINDOW, WORDS, Reading, Window, parse, parse_path, sparkplug_source
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.sensors import Arrival
from tocsin_edge.loops.health import Health
from tocsin_edge.loops.keep import Sample
from tocsin_edge.loops.measured import measured
from tocsin_edge.settings import DeviceSettings, SensorDevice

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
MS_PER_S: Final = 1000
PATIENCE_PERIODS: Final = 2
# So many of a sensor's own times are remembered to know a message that comes again (QoS 1: at least once).
REMEMBERED: Final = 64
# A message without a time of its own that is the same, this soon after, tells nothing more than the first did.
SAME_WITHIN_PERIODS: Final = 0.5
BEHIND: Final = "its time is behind what it said before: nothing of it counts until it is newer"


@dataclass(frozen=True, slots=True)
class Row:
    """One reading of a sensor that names its metrics: the point's position, ms since 1970, value, OPC quality."""

    point: int
    time_ms: int
    value: float
    quality: int


@dataclass(frozen=True, slots=True)
class SensorFigures:
    """What one sensor came to: whether it is dead, what is wrong with it, and its counts by kind."""

    name: str
    topic: str
    dead: bool
    reason: str
    counts: dict[str, int]


def reading_of(source: Mqtt, fields: Sequence[str]) -> Reading:
    """How the JSON of a sensor is read; its paths have passed the plant's checks."""
    behind_s, ahead_s = source.time_window_s
    return Reading(
        tuple(parse_path(field) for field in fields),
        tuple(fields),
        None if source.time is None else parse_path(source.time),
        source.time or "",
        Window(round(behind_s * MS_PER_S), round(ahead_s * MS_PER_S)),
        {**WORDS, **{word.lower(): number for word, number in source.words.items()}},
    )


def is_behind(time_ms: int, newest_ms: int, now_ms: int) -> bool:
    """Whether a sensor's own time is older than what it has said, so that nobody takes it for how things are now.

    What is ahead of the gateway's clock counts as taken when it came; small steps of its own are soon made up for.
    """
    return time_ms < min(newest_ms, now_ms) - AHEAD_NS // NS_PER_MS


@dataclass
class Memory:
    """What was heard of a sensor: its newest time, its own times and messages of late, and the last of no own time.

    `slow_ms`: how far the newest of its own times was behind its arrival.
    """

    newest_ms: int = 0
    slow_ms: int = 0
    recent: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    last: tuple[int, int] = (0, 0)

    def note(self, time_ms: int, now_ms: int) -> None:
        """Note that something of this time, just read, came."""
        if time_ms >= self.newest_ms:
            self.newest_ms, self.slow_ms = time_ms, max(0, now_ms - time_ms)

    def gone_ms(self, now_ms: int, ahead_ms: int) -> int:
        """Tell by which time it is gone now: by its own clock where that is slow, and newer than all that it said.

        Where the clock is slow, by the gateway's whatever it says for as long would be late. Where it is fast, its last
        value must not stay good until the gateway's has come so far; but what is farther ahead than any sensor may be
        (`ahead_ms`) was said before the gateway's own clock was set back.
        """
        if self.newest_ms > now_ms + ahead_ms:
            return now_ms
        return max(now_ms - self.slow_ms, self.newest_ms + 1)


class Sensor:
    """One sensor: takes its messages, and watches for their absence."""

    def __init__(
        self,
        device: DeviceSettings,
        how: SensorDevice,
        clock: Clock,
        put: Callable[[Sample], None],
        memory: Memory | None = None,
    ) -> None:
        """Wire only; `watch` does the watching. `memory` is that of the one in whose place this one comes."""
        self.source = how.source
        self.fields = how.fields
        self.device = device
        self.name = how.source.name or device.id
        self.counts: Counter[str] = Counter()
        self.network = sparkplug_source(how.source.topic)
        self._reading = None if self.network is not None else reading_of(how.source, how.fields)
        self._period_ms = device.period_ns / NS_PER_MS
        self._ahead_ms = (DEFAULT_WINDOW if self._reading is None else self._reading.window).ahead_ms
        self._clock = clock
        self._put = put
        self._health = Health(device.id, clock, 0.0)
        self._reason = ""
        self._heard = asyncio.Event()
        self.memory = memory or Memory()

    @property
    def period_ms(self) -> float:
        """How often it should publish."""
        return self._period_ms

    def figures(self) -> SensorFigures:
        """What it came to so far."""
        return SensorFigures(self.device.id, self.source.topic, self._health.dead, self._reason, dict(self.counts))

    def take(self, arrival: Arrival) -> None:
        """Read one message; never raises, whatever is in it.

        A retained one counts only if it brings its own time, newer than the last and not older than two periods. One
        that came before is counted, and not read again.
        """
        self.counts["messages"] += 1
        if not arrival.payload:
            # What takes a retained message away is sent to all who listen.
            self.counts["empty"] += 1
            return
        if self._reading is None:
            raise TypeError(f"{self.device.id} publishes no JSON")
        now_ms = self._now_ms()
        parsed = parse(arrival.payload, self._reading, now_ms)
        if arrival.retained and not self._is_news(parsed.time_ms, now_ms):
            self.counts["retained"] += 1
            return
        behind = parsed.time_ms is not None and is_behind(parsed.time_ms, self.memory.newest_ms, now_ms)
        if not behind:
            self.hear()
        if self._came_before(arrival.payload, parsed.time_ms, now_ms):
            self.counts["repeated"] += 1
            return
        time_ms = now_ms if parsed.time_ms is None else parsed.time_ms
        self.memory.note(time_ms, now_ms)
        self.counts.update(reason.kind.value for reason in parsed.reasons)
        found = measured(self.device, np.array(parsed.value), np.array(parsed.quality, dtype=np.uint8), time_ms)
        self.complain("; ".join(filter(None, (*map(str, parsed.reasons), BEHIND if behind else "", found.reason))))
        self.counts["readings"] += len(found.columns)
        self._put(Sample(self.device, found.columns))

    def take_rows(self, rows: Sequence[Row], trouble: str, *, live: bool) -> None:
        """Take readings that came ready made; a point may have several.

        `trouble`: what else is wrong, empty if nothing. Only of `live` ones do the times tell how slow its clock is.
        """
        reasons, now_ms = [trouble], self._now_ms()
        while rows:
            # Columns hold each point once.
            once = {row.point: row for row in reversed(rows)}
            chosen = [row for row in rows if once[row.point] is row]
            rows = [row for row in rows if once[row.point] is not row]
            newest_ms = max(row.time_ms for row in chosen)
            if live:
                self.memory.note(newest_ms, now_ms)
            self.memory.newest_ms = max(self.memory.newest_ms, newest_ms)
            found = measured(
                self.device,
                np.array([row.value for row in chosen]),
                np.array([row.quality for row in chosen], dtype=np.uint8),
                np.array([row.time_ms for row in chosen], dtype=np.int64),
                [row.point for row in chosen],
            )
            reasons.append(found.reason)
            self.counts["readings"] += len(found.columns)
            self._put(Sample(self.device, found.columns))
        self.complain("; ".join(dict.fromkeys(filter(None, reasons))))

    def lack(self, points: Sequence[int]) -> None:
        """Turn these points bad: nothing will ever come of them, and of its clock that tells nothing."""
        if points:
            self._put(Sample(self.device, self._bad(BAD_CONFIGURATION, self._gone_ms(), points)))

    def hear(self) -> None:
        """Count it as alive."""
        self._heard.set()
        self._health.answer()

    def complain(self, reason: str) -> None:
        """Note what is wrong with what it says, empty if nothing is."""
        self._reason = reason
        self._health.complain(reason)

    def gone(self, reason: str) -> None:
        """Turn its points bad at once: somebody who knows says that it is not there."""
        self.counts["gone"] += 1
        if not self._health.dead:
            self._fail(reason)

    async def watch(self) -> None:
        """Turn the points bad when two periods pass without a message, and again each period until it is dead."""
        period_s = self.device.period_ns / NS_PER_S
        while True:
            patience = None if self._health.dead else period_s * (1 if self._health.failing else PATIENCE_PERIODS)
            if patience is not None and not self.memory.newest_ms and not self._health.failing:
                # It speaks at its own times, so that of a slow one not even ten seconds' silence would say a thing.
                patience = max(patience, GRACE_LEAST_S)
            try:
                async with asyncio.timeout(patience):
                    await self._heard.wait()
                self._heard.clear()
            except TimeoutError:
                self.counts["silent"] += 1
                self._fail(f"no message for {PATIENCE_PERIODS} periods")

    def _fail(self, reason: str) -> None:
        self._reason = reason
        self._health.fail(reason)
        self.memory.newest_ms = self._gone_ms()
        columns = self._bad(BAD_NOT_CONNECTED, self.memory.newest_ms, range(len(self.fields)))
        self._put(Sample(self.device, columns, dead=self._health.dead))

    def _gone_ms(self) -> int:
        return self.memory.gone_ms(self._now_ms(), self._ahead_ms)

    def _bad(self, quality: int, time_ms: int, points: Sequence[int]) -> Columns:
        n = len(points)
        return measured(self.device, np.full(n, np.nan), np.full(n, quality, np.uint8), time_ms, points).columns

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS

    def _is_news(self, time_ms: int | None, now_ms: int) -> bool:
        oldest_ms = max(self.memory.newest_ms, now_ms - PATIENCE_PERIODS * self._period_ms)
        return time_ms is not None and time_ms > oldest_ms

    def _came_before(self, payload: bytes, time_ms: int | None, now_ms: int) -> bool:
        mark = hash(payload)
        if time_ms is not None:
            known = (time_ms, mark) in self.memory.recent
            self.memory.recent.append((time_ms, mark))
            return known
        before, at_ms = self.memory.last
        if mark == before and 0 <= now_ms - at_ms < SAME_WITHIN_PERIODS * self._period_ms:
            return True
        self.memory.last = (mark, now_ms)
        return False
