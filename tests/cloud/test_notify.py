"""The outbox worker over a real database: once each, again with patience, on to the next step, then silence."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, event, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase

from tests.cloud.api.stand_ins import PLANT, START_NS, HandClock, message, occurrence
from tests.cloud.rig import candidate, held
from tests.support.database import LASTING, PASSING, Make, failing
from tests.support.postgres import on_both
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.channels import ChannelError, Letter
from tocsin_cloud.adapters.lease import PATIENCE_S, LeaseLostError
from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import Message, Occurrence
from tocsin_cloud.loops import notify
from tocsin_cloud.loops.notify import AT_ONCE, ATTEMPTS, Notifier
from tocsin_cloud.loops.outbox import end_calls
from tocsin_core.plant import Plant, load_plant
from tocsin_core.routing import message_id

pytestmark = [pytest.mark.anyio, on_both]


@dataclass
class Post:
    """A way to people that can be broken, and that remembers what it took."""

    sent: list[Letter] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    broken: bool = False
    meanwhile: Callable[[], Awaitable[object]] | None = None
    of_letter: Callable[[Letter], Awaitable[object]] | None = None

    async def send(self, letter: Letter) -> None:
        """Take `letter`, or fail."""
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.of_letter is not None:
            await self.of_letter(letter)
        if self.broken:
            raise ChannelError("connection refused")
        self.sent.append(letter)

    def written_down(self, message: str) -> None:
        """Hear that the database knows that `message` got out."""
        self.known.append(message)


@dataclass
class Office:
    """The outbox worker under test with everything around it."""

    database: Database
    clock: HandClock
    post: Post
    notifier: Notifier
    told: list[object]
    plant: Plant

    async def put(self, *rows: DeclarativeBase) -> None:
        """Commit `rows`."""
        async with self.database.write() as session:
            session.add_all(rows)

    async def outbox(self) -> dict[tuple[int, int, str], Message]:
        """Return the messages by (step, repeat, person)."""
        async with self.database.read() as session:
            return {(row.step, row.repeat, row.to_person): row for row in await session.scalars(select(Message))}

    async def acknowledge(self, of: Occurrence) -> None:
        """Answer the alarm, without touching the outbox."""
        async with self.database.write() as session:
            (await session.get_one(Occurrence, of.id)).phase = "acknowledged"


@pytest.fixture
def anyio_backend() -> str:
    """Run the tests on asyncio."""
    return "asyncio"


@pytest.fixture
async def office(tmp_path: Path, sql_url: URL, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    """Return an outbox worker over an empty database; the plant calls wang at once and li after a minute."""
    # However slow the machine is, no service is.
    monkeypatch.setattr(notify, "SLOW_S", 60.0)
    (tmp_path / "north").mkdir()
    (tmp_path / "north" / "plant.yaml").write_text(PLANT, encoding="utf-8")
    database = await Database.open(sql_url)
    clock, post, told = HandClock(), Post(), list[object]()

    async def publish(kind: str, body: object) -> None:
        told.append((kind, body))

    lease = await held(database, "notify", clock)
    plant = load_plant(tmp_path / "north")
    notifier = Notifier(database, lease, post, publish, plant, clock, CollectorRegistry())
    yield Office(database, clock, post, notifier, told, plant)
    await database.close()


async def test_a_due_message_goes_out_once(office: Office) -> None:
    """It is sent, marked delivered with the time, told of, and never sent again; one that is not due waits."""
    raised = occurrence(1)
    await office.put(
        raised, message(1, raised), message(2, raised, to_person="li", step=1, due_ns=START_NS + 60 * 10**9)
    )
    assert await office.notifier.send_due() == 1
    assert await office.notifier.send_due() == 0
    assert [(letter.id, letter.to, letter.subject) for letter in office.post.sent] == [
        (f"{1:016x}", "wang", "北厂：氨浓度 高报")
    ]
    outbox = await office.outbox()
    first, second = outbox[0, 0, "wang"], outbox[1, 0, "li"]
    assert (first.state, first.sent_ns, first.attempts, first.error) == ("delivered", START_NS, 1, None)
    assert (second.state, second.attempts) == ("pending", 0)
    assert office.told == [("notification", {"id": f"{1:016x}"})]
    assert office.post.known == [f"{1:016x}"]


async def test_a_broken_way_is_tried_again_with_growing_patience(office: Office) -> None:
    """After a failure the message waits 2 s, then 4 s, keeps its error, and goes out when the way is back."""
    raised = occurrence(1)
    await office.put(raised, message(1, raised))
    office.post.broken = True
    for wait_s in (2, 4):
        assert await office.notifier.send_due() == 1
        waiting = (await office.outbox())[0, 0, "wang"]
        assert (waiting.state, waiting.error) == ("pending", "connection refused")
        assert waiting.due_ns == office.clock.now_ns() + wait_s * 10**9
        assert await office.notifier.send_due() == 0
        office.clock.move(wait_s)
    office.post.broken = False
    assert await office.notifier.send_due() == 1
    sent = (await office.outbox())[0, 0, "wang"]
    assert (sent.state, sent.attempts, sent.error) == ("delivered", 3, None)


async def test_a_call_that_reaches_nobody_goes_on_at_once(office: Office) -> None:
    """When two attempts of each message of a step failed the next step is due, and the first is tried on."""
    raised = occurrence(1)
    later = START_NS + 250 * 10**9
    ways = message(1, raised), message(3, raised, channel="json://x", to_person="zhao")
    await office.put(raised, *ways, message(2, raised, to_person="li", step=2, due_ns=later))
    office.post.broken = True
    for wait_s in (2, 4):
        assert (await office.outbox())[2, 0, "li"].due_ns == later
        assert await office.notifier.send_due() == 2
        office.clock.move(wait_s)
    outbox = await office.outbox()
    assert outbox[2, 0, "li"].due_ns == START_NS + 2 * 10**9
    assert {(each.state, each.attempts) for place, each in outbox.items() if place[0] == 0} == {("pending", 2)}
    office.post.broken = False
    assert await office.notifier.send_due() == 3
    assert {letter.to for letter in office.post.sent} == {"wang", "zhao", "li"}


async def test_who_cannot_be_reached_is_passed_over(office: Office) -> None:
    """Where the step has reached somebody else the next is due at once only when every attempt failed."""
    raised = occurrence(1)
    later = START_NS + 250 * 10**9
    second = message(2, raised, to_person="li", step=2, due_ns=later)
    await office.put(raised, message(1, raised), second, message(3, raised, to_person="zhao", state="delivered"))
    office.post.broken = True
    for _ in range(ATTEMPTS):
        assert (await office.outbox())[2, 0, "li"].due_ns == later
        assert await office.notifier.send_due() == 1
        office.clock.move(32)
    failed = (await office.outbox())[0, 0, "wang"]
    assert (failed.state, failed.attempts, failed.error) == ("failed", ATTEMPTS, "connection refused")
    office.post.broken = False
    assert await office.notifier.send_due() == 1
    assert [letter.to for letter in office.post.sent] == ["li"]


async def test_an_answer_silences_what_still_waits(office: Office) -> None:
    """A message whose alarm was acknowledged meanwhile is cancelled, not sent, even if nobody cancelled it before."""
    raised = occurrence(1)
    await office.put(raised, message(1, raised))
    await office.acknowledge(raised)
    await office.notifier.send_due()
    assert office.post.sent == []
    assert (await office.outbox())[0, 0, "wang"].state == "cancelled"


async def test_a_call_goes_on_until_somebody_answers(office: Office) -> None:
    """The last step is repeated after `repeat_s`, again and again, and ends with the acknowledgement."""
    raised = occurrence(1)
    await office.put(raised, message(2, raised, to_person="li", step=1))
    for repeat in range(3):
        assert await office.notifier.send_due() == 1
        planned = (await office.outbox())[1, repeat + 1, "li"]
        assert (planned.state, planned.due_ns) == ("pending", office.clock.now_ns() + 300 * 10**9)
        assert await office.notifier.send_due() == 0
        office.clock.move(300)
    assert len(office.post.sent) == 3
    await office.acknowledge(raised)
    await office.notifier.send_due()
    assert len(office.post.sent) == 3
    assert {row.state for row in (await office.outbox()).values()} == {"delivered", "cancelled"}


async def test_a_last_step_that_reached_nobody_is_repeated_within_a_minute(office: Office) -> None:
    """The way to people may be back any moment, and nobody knows of the alarm; whom one of it reached has his time."""
    unheard, heard = occurrence(1, source="a"), occurrence(2, source="b")
    await office.put(
        unheard, heard, message(1, unheard, to_person="li", step=1), message(2, heard, to_person="li", step=1),
        message(3, heard, to_person="wang", step=1, state="delivered"),
    )  # fmt: skip
    office.post.broken = True
    failed_ns = START_NS
    for _ in range(ATTEMPTS):
        failed_ns = office.clock.now_ns()
        assert await office.notifier.send_due() == 2
        office.clock.move(32)
    planned = {row.occurrence: row.due_ns - failed_ns for row in await _messages(office) if row.repeat}
    assert planned == {unheard.id: 60 * 10**9, heard.id: 300 * 10**9}
    office.post.broken = False
    office.clock.move(28)
    assert await office.notifier.send_due() == 1
    assert [(row.state, row.repeat) for row in await _messages(office) if row.occurrence == unheard.id] == [
        ("failed", 0), ("delivered", 1), ("pending", 2),
    ]  # fmt: skip


async def test_whoever_is_called_later_hears_of_what_is_graver_by_then(office: Office) -> None:
    """And of what waits, where what the calling began with was answered; else what was planned, reasons and all."""
    answered = occurrence(1, source="a", phase="acknowledged")
    second = {"zh": "压力 高报", "en": "Pressure high"}
    grave = {"zh": "氨浓度 高高报", "en": "Ammonia high-high"}
    body = "氨浓度 高报（首出：储罐） / Ammonia high (first out: tanks)"
    high, alike = occurrence(3, source="b"), occurrence(5, source="c")
    await office.put(
        answered, occurrence(2, source="a", message=second),
        high, occurrence(4, source="b", priority="critical", message=grave),
        alike, occurrence(6, source="c", message=second),
        *(message(n, of, to_person="li", step=1, body=body) for n, of in enumerate((answered, high, alike))),
        # What may have got out already is the same message when it is tried again.
        message(3, high, to_person="zhao", channel="outbox://", step=1, body=body, attempts=1),
    )  # fmt: skip
    assert await office.notifier.send_due() == 4
    of_a, of_b, of_c, tried = (letter.body for letter in sorted(office.post.sent, key=lambda letter: letter.id))
    assert of_a.splitlines()[0] == "压力 高报 / Pressure high"
    assert of_b.splitlines()[:2] == ["氨浓度 高报 / Ammonia high", "氨浓度 高高报 / Ammonia high-high"]
    assert of_c == tried == body
    assert office.post.sent[0].subject == "【北厂】压力 高报"
    assert {row.body for row in await _messages(office) if row.state == "delivered"} == {of_a, of_b, of_c}


async def test_a_first_step_is_not_repeated(office: Office) -> None:
    """Only the last step of the plant's chain calls again."""
    raised = occurrence(1)
    await office.put(raised, message(1, raised))
    await office.notifier.send_due()
    assert (await office.outbox()).keys() == {(0, 0, "wang")}


async def test_two_workers_share_one_outbox(office: Office) -> None:
    """What one of them is sending, the other leaves alone."""
    raised = occurrence(1)
    await office.put(raised, message(1, raised))
    found: list[int] = []

    async def other_worker() -> None:
        found.append(await office.notifier.send_due())

    office.post.meanwhile = other_worker
    assert await office.notifier.send_due() == 1
    assert found == [0]
    assert len(office.post.sent) == 1


async def test_a_worker_that_stood_still_sends_nothing_more(office: Office) -> None:
    """It has claimed a message when another takes the lease: that one leaves the claim alone until it is over."""
    first, second = (candidate(office.database, "post", office.clock) for _ in range(2))
    assert await first.take()

    async def stand_still(_kind: str, _body: object) -> None:
        assert not await second.take()
        office.clock.move(PATIENCE_S)
        assert await second.take()

    async def publish(_kind: str, _body: object) -> None: ...

    answered, raised = occurrence(1, phase="acknowledged", source="pumps"), occurrence(2)
    await office.put(answered, message(1, answered), raised, message(2, raised))
    workers = [
        Notifier(office.database, lease, office.post, tell, office.plant, office.clock, CollectorRegistry())
        for lease, tell in ((first, stand_still), (second, publish))
    ]
    with pytest.RaisesGroup(LeaseLostError):
        await workers[0].send_due()
    assert await workers[1].send_due() == 0
    assert office.post.sent == []
    office.clock.move(30)
    assert await workers[1].send_due() == 1
    assert [letter.id for letter in office.post.sent] == [f"{2:016x}"]


@pytest.mark.parametrize(("away_s", "waits_s"), [(PATIENCE_S, 60 - PATIENCE_S), (20_000.0, 0.0)])
async def test_an_escalation_goes_on_with_whoever_takes_over(office: Office, away_s: float, waits_s: float) -> None:
    """Its worker is gone between two steps: the second one goes out when it is due, or at once if it was meanwhile."""

    async def publish(_kind: str, _body: object) -> None: ...

    raised = occurrence(1)
    second = message(2, raised, to_person="li", step=1, due_ns=START_NS + 60 * 10**9)
    await office.put(raised, message(1, raised), second)
    assert await office.notifier.send_due() == 1
    lease = candidate(office.database, "notify", office.clock)
    assert not await lease.take()
    office.clock.move(away_s)
    assert await lease.take()
    another = Notifier(office.database, lease, office.post, publish, office.plant, office.clock, CollectorRegistry())
    if waits_s:
        assert await another.send_due() == 0
        office.clock.move(waits_s)
    assert await another.send_due() == 1
    assert [letter.to for letter in office.post.sent] == ["wang", "li"]


async def test_who_has_to_stop_writes_down_what_it_is_sending(office: Office) -> None:
    """A message on its way when its worker is told to end, or loses its lease, is not sent again by the next one."""
    raised = occurrence(1)
    await office.put(raised, message(1, raised))

    async def told_to_end() -> None:
        working.cancel()
        await asyncio.sleep(0)

    office.post.meanwhile = told_to_end
    working = asyncio.create_task(office.notifier.run())
    with pytest.raises(asyncio.CancelledError):
        await working
    office.clock.move(31)
    assert await office.notifier.send_due() == 0
    assert len(office.post.sent) == 1
    assert (await office.outbox())[0, 0, "wang"].state == "delivered"


@pytest.mark.parametrize("committed", [False, True])
async def test_a_database_that_fails_once_doubles_no_message(
    office: Office, monkeypatch: pytest.MonkeyPatch, *, committed: bool
) -> None:
    """How one message ended cannot be written, or is and nobody hears so: another one on its way is left to arrive."""
    write, failed = office.database.write, asyncio.Event()

    @asynccontextmanager
    async def fails_once() -> AsyncIterator[AsyncSession]:
        fails = bool(office.post.sent) and not failed.is_set()
        if fails:
            failed.set()
        if fails and not committed:
            raise DatabaseAwayError(None, None, ConnectionError("gone"))
        async with write() as session:
            yield session
        if fails:
            raise DatabaseAwayError(None, None, ConnectionError("gone"))

    started: list[None] = []

    async def the_second_waits() -> None:
        started.append(None)
        if len(started) > 1:
            await failed.wait()

    first, second = occurrence(1), occurrence(2, source="pumps")
    await office.put(first, second, message(1, first), message(2, second))
    office.post.meanwhile = the_second_waits
    monkeypatch.setattr(office.database, "write", fails_once)
    assert await office.notifier.send_due() == 2
    office.clock.move(31)
    assert await office.notifier.send_due() == 0
    assert failed.is_set()
    assert len(office.post.sent) == 2
    async with office.database.read() as session:
        assert {(row.state, row.attempts) for row in await session.scalars(select(Message))} == {("delivered", 1)}


async def test_a_clock_that_is_set_back_loses_doubles_and_delays_nothing(office: Office) -> None:
    """By an hour: what waits, and what a dead worker had claimed, goes out as long after as before, and once."""
    sent, waits, claimed, later = (occurrence(number, source=f"place {number}") for number in range(1, 5))
    await office.put(sent, message(1, sent))
    now_ns = office.clock.now_ns()
    await office.put(waits, message(2, waits, step=1, due_ns=now_ns + 60 * 10**9))
    await office.put(claimed, message(3, claimed, state="sending", attempts=1, due_ns=now_ns + 30 * 10**9))
    assert await office.notifier.send_due() == 1
    office.clock.set_back(3600)
    assert await office.notifier.send_due() == 0
    await office.put(later, message(4, later, due_ns=office.clock.now_ns()))
    assert await _went(office) == [(0, "4"), (30, "3"), (60, "2")]
    for _ in range(4):
        office.clock.move(900)
        await office.notifier.send_due()
    sent_once = [letter.id for letter in office.post.sent]
    assert len(sent_once) == len(set(sent_once)), "what was sent is sent again"


async def test_what_is_first_seen_after_the_clock_was_set_back_waits_no_longer_than_planned(office: Office) -> None:
    """The first call goes at once and the second step a minute later, though both are due in an hour by their rows."""
    raised = occurrence(1)
    now_ns = office.clock.now_ns()
    steps = (message(1, raised, due_ns=now_ns), message(2, raised, step=1, due_ns=now_ns + 60 * 10**9))
    await office.put(raised, *steps)
    office.clock.set_back(3600)
    assert await _went(office) == [(0, "1"), (60, "2")]


async def test_a_clock_that_is_corrected_calls_nobody_too_early(office: Office) -> None:
    """The notifier's clock was an hour ahead; the one who decides had the right time all along."""
    right_ns = office.clock.now_ns()
    office.clock.ns += 3600 * 10**9
    assert await office.notifier.send_due() == 0
    office.clock.set_back(3600)
    raised = occurrence(1)
    await office.put(raised, message(1, raised, step=1, due_ns=right_ns + 50 * 10**9))
    assert await _went(office) == [(50, "1")]


async def _went(office: Office) -> list[tuple[int, str]]:
    """Which messages go out within 70 s: after how many seconds, and the last digit of their ids."""
    went: list[tuple[int, str]] = []
    for second in range(0, 70, 10):
        before = len(office.post.sent)
        await office.notifier.send_due()
        went += [(second, letter.id[-1]) for letter in office.post.sent[before:]]
        office.clock.move(10)
    return went


async def test_no_failure_that_passes_ends_the_sending(
    office: Office, monkeypatch: pytest.MonkeyPatch, sql_url: URL
) -> None:
    """Each kind of them once as messages are looked for, and once as how one ended is written: each is sent once."""
    monkeypatch.setattr(notify, "POLL_S", 0.01)
    kinds = PASSING[sql_url.get_backend_name()]
    working = asyncio.create_task(office.notifier.run())
    for number, (error, late) in enumerate(product(kinds, (False, True)), 1):
        with ExitStack() as stack:
            failed: list[list[str]] = []

            async def fail(stack: ExitStack = stack, error: Make = error, failed: list[list[str]] = failed) -> None:
                failed.append(stack.enter_context(failing(office.database, error, 1)))

            raised = occurrence(number, source=f"place {number}")
            office.post.meanwhile = fail if late else None
            await office.put(raised, message(number, raised))
            if not late:
                await fail()
            await eventually_async(partial(_happened, failed))
        await eventually_async(partial(_delivered, office, number))
    assert not working.done()
    working.cancel()
    assert len(office.post.sent) == 2 * len(kinds)


def _happened(failed: list[list[str]]) -> bool:
    return any(failed)


async def _delivered(office: Office, messages: int) -> bool:
    async with office.database.read() as session:
        states = list(await session.scalars(select(Message.state)))
    return states == ["delivered"] * messages


@pytest.mark.parametrize("late", [False, True])
async def test_a_mistake_of_ours_ends_the_sending(office: Office, sql_url: URL, *, late: bool) -> None:
    """What trying again does not mend is no weather: the worker ends with it, as messages are looked for or written."""
    for number, error in enumerate(LASTING[sql_url.get_backend_name()], 1):
        with ExitStack() as stack:

            async def fail(stack: ExitStack = stack, error: Make = error) -> None:
                stack.enter_context(failing(office.database, error))

            raised = occurrence(number, source=f"place {number}")
            await office.put(raised, message(number, raised))
            office.post.meanwhile = fail if late else None
            if not late:
                await fail()
            with pytest.raises((DBAPIError, ExceptionGroup)) as ended:
                await office.notifier.run()
            assert ended.group_contains(DBAPIError) if late else not isinstance(ended.value, DatabaseAwayError)


async def test_an_answer_that_comes_during_a_failing_attempt_ends_it(office: Office) -> None:
    """Nobody is called again about an alarm that was acknowledged while a message could not get out."""
    raised = occurrence(1)
    await office.put(raised, message(1, raised))
    office.post.broken = True
    office.post.meanwhile = lambda: office.acknowledge(raised)
    await office.notifier.send_due()
    assert (await office.outbox())[0, 0, "wang"].state == "cancelled"


async def test_what_was_on_its_way_when_its_calling_ended_starts_nothing(office: Office) -> None:
    """Answered and asked again while a last step was on its way: the new calling repeats, the old one does not."""
    raised = occurrence(1)
    await office.put(raised, message(1, raised, to_person="li", step=1))

    async def answered_and_asked_again() -> None:
        async with office.database.write() as session:
            assert await end_calls(session, ["tanks"]) == []

    office.post.meanwhile = answered_and_asked_again
    assert await office.notifier.send_due() == 1
    assert [(row.state, row.answered) for row in (await office.outbox()).values()] == [("delivered", True)]


async def test_a_message_of_an_answered_calling_is_not_tried_again(office: Office) -> None:
    """Neither after a failure nor after its worker died: the alarm asks again, and a calling of its own tells so."""
    raised = occurrence(1)
    await office.put(
        raised,
        message(1, raised, answered=True, state="sending", attempts=1),
        message(2, raised, round_ns=7, to_person="li"),
    )
    await office.notifier.send_due()
    outbox = await office.outbox()
    assert (outbox[0, 0, "wang"].state, outbox[0, 0, "li"].state) == ("cancelled", "delivered")
    again = message(3, raised, round_ns=8)
    await office.put(again)
    office.post.broken = True

    async def answered() -> None:
        async with office.database.write() as session:
            await end_calls(session, ["tanks"])

    office.post.meanwhile = answered
    await office.notifier.send_due()
    async with office.database.read() as session:
        assert (await session.get_one(Message, again.id)).state == "cancelled"


async def test_a_failure_hurries_its_own_calling_alone(office: Office) -> None:
    """The next step of another calling about the same occurrence keeps its time."""
    raised = occurrence(1)
    later = START_NS + 3600 * 10**9
    await office.put(
        raised,
        message(1, raised, round_ns=7, attempts=ATTEMPTS - 1),
        message(2, raised, round_ns=7, to_person="li", step=1, due_ns=later),
        message(3, raised, round_ns=8, to_person="li", step=1, due_ns=later),
    )
    office.post.broken = True
    await office.notifier.send_due()
    async with office.database.read() as session:
        due = [(await session.get_one(Message, f"{number:016x}")).due_ns for number in (2, 3)]
    assert due == [office.clock.now_ns(), later]


async def test_a_hidden_alarm_calls_nobody(office: Office) -> None:
    """Shelved, out of service or suppressed by design: what waits is cancelled."""
    raised = occurrence(1, suppressed=True)
    await office.put(raised, message(1, raised))
    await office.notifier.send_due()
    assert (await office.outbox())[0, 0, "wang"].state == "cancelled"


async def test_a_repeat_belongs_to_its_calling(office: Office) -> None:
    """It carries the calling's round, so that the same repeat of another calling is another message."""
    raised = occurrence(1)
    await office.put(raised, message(1, raised, round_ns=7, to_person="li", step=1))
    await office.notifier.send_due()
    assert (await office.outbox())[1, 1, "li"].round_ns == 7


async def test_all_that_is_due_is_claimed_with_few_statements(office: Office) -> None:
    """Nobody else writes meanwhile: eight callings cost as many questions as one."""
    raised = [occurrence(number) for number in range(8)]
    await office.put(*raised, *(message(number, each) for number, each in enumerate(raised)))
    asked: list[str] = []

    def note(*told: Any) -> None:  # noqa: ANN401 -- as SQLAlchemy calls it
        asked.append(told[2])

    event.listen(Engine, "before_cursor_execute", note)
    taken, _ = await office.notifier._take()  # noqa: SLF001 -- what `send_due` does before it sends
    event.remove(Engine, "before_cursor_execute", note)
    assert len(taken) == len(raised)
    assert len([each for each in asked if "FROM occurrence" in each]) == 2


async def test_a_message_of_a_dead_worker_is_taken_again(office: Office) -> None:
    """Left in `sending` by a crash, it goes out under the same id when its lease is over, and not before."""
    raised = occurrence(1)
    lease_end = START_NS + 30 * 10**9
    await office.put(raised, message(1, raised, state="sending", attempts=1, due_ns=lease_end))
    assert await office.notifier.send_due() == 0
    office.clock.move(30)
    assert await office.notifier.send_due() == 1
    assert [letter.id for letter in office.post.sent] == [f"{1:016x}"]
    assert (await office.outbox())[0, 0, "wang"].attempts == 2


@pytest.mark.parametrize(
    "other", ["json://voice.example/li", "json://sms.example:81/li", "json://sms.example.org?to=li"]
)
async def test_a_service_that_hangs_holds_up_no_other(
    other: str, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call by another one, its name begin as it may, goes out though many were due before it.

    No more than a handful wait for the one that hangs.
    """
    monkeypatch.setattr(notify, "SLOW_S", 0.01)
    monkeypatch.setattr(notify, "POLL_S", 0.01)
    answers = asyncio.Event()

    async def hangs(letter: Letter) -> None:
        if letter.channel.startswith("json://sms.example/"):
            await answers.wait()

    office.post.of_letter = hangs
    raised = [occurrence(number, source=f"place {number}") for number in range(3 * AT_ONCE)]
    early = office.clock.now_ns() - 10**9
    stuck = [message(each, of, channel=f"json://sms.example/{each}", due_ns=early) for each, of in enumerate(raised)]
    voice = message(len(raised), raised[0], to_person="li", channel=other)
    await office.put(*raised, *stuck, voice)
    working = asyncio.create_task(office.notifier.run())
    expected = {"sending": AT_ONCE, "pending": 2 * AT_ONCE, "delivered": 1}

    async def only_these_wait() -> bool:
        return Counter(row.state for row in await _messages(office)) == expected

    await eventually_async(only_these_wait)
    answers.set()
    await eventually_async(partial(_delivered, office, len(raised) + 1))
    assert len({letter.id for letter in office.post.sent}) == len(office.post.sent) == len(raised) + 1
    working.cancel()


async def test_what_is_still_on_its_way_is_not_sent_beside_that(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its claim is over by a clock that was set forward."""
    monkeypatch.setattr(notify, "SLOW_S", 0.01)
    answers = asyncio.Event()
    office.post.meanwhile = answers.wait
    raised = occurrence(1)
    await office.put(raised, message(1, raised))
    assert await office.notifier.send_due() == 1
    office.clock.move(3600)
    assert await office.notifier.send_due() == 0
    answers.set()
    await eventually_async(lambda: office.post.known)
    await office.notifier.send_due()
    assert len(office.post.sent) == 1


async def test_no_more_than_a_handful_are_on_their_way_by_one_service(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However they came to be due one after the other."""
    monkeypatch.setattr(notify, "SLOW_S", 0.01)
    answers = asyncio.Event()
    office.post.meanwhile = answers.wait
    raised = [occurrence(number, source=f"place {number}") for number in range(AT_ONCE)]
    calls = [message(each, of, channel=f"json://sms.example/{each}") for each, of in enumerate(raised)]
    await office.put(*raised, *calls[:3])
    assert await office.notifier.send_due() == 3
    await office.put(*calls[3:], *(message(20 + each, of, to_person="li") for each, of in enumerate(raised)))
    await office.put(*(message(10 + each, of, channel="json://sms.example/li") for each, of in enumerate(raised)))
    for _ in range(4):
        await office.notifier.send_due()
    assert Counter(letter.channel.startswith("json://sms") for letter in office.notifier._under_way.values()) == {  # noqa: SLF001 -- nothing else tells
        True: AT_ONCE,
        False: AT_ONCE,
    }
    answers.set()
    await office.notifier.send_due()


async def test_what_was_answered_on_its_way_is_no_calling_that_goes_on(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing follows from it: who waits in its place by now is called anew."""
    monkeypatch.setattr(notify, "POLL_S", 0.01)
    waits, on_its_way = occurrence(1), occurrence(2, phase="acknowledged")
    going = message(2, on_its_way, state="sending", due_ns=START_NS + 10**12, answered=True)
    await office.put(waits, on_its_way, going)
    working = asyncio.create_task(office.notifier.run())
    (sent,) = await eventually_async(lambda: office.post.sent)
    assert sent.to == "wang"
    assert sent.id != going.id
    working.cancel()


async def test_a_calling_that_a_changed_plant_file_left_behind_goes_on(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began when there was one step: what was sent then is the first of two now, and nothing follows from it."""
    monkeypatch.setattr(notify, "POLL_S", 0.01)
    raised, answered = occurrence(1), occurrence(2, source="hall", phase="acknowledged")
    await office.put(raised, message(1, raised), answered, message(2, answered, state="delivered"))
    assert await office.notifier.send_due() == 1
    office.clock.move(1000)
    assert await office.notifier.send_due() == 0
    working = asyncio.create_task(office.notifier.run())
    await eventually_async(lambda: len(office.post.sent) == 2)
    first, second = await _again(office)
    assert (first.to_person, first.step, second.to_person, second.step) == ("wang", 0, "li", 1)
    assert second.due_ns == office.clock.now_ns() + 60 * 10**9
    assert {(row.occurrence, row.reason) for row in (first, second)} == {(raised.id, "nobody has acknowledged")}
    assert "氨浓度 高报 / Ammonia high" in first.body
    office.clock.move(60)
    await eventually_async(lambda: [letter.to for letter in office.post.sent] == ["wang", "wang", "li"])
    # The last step is to be repeated, and nobody is called beside that.
    for _ in range(3):
        office.clock.move(61)
        await eventually_async(partial(_looked, office))
    assert len(office.post.sent) == 3
    working.cancel()


async def test_who_is_called_is_not_called_beside_that(office: Office) -> None:
    """Nor is anybody of what is answered, hidden, or of less than the plant calls people for."""
    waits, on_its_way = occurrence(1), occurrence(2, source="hall")
    rest = [
        occurrence(3, source="a", phase="acknowledged"),
        occurrence(4, source="b", suppressed=True),
        occurrence(5, source="c", priority="medium"),
        occurrence(6, source="d", phase="normal"),
    ]
    later = message(1, waits, due_ns=START_NS + 10**12)
    await office.put(waits, later, on_its_way, message(2, on_its_way, state="sending", due_ns=START_NS + 10**12), *rest)
    working = asyncio.create_task(office.notifier.run())
    await eventually_async(partial(_looked, office))
    working.cancel()
    assert len(await _messages(office)) == 2


async def test_a_changed_address_holds_for_what_was_planned_before(office: Office) -> None:
    """Nobody calls the old number, of whoever has it now, nor him who is gone: whom the plant file names is called."""
    before = START_NS - 1
    first, second, third = (occurrence(number, source=f"place {number}", committed_ns=before) for number in (1, 2, 3))
    await office.put(
        first, second, third,
        message(1, first, channel="json://x"),
        message(2, second, to_person="sun", step=1, reason="nobody has acknowledged"),
        message(3, third, to_person="sun", step=2),
    )  # fmt: skip
    while await office.notifier.send_due():
        pass
    rows = await _messages(office)
    assert sorted((row.occurrence, row.to_person, row.channel, row.step) for row in rows if row.sent_ns) == [
        (first.id, "wang", "outbox://", 0), (second.id, "li", "outbox://", 1),
    ]  # fmt: skip
    assert [row.state for row in rows].count("cancelled") == 3
    assert {letter.to for letter in office.post.sent} == {"wang", "li"}


async def test_whoever_has_the_message_gets_no_second_one_for_somebody_else_s_address(office: Office) -> None:
    """What takes the place of a message is the step's own; that it was planned under another place makes no second."""
    raised = occurrence(1, committed_ns=START_NS - 1)
    planned = message_id("hall", raised.id, 0, 0, "wang", "outbox://")
    gone = message(2, raised, to_person="sun")
    await office.put(raised, message(1, raised, id=planned, state="delivered", sent_ns=START_NS), gone)
    assert await office.notifier.send_due() == 1
    assert await office.notifier.send_due() == 0
    assert office.post.sent == []


@pytest.mark.parametrize(("committed_ns", "round_ns"), [(START_NS, 0), (START_NS - 1, START_NS)])
async def test_a_message_of_somebody_who_has_a_later_plant_file_goes_where_it_was_planned_to(
    office: Office, committed_ns: int, round_ns: int
) -> None:
    """While processes are started anew one after the other, whoever sends may still have the earlier one."""
    raised = occurrence(1, committed_ns=committed_ns)
    await office.put(raised, message(1, raised, to_person="sun", channel="json://new", round_ns=round_ns))
    assert await office.notifier.send_due() == 1
    assert [(letter.to, letter.channel) for letter in office.post.sent] == [("sun", "json://new")]


async def _looked(office: Office) -> bool:
    return office.notifier._resume_at > office.clock.monotonic()  # noqa: SLF001 -- nothing else tells


async def _again(office: Office) -> list[Message]:
    return [row for row in await _messages(office) if row.round_ns]


async def _messages(office: Office) -> list[Message]:
    async with office.database.read() as session:
        return list(await session.scalars(select(Message).order_by(Message.step)))
