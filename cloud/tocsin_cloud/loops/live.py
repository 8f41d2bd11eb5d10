"""The present state of the plant in memory: the latest reading of each point, gateways, projections, figures."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import structlog

from tocsin_cloud.loops.hearing import is_birth
from tocsin_cloud.loops.points import PointTable
from tocsin_cloud.loops.skew import Skew
from tocsin_core.managed import Standing
from tocsin_core.plant import AlarmKind
from tocsin_core.readings import BAD_WAITING, F64, I64, U8, Frame
from tocsin_core.sparkplug import ClockState
from tocsin_core.sparkplug.host import Fed

if TYPE_CHECKING:
    from tocsin_core.kpi import Flood

log = structlog.get_logger()

State = Literal["online", "offline", "unknown"]
GROW = 64


@dataclass(slots=True)
class GatewayLive:
    """What the messages of a gateway tell of it; `devices` by device id.

    `standing`: on which slice of the plant it runs, None where it does not say; `wanted`: the hash of the one that the
    plant file has for it, None while nobody asked; `certificate_ends_ns`: when its last certificate ends, None where it
    has none.
    """

    group: str
    id: str
    state: State = "unknown"
    since_ns: int | None = None
    last_seen_ns: int | None = None
    devices: dict[str, State] = field(default_factory=dict)
    standing: Standing | None = None
    wanted: str | None = None
    skew: Skew = field(default_factory=Skew)
    certificate_ends_ns: int | None = None

    def told(self, fed: Fed, now_ns: int, sent_ms: int | None = None) -> None:
        """Take in one message: the births and deaths say who is there (Sparkplug 3.0, 5.4 and 5.6)."""
        if fed.kind == "NDEATH":
            # The death of an earlier session comes back as a fault and says nothing about this one.
            if not fed.faults and self.state != "offline":
                self.state, self.since_ns = "offline", now_ns
                self.devices = dict.fromkeys(self.devices, "offline")
            return
        born = is_birth(fed)
        if not born and self.state != "online":
            return
        self.last_seen_ns = now_ns
        if sent_ms is not None:
            self.skew.hear(sent_ms, now_ns)
        if self.state != "online":
            self.state, self.since_ns = "online", now_ns
        if fed.kind == "NBIRTH" or fed.standing is not None:
            self.standing = _standing(fed)
        if fed.device is not None and born:
            self.devices[fed.device] = "online"
        elif fed.device in self.devices and fed.kind == "DDEATH":
            self.devices[fed.device] = "offline"

    def set_back(self, now_ns: int) -> None:
        """Have been seen, and be as it is, since `now_ns` at the latest."""
        self.last_seen_ns = None if self.last_seen_ns is None else min(self.last_seen_ns, now_ns)
        self.since_ns = None if self.since_ns is None else min(self.since_ns, now_ns)


def _standing(fed: Fed) -> Standing | None:
    try:
        return None if fed.standing is None else Standing.of_text(fed.standing)
    except ValueError as error:
        log.warning("standing of a gateway not understood", gateway=fed.gateway, reason=str(error))
        return None


@dataclass(frozen=True, slots=True)
class Stored:
    """How far the historian is with a gateway: readings stored, newest batch, and the number acknowledged.

    `clock`: what the gateway says of its clock, None where it says nothing; `unsynchronised`: first and last time (ns)
    of each stretch of readings that were stamped by a clock that nobody had set.
    """

    readings: int
    batch: int
    committed: int
    clock: ClockState | None = None
    unsynchronised: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where a point is heading: level (its unit), slope (unit a second) with bounds, against one limit."""

    time_ns: int
    level: float
    slope_per_s: float
    slope_low_per_s: float
    slope_high_per_s: float
    limit: float
    limit_kind: AlarmKind
    horizon_s: float
    reaches_in_s: float | None


@dataclass(frozen=True, slots=True)
class Known:
    """The live view as it is kept: gateways as plain values, the declared points' readings in columns."""

    gateways: list[Any]
    ids: list[str]
    time_ns: I64
    value: F64
    quality: U8


class LiveView:
    """One writer for each part: the historian for `stored`, the alarms loop for values, gateways, outlooks, flood."""

    def __init__(self, table: PointTable) -> None:
        """Know no reading yet."""
        self.table = table
        self.time_ns: I64 = np.zeros(len(table), dtype=np.int64)
        self.value: F64 = np.full(len(table), np.nan)
        self.quality: U8 = np.full(len(table), BAD_WAITING, dtype=np.uint8)
        self.units: dict[int, str] = {}
        self.gateways = {(table.site, gateway): GatewayLive(table.site, gateway) for gateway in table.gateways}
        self.outlooks: dict[str, Outlook] = {}
        self.stored: dict[tuple[str, str], Stored] = {}
        self.readings_stored = 0
        self.readings_per_second = 0.0
        self.late = 0
        self.clock_steps_back = 0
        self.flood: Flood | None = None

    def take(self, frame: Frame) -> None:
        """Keep the newest reading of each point of `frame`; one older than what is known changes nothing."""
        if not len(frame):
            return
        self.fit(int(frame.point.max()) + 1)
        newer = frame.time_ns >= self.time_ns[frame.point]
        if not newer.all():
            frame = frame.take(newer)
        if (frame.time_ns[1:] < frame.time_ns[:-1]).any():
            frame = frame.take(np.argsort(frame.time_ns, kind="stable"))
        # Of several assignments to one place numpy keeps the last: sorted by time, that is the newest.
        self.time_ns[frame.point] = frame.time_ns
        self.value[frame.point] = frame.value
        self.quality[frame.point] = frame.quality

    def set_back(self, now_ns: int) -> None:
        """Let nothing be of a time to come where the clock was set back to `now_ns`: what is read next is newer."""
        np.minimum(self.time_ns, now_ns, out=self.time_ns)
        for known in self.gateways.values():
            known.set_back(now_ns)

    def hear(self, fed: Fed, now_ns: int, sent_ms: int | None = None) -> None:
        """Take in what a message tells of its gateway, which sent it at `sent_ms` by its own clock."""
        if fed.group is None or fed.gateway is None:
            return
        for birth in fed.births:
            if birth.point is not None and birth.unit:
                self.units[birth.point] = birth.unit
        address = (fed.group, fed.gateway)
        if is_birth(fed) and address not in self.gateways:
            self.gateways[address] = GatewayLive(*address)
        known = self.gateways.get(address)
        if known is not None:
            known.told(fed, now_ns, sent_ms)

    def known(self) -> "Known":
        """A copy of what a restart needs."""
        n = self.table.declared
        gateways: list[Any] = [
            [
                *(known.group, known.id, known.state, known.since_ns, known.last_seen_ns, dict(known.devices)),
                None if known.standing is None else known.standing.to_text(),
            ]
            for known in self.gateways.values()
            if known.state != "unknown"
        ]
        return Known(
            gateways, self.table.ids[:n], self.time_ns[:n].copy(), self.value[:n].copy(), self.quality[:n].copy()
        )

    def restore(self, held: "Known") -> None:
        """Take back what `known` gave; the plant may have other points by now."""
        index = {point: place for place, point in enumerate(self.table.ids)}
        for row, point in enumerate(held.ids):
            place = index.get(point)
            if place is not None:
                self.time_ns[place] = held.time_ns[row]
                self.value[place] = held.value[row]
                self.quality[place] = held.quality[row]
        for group, gateway, state, since_ns, last_seen_ns, devices, *said in held.gateways:
            # Earlier versions kept no standing.
            standing = Standing.of_text(said[0]) if said and said[0] is not None else None
            self.gateways[group, gateway] = GatewayLive(
                group, gateway, state, since_ns, last_seen_ns, dict(devices), standing
            )
            for device in ("", *devices):
                self.table.admit((group, gateway, device))

    def fit(self, size: int) -> None:
        """Make room for the points with indexes below `size`."""
        if size <= len(self.time_ns):
            return
        more = size - len(self.time_ns) + GROW
        self.time_ns = np.concatenate([self.time_ns, np.zeros(more, dtype=np.int64)])
        self.value = np.concatenate([self.value, np.full(more, np.nan)])
        self.quality = np.concatenate([self.quality, np.full(more, BAD_WAITING, dtype=np.uint8)])
