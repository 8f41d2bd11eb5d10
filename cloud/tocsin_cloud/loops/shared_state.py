"""The historian's state on a shared broker: where the history is on a server, the next historian may be elsewhere."""

import asyncio
import json
from collections.abc import Mapping
from typing import NamedTuple

import structlog

from tocsin_cloud.adapters.history import History
from tocsin_cloud.adapters.history_state import RESTORED
from tocsin_cloud.adapters.snapshot_store import SnapshotStore
from tocsin_core.clock import Clock

log = structlog.get_logger()


class _Noted(NamedTuple):
    commit: int
    time_ns: int
    state: Mapping[str, bytes]


class SharedState:
    """Shares now and then the whole state of a commit, once that is durable: it is never ahead of the readings.

    A state that is older than the last one costs a replay: what is stored already is stored again.
    """

    def __init__(self, store: SnapshotStore, interval_s: float, clock: Clock) -> None:
        """Share in `store` every `interval_s` seconds."""
        self._store = store
        self._interval_s = interval_s
        self._clock = clock
        self._noted: _Noted | None = None
        self._putting: asyncio.Task[bool] | None = None
        self._put_at = 0.0

    async def of(self, history: History) -> Mapping[str, bytes]:
        """The state from which the historian of `history` goes on; where that is another's, `history` is told."""
        own = history.state
        state = await self.later_than(own)
        if state is not own:
            history.overtaken()
        return state

    async def later_than(self, own: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """The shared state, or `own` where that is as late, or was restored since from a backup.

        What was shared before that tells of readings that the history may lack now: the stream has them still.
        """
        body = await self._store.later_than(_time_of(own))
        if body is None:
            return own
        shared = {name: text.encode() for name, text in json.loads(body).items()}
        if RESTORED in own and shared.get(RESTORED) != own[RESTORED]:
            log.warning("the shared state is ahead of the restored history and is left aside")
            return own
        return shared

    def note(self, commit: int, state: Mapping[str, bytes]) -> None:
        """Keep the whole state of the `commit`-th commit for sharing, if it is time."""
        if self._noted is None and self._clock.monotonic() >= self._put_at:
            self._noted = _Noted(commit, _time_of(state), state)

    def durable(self, commits: int) -> None:
        """Begin to share what was kept, if it is among the first `commits` commits; the historian does not wait."""
        if self._noted is None or self._noted.commit > commits or (self._putting and not self._putting.done()):
            return
        noted, self._noted = self._noted, None
        self._put_at = self._clock.monotonic() + self._interval_s
        body = json.dumps({name: part.decode() for name, part in noted.state.items()}).encode()
        self._putting = asyncio.create_task(self._store.put(body, noted.time_ns), name="share historian's state")


def _time_of(state: Mapping[str, bytes]) -> int:
    held = json.loads(state.get("position", b"{}"))
    return int(held["position"][1]) if held else 0
