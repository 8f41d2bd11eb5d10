"""The hub of the event streams: every reader's mailbox, and what is said to all of them."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from tocsin_cloud.api import model
from tocsin_cloud.api.mailbox import Mailbox, event_of
from tocsin_cloud.api.ports import Latest
from tocsin_cloud.api.present import values
from tocsin_core.plant import Plant
from tocsin_core.readings import I32

MOST_READERS: Final = 200


class Hub:
    """Opens mailboxes, posts to all of them, and ends them all."""

    def __init__(self, plant: Plant, on_reset: Callable[[], object]) -> None:
        """Start with no reader, and take none before `begin`; `on_reset` hears of each who has to read all anew."""
        self._plant = plant
        self._on_reset = on_reset
        self._latest: Latest | None = None
        self._mailboxes: set[Mailbox] = set()
        self._some_reader = asyncio.Event()
        self._begun = False
        self._closed = False

    @property
    def readers(self) -> int:
        """How many streams are open."""
        return len(self._mailboxes)

    @property
    def begun(self) -> bool:
        """Whether it is known what was there before any reader."""
        return self._begun

    def begin(self) -> None:
        """What comes from now on is told."""
        self._begun = True

    async def wait_reader(self) -> None:
        """Return when a stream is open."""
        await self._some_reader.wait()

    def open(self) -> Mailbox | None:
        """Return a mailbox for a new reader, or None when there are too many or the server begins or goes down."""
        if self._closed or not self._begun or len(self._mailboxes) >= MOST_READERS:
            return None
        mailbox = Mailbox(self._values, self._on_reset)
        self._mailboxes.add(mailbox)
        self._some_reader.set()
        return mailbox

    def leave(self, mailbox: Mailbox) -> None:
        """Forget `mailbox`, whose reader is gone."""
        self._mailboxes.discard(mailbox)
        if not self._mailboxes:
            self._some_reader.clear()

    def post(self, events: list[bytes]) -> None:
        """Say something of which no reader may miss a part."""
        for mailbox in self._mailboxes:
            mailbox.post(events)

    def post_values(self, latest: Latest, points: I32) -> None:
        """Say that the readings of these points (by index) changed, to what they are among the `latest`."""
        self._latest = latest
        if self._mailboxes:
            rendered = self._values(points)
            for mailbox in self._mailboxes:
                mailbox.post_values(rendered, points)

    def post_projections(self, changed: Mapping[str, model.Projection | None]) -> None:
        """Say that these points' projections changed."""
        for mailbox in self._mailboxes:
            mailbox.post_projections(changed)

    def reset_all(self, reason: str) -> None:
        """Have every reader read everything anew; the streams go on."""
        for mailbox in self._mailboxes:
            mailbox.reset(reason)

    def end_all(self, reason: str) -> None:
        """End every stream: nothing more is known. The readers come back, and are refused until something is."""
        for mailbox in self._mailboxes:
            mailbox.end(reason)

    def close(self) -> None:
        """End every stream for good: the server is going down."""
        self._closed = True
        self.end_all("shutdown")

    def _values(self, points: I32) -> bytes:
        if self._latest is None:
            raise RuntimeError("no values were posted yet")
        return event_of("values", values(self._plant, self._latest, points))
