"""How long the work of each role stands still in the cloud side's fault benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass

from tocsin_cli.bench.faults_cloud_bed import Row, Tables
from tocsin_cli.bench.faults_cloud_gateway import Gateway
from tocsin_core.clock import Clock


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment by both clocks, and the newest batch of each gateway then."""

    s: float
    ns: int
    batches: Sequence[int]


@dataclass(frozen=True, slots=True)
class Roles:
    """Tells by its effects whether the work of a role is being done."""

    tables: Tables
    gateways: Sequence[Gateway]
    clock: Clock

    def now(self) -> Moment:
        """This moment."""
        return Moment(self.clock.monotonic(), self.clock.now_ns(), [gateway.newest for gateway in self.gateways])

    async def committed(self, moment: Moment) -> bool:
        """Whether all that was read up to a moment is committed, to the history and by the alarms."""
        read = zip(self.gateways, moment.batches, strict=True)
        return all(gateway.committed >= batch for gateway, batch in read) and await self._decides(moment)

    async def done(self, role: str, since: Moment, before: Row) -> bool:
        """Whether somebody has renewed a role's lease since it was as `before`, and has done work of after `since`.

        Of the alarms that is a commit that takes in what the stream took later, of the historian an acknowledgement
        of what was read later; messages are not always there to be sent.
        """
        if (await self.tables.leases())[role] == before:
            return False
        if role == "alarms":
            return await self._decides(since)
        read = zip(self.gateways, since.batches, strict=True)
        return role != "historian" or any(gateway.committed > batch for gateway, batch in read)

    async def taken(self, role: str, since: Moment, before: Row) -> bool:
        """The same by somebody who took the role over since."""
        return (await self.tables.leases())[role].epoch > before.epoch and await self.done(role, since, before)

    async def _decides(self, since: Moment) -> bool:
        return await self.tables.position() > since.ns
