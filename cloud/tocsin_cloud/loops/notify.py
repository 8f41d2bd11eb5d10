"""The outbox worker: sends due messages, tries again with patience, and calls on until somebody answers."""

import asyncio
from collections import Counter as Numbers
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Final, Protocol

import structlog
from nats.errors import Error as NatsError
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.channels import ChannelError, Letter, kind_of, service_of
from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import Message, Occurrence
from tocsin_cloud.loops.outbox import (
    CANCELLED,
    CHUNK,
    DELIVERED,
    FAILED,
    PENDING,
    SENDING,
    asking,
    put_in,
    uncalled,
    waiting,
)
from tocsin_cloud.loops.patience import Patience
from tocsin_core.clock import Clock
from tocsin_core.plant import Plant
from tocsin_core.routing import PlannedMessage, RoutingReason, follow_up, rerouted, resumed, reworded

log = structlog.get_logger(__name__)

NS: Final = 1_000_000_000
POLL_S: Final = 0.5
# Of one service.
AT_ONCE: Final = 8
# A service that takes longer is left to it, and what goes by another is not held up.
SLOW_S: Final = 1.0
# Where processes are started anew one by one, each with the new plant file, the last may begin after the notifier.
RESUME_S: Final = 60.0
ATTEMPTS: Final = 6
# Where so many attempts of each message of a step were in vain, the call goes on at once; they are tried on.
IN_VAIN: Final = 2
RETRIED: Final = "retried"
FIRST_RETRY_S: Final = 2.0
LONGEST_RETRY_S: Final = 60.0
# Longer than a channel's time limit: a message still "sending" after this belongs to a worker that died.
CLAIM_NS: Final = 30 * NS
# For so long whoever has to stop waits for the messages that it is just sending.
LAST_S: Final = 5.0


class Sender(Protocol):
    """The ways to people."""

    async def send(self, letter: Letter) -> None:
        """Send `letter`.

        Raises:
            ChannelError: it did not get out, or nobody knows.
        """

    def written_down(self, message: str) -> None:
        """Hear that the database knows that a message got out."""


Publish = Callable[[str, object], Awaitable[None]]
"""Tells listeners of what is committed: (kind, body)."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A message that this worker has claimed; `attempt` tells its claim from a later one.

    `until_s` is when others may claim it, by the own monotonic clock.
    """

    letter: Letter
    attempt: int
    until_s: float


def _goes_by(service: str) -> ColumnElement[bool]:
    """Whether `service_of` a message's address is this one, and none whose name begins alike, as another port's."""
    of = Message.channel
    further = (of.startswith(service + end, autoescape=True) for end in "/?")
    return or_(of == service, *further)


class Notifier:
    """Sends what stands in the outbox, while this process has the lease.

    Each message is claimed before it is sent, so that one who takes over leaves what may be on its way alone for as
    long as it can be. How a claimed message ended is written down by whoever claimed it, lease or not: else somebody
    would send it again.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        channels: Sender,
        publish: Publish,
        plant: Plant,
        clock: Clock,
        metrics: CollectorRegistry,
    ) -> None:
        """Send over `channels`; outcomes are counted in `metrics`."""
        self._database = database
        self._lease = lease
        self._channels = channels
        self._publish = publish
        self._file = plant.file
        self._addresses = {(person.id, channel) for person in plant.file.people for channel in person.channels}
        self._since_ns = clock.now_ns()
        self._clock = clock
        self._patience = Patience(plant.file.notify, LONGEST_RETRY_S, clock)
        self._under_way: dict[asyncio.Task[None], Letter] = {}
        self._resume_at = -inf
        what = "Messages to people by outcome of the attempt."
        self._outcomes = Counter("tocsin_messages", what, ("outcome",), registry=metrics)
        for outcome in (DELIVERED, RETRIED, FAILED, CANCELLED):
            self._outcomes.labels(outcome)

    async def run(self) -> None:
        """Send until cancelled; how what is on its way then ends is written down first, lease or not.

        Else somebody would send it again.
        """
        try:
            while True:
                handled = 0
                try:
                    await self._resume()
                    handled = await self.send_due()
                except* DatabaseAwayError as failures:
                    # What was taken stays claimed, and is sent again when the claim is over.
                    reasons = {
                        failure.reason for failure in failures.exceptions if isinstance(failure, DatabaseAwayError)
                    }
                    log.error("the outbox cannot be read or written", reasons=sorted(reasons))  # noqa: TRY400 -- the reasons are told
                if not handled:
                    await asyncio.sleep(POLL_S)
        finally:
            left = asyncio.gather(*self._under_way, return_exceptions=True)
            await asyncio.wait([left], timeout=LAST_S)
            left.cancel()

    async def send_due(self) -> int:
        """Send what is due now, a handful of each service at most; returns how many were begun, or cancelled.

        What is not sent after `SLOW_S` is left to its service, and waited for by nobody.
        """
        taken, touched = await self._take()
        await self._tell(touched)
        begun = {asyncio.create_task(self._deliver(item)): item.letter for item in taken}
        self._under_way |= begun
        if begun:
            await asyncio.wait(begun, timeout=SLOW_S)
        # One that cannot be sent now ends no other one, which may be half on its way.
        ended = [delivery for delivery in self._under_way if delivery.done()]
        for delivery in ended:
            del self._under_way[delivery]
        failures = [failure for failure in (delivery.exception() for delivery in ended) if failure is not None]
        if failures:
            raise BaseExceptionGroup("messages were not sent", failures)
        return len(taken) + len(touched)

    async def _resume(self) -> None:
        """Begin callings anew where something waits for an answer and nobody is called: the plant file was changed."""
        notify, now_s = self._file.notify, self._clock.monotonic()
        if not notify.steps or now_s < self._resume_at:
            return
        async with self._database.read() as session:
            lacking = await uncalled(session, notify)
        if lacking:
            async with self._lease.write() as session:
                # In some it may have been answered since.
                asked = await asking(session, await uncalled(session, notify), notify)
                now_ns = self._clock.now_ns()
                planned = [resumed(place, theirs, self._file, now_ns) for place, theirs in asked.items()]
                begun = await put_in(session, list(chain.from_iterable(planned)))
            log.warning("callings begin anew: something waits for an answer, and nobody was called", places=len(asked))
            await self._tell(begun)
        self._resume_at = now_s + RESUME_S

    async def _take(self) -> tuple[list[_Taken], list[str]]:
        """Claim what is due; returns that, and what is cancelled or takes the place of it."""
        # Looking before writing keeps the one writing connection free while nothing is due.
        async with self._database.read() as session:
            await self._patience.look(session)
            now, until_s = self._clock.now_ns(), self._clock.monotonic() + CLAIM_NS / NS
            waited = Message.id.in_(self._patience.over()[:CHUNK])
            # A claim may be over sooner than its sending: the database was slow, or the clock was set forward.
            ours = [letter.id for letter in self._under_way.values()]
            busy = Numbers(service_of(letter.channel) for letter in self._under_way.values())
            full = [service for service, number in busy.items() if number >= AT_ONCE]
            due = (
                select(Message)
                .where(Message.state.in_((PENDING, SENDING)), (Message.due_ns <= now) | waited, Message.id.not_in(ours))
                .where(*(~_goes_by(service) for service in full))
                .order_by(Message.due_ns, Message.id)
                .limit(AT_ONCE)
            )
            if (await session.scalars(due)).first() is None:
                return [], []
        taken: list[_Taken] = []
        cancelled: list[str] = []
        begun: list[str] = []
        async with self._lease.write() as session:
            rows = (await session.scalars(due.with_for_update(skip_locked=True))).all()
            called = await self._waiting_for_answer(session, rows)
            await self._reword(session, [row for row in rows if row.id in called and not row.attempts], called)
            for row in rows:
                if row.id not in called:
                    row.state = CANCELLED
                    cancelled.append(row.id)
                    continue
                instead = await self._instead(session, row)
                if instead is not None:
                    row.state = CANCELLED
                    cancelled.append(row.id)
                    begun += await put_in(session, instead)
                    continue
                service = service_of(row.channel)
                if busy[service] >= AT_ONCE:
                    continue
                busy[service] += 1
                row.state = SENDING
                row.attempts += 1
                row.due_ns = now + CLAIM_NS
                letter = Letter(row.id, row.to_person, row.channel, row.subject, row.body)
                taken.append(_Taken(letter, row.attempts, until_s))
        for message in (*cancelled, *(item.letter.id for item in taken)):
            self._patience.forget(message)
        self._outcomes.labels(CANCELLED).inc(len(cancelled))
        return taken, [*cancelled, *begun]

    async def _deliver(self, item: _Taken) -> None:
        """Send one message; what the database cannot do now ends no other delivery, which may be half on its way."""
        letter = item.letter
        error: str | None = None
        # This process may have stood still since the claim.
        try:
            sure = await self._lease.sure()
        except DatabaseAwayError as failure:
            log.warning("the lease cannot be looked at", message=letter.id, reason=failure.reason)
            sure = False
        if not sure:
            log.warning("a message waits for a faster database", message=letter.id)
            return
        try:
            await self._channels.send(letter)
        except ChannelError as failure:
            error = str(failure)
        while True:
            try:
                await self._write_down(item, error)
            except DatabaseAwayError as failure:
                log.warning("how a message ended is not written yet", message=letter.id, reason=failure.reason)
            else:
                return
            if self._clock.monotonic() >= item.until_s:
                log.error("how a message ended could not be written: it is sent again", message=letter.id, error=error)
                return
            await asyncio.sleep(POLL_S)

    async def _write_down(self, item: _Taken, error: str | None) -> None:
        letter = item.letter
        async with self._database.write() as session:
            row = await session.get(Message, letter.id, with_for_update=True)
            if row is None or row.attempts != item.attempt:
                log.warning("a message was taken by another worker meanwhile", message=letter.id)
                return
            # A commit whose answer was lost may have been one.
            touched = await self._settle(session, row, error) if row.state == SENDING else []
            outcome = row.state if error is None or row.state == FAILED else RETRIED
        self._outcomes.labels(outcome).inc()
        told = log.bind(id=letter.id, to=letter.to, channel=kind_of(letter.channel), attempt=item.attempt)
        if error is None:
            self._channels.written_down(letter.id)
            told.info("message delivered")
        else:
            told.warning("message not delivered", outcome=outcome, error=error)
        await self._tell((letter.id, *touched))

    async def _settle(self, session: AsyncSession, row: Message, error: str | None) -> list[str]:
        """Write down how the attempt ended; returns the other messages that this put in motion."""
        now = self._clock.now_ns()
        row.error = error
        if error is None:
            row.state, row.sent_ns, row.due_ns = DELIVERED, now, now
            return await self._repeat(session, row, now)
        # An answer may have come while this one was on its way.
        if not await self._waits_for_answer(session, row):
            row.state, row.due_ns = CANCELLED, now
            return []
        if row.attempts < ATTEMPTS:
            wait_s = min(FIRST_RETRY_S * 2 ** (row.attempts - 1), LONGEST_RETRY_S)
            row.state, row.due_ns = PENDING, now + round(wait_s * NS)
            in_vain = row.attempts == IN_VAIN and not await self._may_reach_somebody(session, row)
            return await self._hurry(session, row, now) if in_vain else []
        row.state, row.due_ns = FAILED, now
        in_vain = not await self._may_reach_somebody(session, row)
        return [*await self._hurry(session, row, now), *await self._repeat(session, row, now, in_vain=in_vain)]

    async def _may_reach_somebody(self, session: AsyncSession, row: Message) -> bool:
        """Whether another message of the step got out, or was not tried in vain yet."""
        tried = (Message.attempts > IN_VAIN) | ((Message.attempts == IN_VAIN) & (Message.state == PENDING))
        others = select(Message.id).where(
            Message.occurrence == row.occurrence,
            Message.round_ns == row.round_ns,
            Message.step == row.step,
            Message.repeat == row.repeat,
            Message.id != row.id,
            (Message.state == DELIVERED) | (Message.state.in_((PENDING, SENDING)) & ~tried),
        )
        return (await session.scalars(others.limit(1))).first() is not None

    async def _hurry(self, session: AsyncSession, row: Message, now: int) -> list[str]:
        """Make the next step of the call due at once: whoever this message was for will not hear of it."""
        call = (
            Message.occurrence == row.occurrence,
            Message.round_ns == row.round_ns,
            Message.state == PENDING,
            Message.step > row.step,
        )
        following = await session.scalar(select(func.min(Message.step)).where(*call))
        hurried = await session.scalars(
            update(Message)
            .where(*call, Message.step == following, Message.due_ns > now)
            .values(due_ns=now)
            .returning(Message.id)
            .execution_options(synchronize_session=False)
        )
        return list(hurried)

    async def _repeat(self, session: AsyncSession, row: Message, now: int, *, in_vain: bool = False) -> list[str]:
        """Plan the last step again, as long as somebody has yet to answer."""
        if not await self._waits_for_answer(session, row):
            return []
        last = _planned(await session.get_one(Occurrence, row.occurrence), row)
        return await put_in(session, follow_up(last, self._file, now, in_vain=in_vain))

    async def _instead(self, session: AsyncSession, row: Message) -> list[PlannedMessage] | None:
        """What takes the place of a message to an address that is no more, of whoever has it now; None: it is to go.

        What was planned since this process has its plant file was planned by one that may have a later one.
        """
        if (row.to_person, row.channel) in self._addresses:
            return None
        of = await session.get_one(Occurrence, row.occurrence)
        if max(of.committed_ns, row.round_ns) >= self._since_ns:
            return None
        step = (
            Message.occurrence == row.occurrence,
            Message.round_ns == row.round_ns,
            Message.step == row.step,
            Message.repeat == row.repeat,
        )
        # By whom they are for: where the point has moved to another place, what was planned there has other ids.
        found = await session.execute(select(Message.to_person, Message.channel).where(*step))
        there = {(person, channel) for person, channel in found}
        return [each for each in rerouted(_planned(of, row), self._file) if (each.to, each.channel) not in there]

    async def _reword(self, session: AsyncSession, rows: Sequence[Message], places: Mapping[str, str]) -> None:
        """Have later steps of a calling tell what it is about by now, which may be graver than as planned."""
        later = {row: places[row.id] for row in rows if row.step or row.repeat}
        asked = await asking(session, later.values(), self._file.notify)
        for row, place in later.items():
            words = reworded(row.body, asked[place], self._file)
            row.subject, row.body = words or (row.subject, row.body)

    async def _waits_for_answer(self, session: AsyncSession, row: Message) -> bool:
        return bool(await self._waiting_for_answer(session, [row]))

    async def _waiting_for_answer(self, session: AsyncSession, rows: Sequence[Message]) -> dict[str, str]:
        """Those of `rows` (ids) whose callings go on, with the place: a later one about it is not their business.

        Asked for all of them at once: nobody else writes meanwhile, and this process may have much else to do.
        """
        of = Occurrence
        ids = [row.occurrence for row in rows]
        found = await session.execute(select(of.id, func.coalesce(of.source, of.point)).where(of.id.in_(ids)))
        places: dict[str, str] = dict(found.all())
        called = await waiting(session, places.values(), self._file.notify)
        known = {row.id: places[row.occurrence] for row in rows if not row.answered and row.occurrence in places}
        return {message: place for message, place in known.items() if place in called}

    async def _tell(self, messages: Iterable[str]) -> None:
        try:
            for message in messages:
                await self._publish("notification", {"id": message})
        except (NatsError, OSError) as error:
            # What is committed is committed; listeners who missed it see it when they next fetch.
            log.warning("events not published", reason=str(error) or repr(error))


def _planned(of: Occurrence, row: Message) -> PlannedMessage:
    return PlannedMessage(
        id=row.id,
        chain=of.source or of.point,
        occurrence=row.occurrence,
        round_ns=row.round_ns,
        step=row.step,
        repeat=row.repeat,
        to=row.to_person,
        channel=row.channel,
        due_ns=row.due_ns,
        subject=row.subject,
        body=row.body,
        # An earlier release may have had other reasons.
        reason=next((known for known in RoutingReason if known == row.reason), RoutingReason.ESCALATED),
    )
