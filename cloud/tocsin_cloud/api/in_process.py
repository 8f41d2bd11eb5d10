"""The API's view on the live state that the alarms loop and the historian keep in the same process."""

from collections.abc import Mapping, Sequence

from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.api.ports import DeviceStatus, Figures, GatewayStatus, Latest, Projection, Undeclared
from tocsin_cloud.loops.live import GatewayLive, LiveView


class InProcess:
    """`Live` over a `LiveView`; everything is copied, because the loops go on writing."""

    def __init__(self, view: LiveView, quarantine: Quarantine, site: str) -> None:
        """Look at `view`; gateways of another site than `site` are shown as group/gateway."""
        self._view = view
        self._quarantine = quarantine
        self._site = site

    def latest(self) -> Latest:
        """Return a copy of the latest readings."""
        view = self._view
        return Latest(view.time_ns.copy(), view.value.copy(), view.quality.copy())

    def undeclared(self) -> Sequence[Undeclared]:
        """Return the metrics that arrived without being in the plant file."""
        units = self._view.units
        return [
            Undeclared(point.index, point.id, units.get(point.index, ""), point.gateway, point.device)
            for point in self._view.table.undeclared
        ]

    def projections(self) -> Mapping[str, Projection]:
        """Return where points are heading, by point id."""
        return {
            point: Projection(
                time_ns=ahead.time_ns,
                level=ahead.level,
                slope_per_s=ahead.slope_per_s,
                slope_low_per_s=ahead.slope_low_per_s,
                slope_high_per_s=ahead.slope_high_per_s,
                limit=ahead.limit,
                limit_kind=ahead.limit_kind,
                horizon_s=ahead.horizon_s,
                reaches_in_s=ahead.reaches_in_s,
            )
            for point, ahead in self._view.outlooks.items()
        }

    def gateways(self) -> Sequence[GatewayStatus]:
        """Return the gateways heard of, in the order in which they were."""
        return [self._status(address, known) for address, known in self._view.gateways.items()]

    def figures(self) -> Figures:
        """Return the process's counters."""
        view = self._view
        return Figures(
            readings_stored=view.readings_stored,
            readings_per_second=view.readings_per_second,
            late_readings=view.late,
            clock_steps_back=view.clock_steps_back,
            quarantined=dict(self._quarantine.counts),
        )

    def _status(self, address: tuple[str, str], known: GatewayLive) -> GatewayStatus:
        stored = self._view.stored.get(address)
        return GatewayStatus(
            id=known.id if known.group == self._site else f"{known.group}/{known.id}",
            state=known.state,
            since_ns=known.since_ns,
            last_seen_ns=known.last_seen_ns,
            readings=0 if stored is None else stored.readings,
            batch=0 if stored is None else stored.batch,
            committed=0 if stored is None else stored.committed,
            devices=tuple(DeviceStatus(device, state) for device, state in known.devices.items()),
        )
