"""What the HTTP interface asks of the present state, answered from the live view and the quarantine of this process."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tocsin_cloud.adapters.quarantine import Quarantine
from tocsin_cloud.api import ports
from tocsin_cloud.loops.live import GatewayLive, LiveView, Outlook, Stored
from tocsin_core.kpi import Flood

NS_PER_MS: Final = 1_000_000


class LivePort:
    """The live view in the interface's own values."""

    def __init__(self, live: LiveView, quarantine: Quarantine) -> None:
        """Answer from `live`."""
        self._live = live
        self._quarantine = quarantine

    @property
    def numbered_as(self) -> str:
        """Which point has which index (`points.numbering`)."""
        return self._live.table.numbered_as

    async def latest(self) -> ports.Latest:
        """Copies of the latest readings."""
        live = self._live
        live.fit(len(live.table))
        return ports.Latest(live.time_ns.copy(), live.value.copy(), live.quality.copy(), self.undeclared())

    def undeclared(self) -> Sequence[ports.Undeclared]:
        """Metrics that are not in the plant file."""
        live = self._live
        return [
            ports.Undeclared(one.index, one.id, live.units.get(one.index, ""), one.gateway, one.device)
            for one in live.table.undeclared
        ]

    def projections(self) -> Mapping[str, Outlook]:
        """By point id."""
        return dict(self._live.outlooks)

    def flood(self) -> Flood | None:
        """The flood that goes on."""
        return self._live.flood

    def gateways(self) -> Sequence[ports.GatewayStatus]:
        """Every gateway heard of; a foreign group's carries its group in the id."""
        return [self._gateway(address) for address in self._live.gateways]

    def figures(self) -> ports.Figures:
        """The process's counters."""
        live = self._live
        return ports.Figures(
            readings_stored=live.readings_stored,
            readings_per_second=live.readings_per_second,
            late_readings=live.late,
            clock_steps_back=live.clock_steps_back,
            quarantined=dict(self._quarantine.counts),
        )

    def stored(self) -> Mapping[str, Mapping[str, Any]]:
        """By gateway id, those fields of its status that the historian knows."""
        live = self._live
        return {live.table.gateway_id(*address): _stored(stored) for address, stored in live.stored.items()}

    def _gateway(self, address: tuple[str, str]) -> ports.GatewayStatus:
        live = self._live
        known, stored = live.gateways[address], live.stored.get(address)
        return ports.GatewayStatus(
            id=live.table.gateway_id(known.group, known.id),
            state=known.state,
            since_ns=known.since_ns,
            last_seen_ns=known.last_seen_ns,
            devices=tuple(ports.DeviceStatus(device, state) for device, state in known.devices.items()),
            slice=_slice(known),
            skew_s=known.skew.seconds,
            certificate_ends_ns=known.certificate_ends_ns,
            **({} if stored is None else _stored(stored)),
        )


def _stored(stored: Stored) -> Mapping[str, Any]:
    clock = stored.clock
    return {
        "readings": stored.readings,
        "batch": stored.batch,
        "committed": stored.committed,
        "clock": None
        if clock is None
        else ports.ClockStatus(clock.synchronised, clock.since_ms * NS_PER_MS, clock.error_ms, clock.step_s),
        "unsynchronised": stored.unsynchronised,
    }


def _slice(known: GatewayLive) -> ports.SliceStatus | None:
    standing = known.standing
    if standing is None:
        return None
    current = None if known.wanted is None else known.wanted == standing.hash
    answer = standing.answer
    if answer is None:
        return ports.SliceStatus(standing.version, current)
    return ports.SliceStatus(standing.version, current, answer.version, answer.outcome, answer.reason)
