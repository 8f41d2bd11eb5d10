"""Writes what is asked over HTTP into the audit log; what strangers can cause is bounded, and counted beyond."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tocsin_cloud.adapters.audit import append
from tocsin_cloud.adapters.audit_chain import Actor, Deed
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_core.clock import Clock

REFUSALS_A_MINUTE: Final = 60
MINUTE_S: Final = 60.0


class Recorder:
    """The audit log as the interface writes it, each entry in a transaction of its own."""

    def __init__(self, database: Database, clock: Clock, left_out: Callable[[], None]) -> None:
        """Write into the log of `database`; `left_out` is called for each refusal of which it has no entry."""
        self._database = database
        self._clock = clock
        self._left_out = left_out
        self._began = clock.monotonic()
        self._written = 0
        self._unwritten = 0

    async def record(self, actor: Actor, deed: Deed) -> None:
        """Append an entry; it is committed when this returns."""
        async with self._database.write() as session:
            await append(session, self._clock.now_ns(), actor, deed)

    async def refused(self, actor: Actor, deed: Deed) -> None:
        """Append the entry of a refusal that costs whoever asks nothing.

        Beyond `REFUSALS_A_MINUTE` they are only counted; the next one that is written says how many (`unwritten`), so
        that nobody fills the disk by guessing.
        """
        now = self._clock.monotonic()
        if now - self._began >= MINUTE_S:
            self._began, self._written = now, 0
        if self._written >= REFUSALS_A_MINUTE:
            self._unwritten += 1
            self._left_out()
            return
        self._written += 1
        if self._unwritten:
            deed = replace(deed, detail={**deed.detail, "unwritten": self._unwritten})
            self._unwritten = 0
        await self.record(actor, deed)
