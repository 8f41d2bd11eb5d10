"""How long the work of each role stands still in the cloud side's fault benchmark."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import OperationalError, ProgrammingError

from tocsin_cli.bench.faults_cloud_bed import Row, Tables
from tocsin_cli.bench.faults_cloud_gateway import Gateway
from tocsin_core.clock import Clock

POLL_S: Final = 0.05
# All that a fault held up has to be there again within this, and the last of it at the end.
RECOVERY_S: Final = 600.0


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


@dataclass
class Waits:
    """One who waits, in a run, for what was done to have passed; `ready` says whether the page is."""

    roles: Roles
    ready: Callable[[], Awaitable[bool]]
    clock: Clock

    @property
    def tables(self) -> Tables:
        """The cloud side's tables."""
        return self.roles.tables

    async def recovered(self) -> None:
        """Wait until what was read by now is committed, to the history and by the alarms, and the page is ready."""
        now = self.roles.now()

        async def back() -> bool:
            return await self.roles.committed(now) and await self.ready()

        await self.until(back, RECOVERY_S, "the recovery")

    async def settled(self) -> None:
        """Wait until nothing is under way any more; the gateways read nothing new."""
        await self.recovered()

        async def told() -> bool:
            # The next call of the same people is a day away.
            under_way = "SELECT 1 FROM message WHERE state IN ('pending', 'sending') AND repeat = 0 LIMIT 1"
            return not await self.tables.rows(under_way)

        await self.until(told, RECOVERY_S, "the last message")

    async def until(self, condition: Callable[[], Awaitable[bool]], most_s: float, what: str) -> None:
        """Wait for a condition; while the database is away there is none.

        Raises:
            TimeoutError: it did not come.
        """
        deadline = self.clock.monotonic() + most_s
        while True:
            # The latter where PostgreSQL answers before a process has made the tables.
            with suppress(OperationalError, ProgrammingError):
                if await condition():
                    return
            if self.clock.monotonic() > deadline:
                raise TimeoutError(f"{what} took more than {most_s:g} s")
            await asyncio.sleep(POLL_S)
