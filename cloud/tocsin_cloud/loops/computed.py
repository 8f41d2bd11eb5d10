"""Readings of computed points on their way from the engine through the stream into the history."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from math import isfinite, nan
from typing import Final

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.stream import publish_computed
from tocsin_cloud.loops.points import PointTable
from tocsin_core.foreign import parsed
from tocsin_core.readings import Frame, FrameError

log = structlog.get_logger()

COMPUTED: Final = "tocsin/computed/"
PORTION: Final = 5_000
RETRY_S: Final = 1.0
MOST_WAITING: Final = 200_000


class Outlet:
    """What the engine has computed and the stream does not hold yet, in the order in which it was computed.

    The engine waits for none of it. What a crash loses here is computed again: no snapshot of the engine is kept before
    everything up to it is in the stream. A worker that stands by keeps here what it may have to put in after the
    takeover; whoever puts it in meanwhile says how far it has come. What a former holder still has goes nowhere: it may
    have been computed by an older plant file.
    """

    def __init__(self, client: Client, table: PointTable) -> None:
        """Start with nothing."""
        self._client = client
        self._table = table
        self._waiting: deque[tuple[int, Frame]] = deque()
        self._some = asyncio.Event()
        self._sending = asyncio.Lock()
        self._rows = 0

    @property
    def waiting(self) -> int:
        """How many readings wait."""
        return self._rows

    @property
    def full(self) -> bool:
        """Whether so much waits that whoever computes should let it out first."""
        return self._rows >= MOST_WAITING

    @property
    def first(self) -> int | None:
        """The message of the stream after which the oldest was computed that waits; None where nothing does."""
        return self._waiting[0][0] if self._waiting else None

    def put(self, frame: Frame, sequence: int) -> None:
        """Take in readings of computed points, computed after message `sequence`; never waits."""
        if len(frame):
            self._waiting.append((sequence, frame))
            self._rows += len(frame)
            self._some.set()

    def drop(self, sequence: int) -> None:
        """Let go of what was computed up to message `sequence`: somebody else has put it into the stream."""
        while self._waiting and self._waiting[0][0] <= sequence:
            self._rows -= len(self._waiting.popleft()[1])

    async def flush(self, lease: Lease) -> bool:
        """Put into the stream what waits, while `lease` is trusted; returns whether it holds everything now."""
        async with self._sending:
            while self._waiting:
                count = len(self._waiting)
                frame = Frame.concat([frame for _, frame in self._waiting])
                try:
                    for first in range(0, len(frame), PORTION):
                        if not lease.trusted:
                            return False
                        body = encode(frame.take(slice(first, first + PORTION)), self._table)
                        await publish_computed(self._client, self._table.site, body)
                except (NatsError, TimeoutError, OSError) as error:
                    log.warning("computed readings wait", readings=self._rows, reason=str(error) or repr(error))
                    return False
                for _ in range(count):
                    self._rows -= len(self._waiting.popleft()[1])
        return True

    async def run(self, lease: Lease) -> None:
        """Put into the stream whatever comes, while `lease` is trusted, until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            if not await self.flush(lease):
                self._some.set()
                await asyncio.sleep(RETRY_S)


def encode(frame: Frame, table: PointTable) -> bytes:
    """A message's body; points by id, because a later start may number them otherwise."""
    columns = {
        "point": [table.ids[point] for point in frame.point.tolist()],
        "time_ns": frame.time_ns.tolist(),
        "value": [value if isfinite(value) else None for value in frame.value.tolist()],
        "quality": frame.quality.tolist(),
    }
    return json.dumps(columns, separators=(",", ":")).encode()


def decode(body: bytes, computed: Mapping[str, int]) -> Frame:
    """The readings in a message's body of the points of `computed` (index by id); others are nobody's business.

    Raises:
        ValueError: it is no such body.
    """
    try:
        columns = parsed(body)
        rows = zip(columns["point"], columns["time_ns"], columns["value"], columns["quality"], strict=True)
        known = [
            (computed[point], time_ns, nan if value is None else value, quality)
            for point, time_ns, value, quality in rows
            if point in computed
        ]
        return Frame.of(*zip(*known, strict=True)) if known else Frame.empty()
    except (KeyError, TypeError, OverflowError, FrameError) as error:
        raise ValueError(f"no computed readings: {error!r}") from error
