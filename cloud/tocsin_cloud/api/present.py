"""The present state of points and gateways turned into the shapes of the interface."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Final

import numpy as np

from tocsin_cloud.api import model
from tocsin_cloud.api.computed import computed
from tocsin_cloud.api.model import number
from tocsin_cloud.api.ports import GatewayStatus, Latest, Live, Undeclared
from tocsin_cloud.loops.live import Outlook
from tocsin_cloud.loops.silence import silences
from tocsin_cloud.loops.skew import is_skewed
from tocsin_core.kpi import Flood
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant, PlantPoint, Text
from tocsin_core.plant.brought import GRADES, LIMITS
from tocsin_core.readings import BAD_WAITING, I32, is_bad, quality_text
from tocsin_core.replay.report import INSTRUMENT

UNDECLARED_DECIMALS: Final = 2
SIDED: Final = (*LIMITS, *GRADES, AlarmKind.TIME_TO_LIMIT)


def name(text: Text) -> model.Name:
    """Return a text of the plant file."""
    return model.Name(zh=text.zh, en=text.en)


def plain_name(text: str) -> model.Name:
    """Return a text that is the same in both languages."""
    return model.Name(zh=text, en=text)


def flood(found: Flood) -> model.Flood:
    """Return an alarm flood."""
    return model.Flood(since=found.begin_ns, until=found.end_ns, alarms=found.alarms, first=found.first)


def _limit(definition: AlarmDefinition) -> model.AlarmLimit:
    process = definition.kind not in INSTRUMENT
    return model.AlarmLimit(
        alarm=definition.id,
        kind=definition.kind,
        side=("high" if definition.side > 0 else "low") if definition.kind in SIDED else None,
        setpoint=number(definition.setpoint),
        deadband=number(definition.deadband) if process else None,
        on_delay_s=definition.on_delay_s,
        off_delay_s=definition.off_delay_s,
        priority=definition.priority,
        clause=None if definition.clause is None else name(definition.clause),
    )


class Points:
    """The plant's points with their latest readings; what never changes is rendered once."""

    def __init__(self, plant: Plant) -> None:
        """Render the points of `plant`; `allowed_ns` says for how long each may be silent, 0: for ever."""
        self._plant = plant
        self._declared = [_declared(point, plant) for point in plant.points]
        self.allowed_ns = silences(plant)

    def all(self, latest: Latest, now_ns: int) -> list[model.Point]:
        """Return every point, the plant file's first."""
        declared = [
            point.model_copy(update=_reading(latest, index, int(self.allowed_ns[index]), now_ns))
            for index, point in enumerate(self._declared)
        ]
        return declared + [
            _undeclared(point).model_copy(update=_reading(latest, point.index, 0, now_ns))
            for point in latest.undeclared
        ]

    def one(self, point_id: str, live: Live, latest: Latest, now_ns: int) -> model.PointInFull | None:
        """Return the point `point_id` with its projection, or None if there is none."""
        found = self._find(point_id, latest.undeclared)
        if found is None:
            return None
        index, bare = found
        allowed_ns = int(self.allowed_ns[index]) if bare.declared else 0
        ahead = live.projections().get(point_id)
        fields = bare.model_dump() | _reading(latest, index, allowed_ns, now_ns)
        return model.PointInFull.model_validate(fields | {"projection": None if ahead is None else projection(ahead)})

    def bare(self, point_id: str, undeclared: Iterable[Undeclared]) -> model.Point | None:
        """Return the point `point_id` without its reading, or None if there is no such point."""
        found = self._find(point_id, undeclared)
        return None if found is None else found[1]

    def _find(self, point_id: str, undeclared: Iterable[Undeclared]) -> tuple[int, model.Point] | None:
        index = self._plant.point_index.get(point_id)
        if index is not None:
            return index, self._declared[index]
        return next(((point.index, _undeclared(point)) for point in undeclared if point.id == point_id), None)


def _reading(latest: Latest, index: int, allowed_ns: int, now_ns: int) -> dict[str, object]:
    if index >= len(latest.time_ns) or latest.time_ns[index] == 0:
        return {"time": None, "value": None, "quality": BAD_WAITING, "quality_text": quality_text(BAD_WAITING)}
    time_ns, quality = int(latest.time_ns[index]), int(latest.quality[index])
    bad = bool(is_bad(np.asarray([quality], dtype=np.uint8))[0])
    stale = 0 < allowed_ns < now_ns - time_ns and not bad
    return {
        "time": time_ns,
        "value": None if bad else number(float(latest.value[index])),
        "quality": quality,
        "quality_text": "stale" if stale else quality_text(quality),
    }


def _declared(point: PlantPoint, plant: Plant) -> model.Point:
    measured = point.compute is None
    return model.Point(
        id=point.id,
        name=name(point.config.name),
        kind=str(point.kind),
        cas=point.config.cas,
        unit=point.unit,
        low=number(point.low),
        high=number(point.high),
        decimals=point.decimals,
        source=point.source,
        gateway=point.gateway.id if measured else None,
        device=point.device.id if measured else None,
        declared=True,
        computed=computed(point, plant),
        limits=[_limit(definition) for definition in point.definitions],
        time=None,
        value=None,
        quality=BAD_WAITING,
        quality_text=quality_text(BAD_WAITING),
    )


def _undeclared(point: Undeclared) -> model.Point:
    return model.Point(
        id=point.id,
        name=plain_name(point.id),
        kind="generic",
        cas=None,
        unit=point.unit,
        low=None,
        high=None,
        decimals=UNDECLARED_DECIMALS,
        source=None,
        gateway=point.gateway,
        device=point.device,
        declared=False,
        computed=None,
        limits=[],
        time=None,
        value=None,
        quality=BAD_WAITING,
        quality_text=quality_text(BAD_WAITING),
    )


def projection(found: Outlook) -> model.Projection:
    """Return where a point is heading."""
    return model.Projection.model_validate(
        {
            "time": found.time_ns,
            "level": found.level,
            "slope_per_s": found.slope_per_s,
            "slope_low_per_s": found.slope_low_per_s,
            "slope_high_per_s": found.slope_high_per_s,
            "limit": found.limit,
            "limit_kind": str(found.limit_kind),
            "horizon_s": found.horizon_s,
            "reaches_in_s": number(found.reaches_in_s),
        }
    )


def gateways(plant: Plant, live: Live, latest: Latest) -> list[model.Gateway]:
    """Return the plant file's gateways in its order, then those that nobody declared."""
    heard = {status.id: status for status in live.gateways()}
    counts = _point_counts(plant, latest)
    named = {
        gateway.id: plain_name(gateway.id) if gateway.name is None else name(gateway.name)
        for gateway in plant.file.gateways
    }
    devices = {gateway.id: [device.id for device in gateway.devices] for gateway in plant.file.gateways}
    return [
        _gateway(
            heard.get(key) or GatewayStatus(key, "unknown"),
            named.get(key) or plain_name(key),
            devices.get(key, []),
            counts,
        )
        for key in [*named, *(key for key in heard if key not in named)]
    ]


def unsynchronised(live: Live, gateway: str | None, start_ns: int, end_ns: int) -> list[model.Stretch]:
    """Return the stretches of a gateway's readings in [start, end) that were stamped by a clock that nobody had set."""
    found = next((status.unsynchronised for status in live.gateways() if status.id == gateway), ())
    return [model.Stretch(first=first, last=last) for first, last in found if first < end_ns and last >= start_ns]


def _clock(status: GatewayStatus) -> model.GatewayClock | None:
    clock = status.clock
    if clock is None:
        return None
    return model.GatewayClock(
        synchronised=clock.synchronised,
        since=clock.since_ns,
        error_ms=number(clock.error_ms),
        step_s=number(clock.step_s),
    )


def _gateway(
    status: GatewayStatus, gateway_name: model.Name, declared: Sequence[str], counts: dict[tuple[str, str], list[int]]
) -> model.Gateway:
    states = {device.id: device.state for device in status.devices}
    # A gateway that is away cannot say anything about its devices.
    fallback: model.Online = "offline" if status.state == "offline" else "unknown"
    listed = [*declared, *(device for device in states if device not in declared)]
    devices = []
    for device in listed:
        points, bad = counts.get((status.id, device), [0, 0])
        devices.append(model.Device(id=device, state=states.get(device, fallback), points=points, bad=bad))
    return model.Gateway(
        id=status.id,
        name=gateway_name,
        state=status.state,
        since=status.since_ns,
        last_seen=status.last_seen_ns,
        readings=status.readings,
        batch=status.batch,
        committed=status.committed,
        devices=devices,
        clock=_clock(status),
        unsynchronised=[model.Stretch(first=first, last=last) for first, last in status.unsynchronised],
        slice=None if status.slice is None else model.GatewaySlice.model_validate(asdict(status.slice)),
        skew_s=number(status.skew_s),
        skewed=is_skewed(status.skew_s),
        certificate_ends=status.certificate_ends_ns,
    )


def _point_counts(plant: Plant, latest: Latest) -> dict[tuple[str, str], list[int]]:
    bad = is_bad(latest.quality) | (latest.time_ns == 0)
    devices, device_of = plant.devices
    points = np.bincount(device_of, minlength=len(devices))
    spoilt = np.bincount(device_of[bad[: len(device_of)]], minlength=len(devices))
    counts = {device: [int(points[number]), int(spoilt[number])] for number, device in enumerate(devices)}
    for point in latest.undeclared:
        count = counts.setdefault((point.gateway, point.device), [0, 0])
        count[0] += 1
        # The readings come in portions, of which the later ones may be those of a worker that has taken over.
        count[1] += point.index >= len(bad) or bool(bad[point.index])
    return counts


def values(plant: Plant, latest: Latest, points: I32) -> model.Values:
    """Return the latest readings of the points with these indices."""
    ids = [point.id for point in plant.points] + [point.id for point in latest.undeclared]
    known = points[points < min(len(ids), len(latest.time_ns))]
    quality = latest.quality[known]
    shown = np.where(is_bad(quality), np.nan, latest.value[known])
    return model.Values(
        point=[ids[index] for index in known],
        time=latest.time_ns[known].tolist(),
        value=[number(value) for value in shown.tolist()],
        quality=quality.tolist(),
    )
