"""One reader's mailbox: bounded, transitions in order, live values merged to the latest for a slow reader."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from pydantic import BaseModel, TypeAdapter

from tocsin_cloud.api import model
from tocsin_core.readings import I32

MOST_EVENTS: Final = 2000

_PROJECTIONS: Final = TypeAdapter(dict[str, model.Projection | None])


def event(kind: str, data: bytes) -> bytes:
    """Return one server-sent event; `data` is JSON on one line."""
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def event_of(kind: str, shape: BaseModel) -> bytes:
    """Return one server-sent event that carries `shape`."""
    return event(kind, shape.model_dump_json(by_alias=True).encode())


class Mailbox:
    """What one reader has still to be sent. `ended` says why the stream is over, once it is."""

    def __init__(self, values_now: Callable[[I32], bytes]) -> None:
        """`values_now` renders the present values of some points: what a slow reader gets instead of every step."""
        self._values_now = values_now
        self._events: list[bytes] = []
        self._values: bytes | None = None
        self._changed = np.empty(0, dtype=np.int32)
        self._projections: dict[str, model.Projection | None] = {}
        self._something = asyncio.Event()
        self._end = asyncio.Event()
        self.ended: str | None = None

    def post(self, events: list[bytes]) -> None:
        """Add events of which none may be lost; a reader too slow for them loses its stream, and fetches anew."""
        if self.ended is not None:
            return
        if len(self._events) + len(events) > MOST_EVENTS:
            self.end("too slow")
            return
        self._events += events
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
        pieces, self._events = self._events, []
        if len(self._changed):
            pieces.append(self._values_now(self._changed) if self._values is None else self._values)
            self._changed, self._values = np.empty(0, dtype=np.int32), None
        if self._projections:
            pieces.append(event("projection", _PROJECTIONS.dump_json(self._projections)))
            self._projections = {}
        return b"".join(pieces)
