"""How long each waiting message has yet to wait, counted by a clock that nobody sets."""

from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.sql.models import Message
from tocsin_cloud.loops.outbox import PENDING, SENDING
from tocsin_core.clock import Clock
from tocsin_core.plant.model import Notify

NS: Final = 1_000_000_000
LOOK_S: Final = 2.0


class Patience:
    """Remembers when each waiting message was first seen, and for how long it had to wait then.

    That is never longer than its kind is planned to wait, whatever its due time is by the wall clock. A wall clock that
    is set back later changes nothing of it, and what is written by a clock that was right all along is taken as it is.
    """

    def __init__(self, notify: Notify, tried_s: float, clock: Clock) -> None:
        """Have seen nothing yet; a message that was tried before waits for `tried_s` at most."""
        self._notify = notify
        self._tried_s = tried_s
        self._clock = clock
        self._looked_s: float | None = None
        # By message: its due time (wall clock, ns), and when it has waited long enough (monotonic, s).
        self._ends: dict[str, tuple[int, float]] = {}

    async def look(self, session: AsyncSession) -> None:
        """Note what waits and was not seen before; every two seconds, and nothing in between."""
        now_s, now_ns = self._clock.monotonic(), self._clock.now_ns()
        if self._looked_s is not None and now_s - self._looked_s < LOOK_S:
            return
        rows = await session.execute(
            select(Message.id, Message.due_ns, Message.attempts, Message.step, Message.repeat).where(
                Message.state.in_((PENDING, SENDING)), Message.due_ns > now_ns
            )
        )
        before, self._ends = self._ends, {}
        for message, due_ns, attempts, step, repeat in rows:
            known = before.get(message)
            if known is None or known[0] != due_ns:
                wait_s = min((due_ns - now_ns) / NS, self._longest_s(attempts, step, repeat))
                known = (due_ns, now_s + wait_s)
            self._ends[message] = known
        self._looked_s = now_s

    def over(self) -> list[str]:
        """The messages that have waited long enough; some of them may have been answered since."""
        now_s = self._clock.monotonic()
        return [message for message, (_, end_s) in self._ends.items() if end_s <= now_s]

    def forget(self, message: str) -> None:
        """Its waiting is over: what it waits for from now on is another matter."""
        self._ends.pop(message, None)

    def _longest_s(self, attempts: int, step: int, repeat: int) -> float:
        if attempts:
            return self._tried_s
        steps = self._notify.steps
        # Of a plant file with more steps than this one.
        if repeat or step >= len(steps):
            return self._notify.repeat_s
        return steps[step].after_s
