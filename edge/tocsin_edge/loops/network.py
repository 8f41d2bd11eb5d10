"""Sparkplug B sensor networks: what their edge nodes say becomes readings and deaths of the sensors it is about."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from tocsin_core.clock import Clock
from tocsin_core.readings import Frame
from tocsin_core.sensors import DEFAULT_WINDOW, SparkplugSource
from tocsin_core.sparkplug import Fed, HostSession, Topic, parse_topic, rebirth
from tocsin_core.sparkplug.payload import NUMERIC
from tocsin_edge.adapters.sensors import Arrival
from tocsin_edge.loops.sensor import BEHIND, Row, Sensor, is_behind

NS_PER_MS: Final = 1_000_000
# A birth tells of all devices' metrics at once.
LARGEST_MESSAGE: Final = 1 << 20
REBIRTH_FIRST_S: Final = 2.0
REBIRTH_MOST_S: Final = 300.0
BIRTHS: Final = frozenset({"NBIRTH", "DBIRTH"})

_Key = tuple[str, str, str | None]


class Networks:
    """The edge nodes on which sensors are, from one connection to the broker to the next (`restart`)."""

    def __init__(self, sensors: Sequence[Sensor], clock: Clock) -> None:
        """Wire only."""
        self._clock = clock
        self._sensors: dict[_Key, list[Sensor]] = {}
        for sensor in sensors:
            source = sensor.network
            if source is not None:
                self._sensors.setdefault((source.group, source.node, source.device), []).append(sensor)
        self._nodes = sorted({(group, node) for group, node, _ in self._sensors})
        wanted = {(*key, field) for key, each in self._sensors.items() for sensor in each for field in sensor.fields}
        self._metrics = sorted(wanted, key=str)
        self._index = {metric: number for number, metric in enumerate(self._metrics)}
        self._session = HostSession(self._resolve)
        self._told: dict[tuple[Sensor, int], tuple[int, tuple[str, int] | None]] = {}
        # By sensor, the fields that its birth does not name as numbers; and those that came all the same.
        self._lacks: dict[Sensor, tuple[str, ...]] = {}
        self._undeclared: set[tuple[Sensor, str]] = set()
        self._asked: dict[tuple[str, str], tuple[float, float]] = {}
        self.counts: Counter[str] = Counter()

    @property
    def filters(self) -> tuple[str, ...]:
        """The filters that take all their messages."""
        return tuple(SparkplugSource(group, node).filter for group, node in self._nodes)

    def restart(self) -> list[tuple[str, bytes]]:
        """Forget all births; gives the commands (topic, payload) that ask each node for new ones."""
        self._session = HostSession(self._resolve)
        self._asked.clear()
        return [command for group, node in self._nodes for command in self._ask(group, node)]

    def take(self, arrival: Arrival) -> list[tuple[str, bytes]] | None:
        """Take one message; gives the commands (topic, payload) to send, None where it is of none of the nodes."""
        where = parse_topic(arrival.topic)
        if where is None or (where.group, where.node) not in self._nodes:
            return None
        if where.kind in ("NCMD", "DCMD"):
            return []
        if len(arrival.payload) > LARGEST_MESSAGE or arrival.retained:
            # Sparkplug's messages are never retained (tck-id-payloads-nbirth-retain and its like): this one is old.
            self._count(where, "retained" if arrival.retained else "too-large")
            return []
        now_ns = self._clock.now_ns()
        fed = self._session.feed(arrival.topic, arrival.payload, now_ns)
        for fault in fed.faults:
            self._count(where, fault.reason, fault.count)
        self._hand_out(where, fed, now_ns // NS_PER_MS)
        return self._ask(where.group, where.node) if fed.rebirth else []

    def _resolve(self, group: str, node: str, device: str | None, metric: str) -> int | None:
        return self._index.get((group, node, device, metric))

    def _of(self, where: Topic) -> Iterator[Sensor]:
        """The sensors that a message is about: a node's death is about all of its devices."""
        for (group, node, device), sensors in self._sensors.items():
            if (group, node) == (where.group, where.node) and (device == where.device or where.kind == "NDEATH"):
                yield from sensors

    def _count(self, where: Topic, reason: str, times: int = 1) -> None:
        self.counts[reason] += times
        for sensor in self._of(where):
            sensor.counts[reason] += times

    def _hand_out(self, where: Topic, fed: Fed, now_ms: int) -> None:
        undecodable = any(fault.reason in ("undecodable", "stale-death") for fault in fed.faults)
        if where.kind in ("NDEATH", "DDEATH"):
            for sensor in () if undecodable else self._of(where):
                sensor.gone("its edge node is gone" if where.kind == "NDEATH" else "its edge node says that it is gone")
            return
        unexplained = any(fault.reason in ("not-born", "unknown-alias") for fault in fed.faults)
        trouble = "; ".join(f"{fault.reason}: {fault.detail}" for fault in fed.faults)
        for sensor in self._of(where):
            sensor.counts["messages"] += 1
            if undecodable:
                sensor.complain(trouble)
                continue
            rows, fresh = self._rows(sensor, fed, now_ms)
            if unexplained and not rows:
                # A node that gives no birth when it is asked may say so for ever: its points must not stay good.
                sensor.complain(trouble)
                continue
            live = fed.kind not in BIRTHS and not fed.historical
            behind = live and bool(rows) and not fresh
            if not behind:
                sensor.hear()
            if fed.kind in BIRTHS:
                self._note_lacking(sensor, fed)
            lacks = [f"no number {field!r} in its birth" for field in self._lacks.get(sensor, ())]
            wrong = (*lacks, trouble, BEHIND if behind else "")
            sensor.take_rows(rows, "; ".join(filter(None, wrong)), live=live)

    def _note_lacking(self, sensor: Sensor, fed: Fed) -> None:
        """Let the fields be bad that a birth does not name as numbers: it tells all that will ever come."""
        named = {each.metric for each in fed.births if each.datatype in NUMERIC}
        named.update(field for field in sensor.fields if (sensor, field) in self._undeclared)
        self._lacks[sensor] = tuple(field for field in dict.fromkeys(sensor.fields) if field not in named)
        sensor.counts.update("missing" for _ in self._lacks[sensor])
        sensor.lack([point for point, field in enumerate(sensor.fields) if field not in named])

    def _rows(self, sensor: Sensor, fed: Fed, now_ms: int) -> tuple[list[Row], bool]:
        """The readings of one sensor, and whether any is not behind what its metric has said before.

        A birth brings again what was said before, which does not count twice.
        """
        birth = fed.kind in BIRTHS
        # A stamp of tomorrow, or of 1970, is that of a wrong clock, the gateway's own perhaps: what it bears came now.
        frame = fed.frame if fed.ahead is None else Frame.concat([fed.frame, fed.ahead])
        rows, fresh = list[Row](), False
        columns = zip(
            frame.point.tolist(), frame.time_ns.tolist(), frame.value.tolist(), frame.quality.tolist(), strict=True
        )
        for number, time_ns, value, quality in columns:
            time_ms = time_ns // NS_PER_MS
            if not DEFAULT_WINDOW.holds(time_ms, now_ms):
                sensor.counts["absurd-time"] += 1
                if birth or (fed.historical and time_ms > now_ms):
                    continue
                # What is sent late is of then, however long ago.
                time_ms = time_ms if fed.historical else now_ms
            said = (str(value), quality)
            last_ms, last = self._told.get((sensor, number), (0, None))
            if (birth and time_ms < last_ms) or (time_ms, said) == (last_ms, last):
                sensor.counts["repeated"] += 1
                continue
            if time_ms >= last_ms:
                self._told[sensor, number] = (time_ms, said)
            metric = self._metrics[number][-1]
            if not birth and metric in self._lacks.get(sensor, ()):
                self._undeclared.add((sensor, metric))
            fresh |= not is_behind(time_ms, last_ms, now_ms)
            rows += [Row(point, time_ms, value, quality) for point, name in enumerate(sensor.fields) if name == metric]
        return rows, fresh

    def _ask(self, group: str, node: str) -> list[tuple[str, bytes]]:
        """Ask for births: at once, then after waits that double while the node goes on giving cause."""
        now_s = self._clock.monotonic()
        not_before_s, wait_s = self._asked.get((group, node), (now_s, REBIRTH_FIRST_S))
        if now_s < not_before_s:
            return []
        if now_s > not_before_s + REBIRTH_MOST_S:
            wait_s = REBIRTH_FIRST_S
        self._asked[group, node] = (now_s + wait_s, min(2 * wait_s, REBIRTH_MOST_S))
        self.counts["rebirths"] += 1
        return [(str(Topic(group, "NCMD", node)), rebirth(self._clock.now_ns() // NS_PER_MS))]
