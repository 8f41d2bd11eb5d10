"""One reader's mailbox: bounded, transitions in order, live values merged to the latest for a slow reader."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from pydantic import BaseModel, TypeAdapter

from tocsin_cloud.api import model
from tocsin_core.readings import I32

# What waits is shared by all who wait for it: 10,000 alarms are 6 MB, and to read them anew costs no more.
MOST_BYTES: Final = 4_000_000

_PROJECTIONS: Final = TypeAdapter(dict[str, model.Projection | None])


def event(kind: str, data: bytes) -> bytes:
    """Return one server-sent event; `data` is JSON on one line."""
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def event_of(kind: str, shape: BaseModel) -> bytes:
    """Return one server-sent event that carries `shape`."""
    return event(kind, shape.model_dump_json(by_alias=True).encode())


class Mailbox:
    """What one reader has still to be sent. `ended` says why the stream is over, once it is.

    A reader who is too slow for all that happens gets one event `reset` in the place of what waited for it: it reads
    everything anew, and its stream goes on.
    """

    def __init__(self, values_now: Callable[[I32], bytes], on_reset: Callable[[], object] = lambda: None) -> None:
        """`values_now` renders the present values of some points: what a slow reader gets instead of every step.

        `on_reset` hears that what waited was given up.
        """
        self._values_now = values_now
        self._on_reset = on_reset
        self._events: list[bytes] = []
        self._bytes = 0
        self._reset: str | None = None
        self._values: bytes | None = None
        self._changed = np.empty(0, dtype=np.int32)
        self._projections: dict[str, model.Projection | None] = {}
        self._something = asyncio.Event()
        self._end = asyncio.Event()
        self.ended: str | None = None

    def post(self, events: list[bytes]) -> None:
        """Add events of which none may be lost; a reader too slow for them is told to read everything anew."""
        # Who reads everything anew reads what these would tell.
        if self.ended is not None or self._reset is not None:
            return
        self._events += events
        self._bytes += sum(map(len, events))
        self._something.set()
        if self._bytes > MOST_BYTES:
            self.reset("too slow")

    def reset(self, reason: str) -> None:
        """Have the reader read everything anew, in the place of what waits for it."""
        if self._reset is None:
            self._reset = reason
            self._on_reset()
        self._clear()
        self._something.set()

    def post_values(self, rendered: bytes, points: I32) -> None:
        """Note that the values of `points` changed; `rendered` is their event, shared by all readers who keep up."""
        if len(self._changed):
            self._changed, self._values = np.union1d(self._changed, points), None
        else:
            self._changed, self._values = points, rendered
        self._something.set()

    def post_projections(self, changed: Mapping[str, model.Projection | None]) -> None:
        """Note that these projections changed; None is the end of one."""
        self._projections.update(changed)
        self._something.set()

    def end(self, reason: str) -> None:
        """End the stream; what it still held is not sent."""
        if self.ended is None:
            self.ended = reason
            self._end.set()
            self._something.set()

    async def wait_end(self) -> None:
        """Return when the stream is over."""
        await self._end.wait()

    async def take(self, timeout_s: float) -> bytes:
        """Return everything that waits as one piece; empty when nothing came within `timeout_s`, or at the end."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._something.wait()
        except TimeoutError:
            return b""
        self._something.clear()
        if self.ended is not None:
            return b""
        pieces = self._events
        if self._reset is not None:
            pieces, self._reset = [event_of("reset", model.Reset(reason=self._reset))], None
        if len(self._changed):
            pieces.append(self._values_now(self._changed) if self._values is None else self._values)
        if self._projections:
            pieces.append(event("projection", _PROJECTIONS.dump_json(self._projections)))
        self._clear()
        return b"".join(pieces)

    def _clear(self) -> None:
        self._events, self._bytes, self._projections = [], 0, {}
        self._changed, self._values = np.empty(0, dtype=np.int32), None
