"""A gateway that decides its alarms, on a real stream: its journal taken in once, its orders sent until answered."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.cloud.deciding import NEW_SPOOL, DecidingGateway, minutes, pause
from tests.cloud.rig import GATEWAY, SITE, CloudProcess, broker, now_ms, plant_folder
from tests.cloud.test_alarms import Rig
from tests.support.sqlite import with_tables
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.snapshot import earlier
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import connect, ensure_stream, publish_tick
from tocsin_cloud.loops.aside import BESIDE, UNKNOWN
from tocsin_cloud.loops.commanded import NAMED, note_commands
from tocsin_cloud.loops.delegation import GatewayOrder
from tocsin_cloud.loops.orders import MOST, OrderParts, keep_ordering, put_orders
from tocsin_cloud.settings import StreamSettings
from tocsin_core.clock import SystemClock
from tocsin_core.engine import occurrence_id
from tocsin_core.journal import Entry, Order, decode
from tocsin_core.lifecycle import Event, Phase, Verb
from tocsin_core.plant import load_plant
from tocsin_core.readings import EARLIEST_NS
from tocsin_core.rules import NS

Story = Callable[[Rig, DecidingGateway], Awaitable[None]]


def tell(folder: Path, story: Story) -> None:
    """Run a story with a worker at work and a gateway that decides and is connected."""

    async def run() -> None:
        async with rig(folder) as (r, gateway), ordering(r):
            await story(r, gateway)

    asyncio.run(run())


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[tuple[Rig, DecidingGateway]]:
    """Everything but the worker, with a gateway that decides and is not connected yet."""
    async with broker(folder / "nats") as (server, settings):
        client = await connect(server.url, "test")
        await ensure_stream(client, StreamSettings(max_bytes=1 << 28))
        database = await Database.open(with_tables(folder / "db"))
        gateway = DecidingGateway(settings.mqtt)
        try:
            r = Rig(folder, client, database, gateway)
            gateway.on(r.plant)
            yield r, gateway
        finally:
            await database.close()
            await client.close()


@asynccontextmanager
async def ordering(r: Rig) -> AsyncIterator[None]:
    """A worker at work, and the loop that sends its orders."""
    async with r.working():
        parts = OrderParts(r.client, r.database, r.live, r.metrics, SystemClock(), r.ordered, r.lease)
        sending = asyncio.create_task(keep_ordering(parts))
        try:
            yield
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending


async def soon(predicate: Callable[[], object]) -> None:
    """Wait until it is so, however slow the machine."""
    await eventually_async(predicate, 60)


async def steps(r: Rig) -> list[tuple[str, str]]:
    """What happened, in order: event and the phase after it."""
    return [(row.event, row.phase_to) for row in await r.all(sql.Transition)]


async def told_beside(r: Rig, occurrence: str) -> list[tuple[str, int]]:
    """The gateway's own steps of an occurrence: event and time."""
    rows = await r.all(sql.Transition)
    return [(row.event, row.time_ns) for row in rows if row.occurrence == occurrence and row.reason == BESIDE]


async def journal(r: Rig) -> sql.GatewayJournal | None:
    """How far the gateway's journal is taken in."""
    async with r.database.read() as session:
        return await session.get(sql.GatewayJournal, GATEWAY)


async def committed(r: Rig, gateway: DecidingGateway) -> None:
    """Wait until all of the gateway's journal is committed, and it knows."""
    await soon(lambda: gateway.journal_committed == gateway.journal_newest)
    row = await journal(r)
    assert row is not None
    assert row.position == gateway.journal_newest


def test_the_gateway_alone_raises_and_returns_and_each_is_recorded_once(tmp_path: Path) -> None:
    """The readings go up as well and raise nothing; what comes again is counted and answered again, no more."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        async with gateway.connected():
            for value in (60.0, 10.0, 70.0):
                await gateway.read(value)
                await pause()
            await committed(r, gateway)
            told = await steps(r)
            assert told == [
                ("raise", "unacknowledged"),
                ("return", "returned-unacknowledged"),
                ("raise", "unacknowledged"),
            ]
            answers, repeated = len(gateway.said_committed), counted(r, "repeated")
            await gateway.send_journal(NEW_SPOOL + 1)
            await soon(lambda: len(gateway.said_committed) > answers)
            assert gateway.said_committed[-1] == gateway.journal_newest
            assert await steps(r) == told
            assert counted(r, "repeated") == (repeated or 0) + 3
            onset = int(gateway.state.onset_ns[gateway.rules.index["P1/H"]])
            rows = {row.id: row for row in await r.all(sql.Occurrence)}
            assert rows[occurrence_id("P1/H", onset)].phase == "unacknowledged"
            assert [row.latency_ns is not None for row in await r.all(sql.Transition)] == [True] * 3
            assert len({message.occurrence for message in await r.all(sql.Message)}) == 1

    tell(tmp_path, story)


def test_what_was_decided_while_nobody_heard_is_recorded_with_its_own_times(tmp_path: Path) -> None:
    """First the journal, then what the spool kept; people are called once, for what still waits for an answer."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        async with gateway.connected():
            await soon(lambda: gateway.said_committed)
        began = now_ms() - 600_000
        for number, value in enumerate((60.0, 10.0, 60.0, 10.0)):
            gateway.judge(value, began + 60_000 * number)
        async with gateway.connected():
            await committed(r, gateway)
            rows = await r.all(sql.Transition)
            assert [(row.event, row.time_ns // 1_000_000 - began) for row in rows] == [
                ("raise", 0),
                ("return", 60_000),
                ("raise", 120_000),
                ("return", 180_000),
            ]
            assert all(row.latency_ns is None for row in rows)
            assert len(await r.all(sql.Message)) == 1
            assert len(await r.all(sql.Ticket)) == 1

    tell(tmp_path, story)


def test_an_order_is_obeyed_here_at_once_and_sent_until_the_gateway_answers(tmp_path: Path) -> None:
    """A gateway that does not hear is asked again; its answer ends that, and makes no second transition."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        gateway.deaf = True
        async with gateway.connected():
            await gateway.read(60.0)
            await committed(r, gateway)
            answer = await r.command("ack")
            assert (answer.accepted, await r.phase()) == (True, "acknowledged")
            (order,) = await r.all(sql.GatewayOrder)
            assert (order.state, order.alarm, order.id) == ("waiting", "P1/H", answer.id)
            gateway.deaf = False
            await soon(lambda: order_state(r, answer.id, "done"))
            assert gateway.obeyed == [answer.id]
            assert await steps(r) == [("raise", "unacknowledged"), ("acknowledge", "acknowledged")]
            await gateway.read(10.0)
            await committed(r, gateway)
            assert await r.phase() == "normal"

    tell(tmp_path, story)


def test_what_is_commanded_at_the_gateway_is_in_the_audit_log_once(tmp_path: Path) -> None:
    """Who pressed, upon what; a journal that is sent again adds no entry, nor does the answer to an order of here."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        async with gateway.connected():
            await gateway.read(60.0)
            await gateway.ask(Verb.ACKNOWLEDGE)
            await gateway.ask(Verb.OUT_OF_SERVICE, reason="calibration")
            await committed(r, gateway)
            answer = await r.command("in-service")
            await soon(lambda: order_state(r, answer.id, "done"))
            await gateway.send_journal(NEW_SPOOL + 1)
            await committed(r, gateway)
            acknowledged, hidden = (each for each in await r.all(sql.Transition) if each.who == "button")
            kept = [(each.who, each.origin, each.action, each.target, each.outcome) for each in await r.all(sql.Audit)]
            assert kept == [
                ("button", "gateway", "alarm.ack", GATEWAY, "done"),
                ("button", "gateway", "alarm.out-of-service", GATEWAY, "done"),
            ]
            details = [json.loads(each.detail) for each in await r.all(sql.Audit)]
            assert [(each["alarms"], each["count"], each.get("reason")) for each in details] == [
                ("P1/H", 1, None),
                ("P1/H", 1, "calibration"),
            ]
            times = [datetime.fromisoformat(each["commanded_at"]).timestamp() for each in details]
            assert times == pytest.approx([acknowledged.time_ns / NS, hidden.time_ns / NS], abs=0.002)

    tell(tmp_path, story)


def test_one_press_upon_many_alarms_is_one_entry_of_the_audit_log(tmp_path: Path) -> None:
    """What a flood of alarms is answered with names the first of them, and says how many they were."""

    async def story() -> list[sql.Audit]:
        database = await Database.open(with_tables(tmp_path / "db"))
        try:
            pressed = [Entry(f"P{n}/H", Event.ACKNOWLEDGE, NS, Phase.ACKNOWLEDGED, NS, who="yard") for n in range(500)]
            async with database.write() as session:
                await note_commands(session, GATEWAY, pressed, 2 * NS)
            async with database.read() as session:
                return list((await session.scalars(select(sql.Audit))).all())
        finally:
            await database.close()

    (entry,) = asyncio.run(story())
    detail = json.loads(entry.detail)
    assert detail["count"] == 500
    assert detail["alarms"] == ", ".join(f"P{n}/H" for n in range(NAMED))


def test_who_is_called_since_a_shelf_ended_is_called_on_when_the_gateway_carries_it_out(tmp_path: Path) -> None:
    """It was ordered during a cut, and is over when it is heard of there: here nothing moves any more."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        gateway.deaf = True
        async with gateway.connected():
            await gateway.read(60.0)
            await committed(r, gateway)
            answer = await r.command("shelve", duration_s=1)

            async def off_the_shelf() -> bool:
                await publish_tick(r.client, SITE)
                return await called(r, "an unacknowledged alarm came off the shelf")

            await soon(off_the_shelf)
            before = await steps(r)
            gateway.deaf = False
            await soon(lambda: order_state(r, answer.id, "done"))
            assert [decode(body).event for body in gateway.entries.values()] == [Event.RAISE, Event.SHELVE]
            assert await steps(r) == before
            assert await called(r, "an unacknowledged alarm came off the shelf")

    tell(tmp_path, story)


def test_orders_whose_answers_were_lost_hold_up_no_others(tmp_path: Path) -> None:
    """The gateway has obeyed them and says no more of them, more of them than go into one message; the rest is sent.

    Once it says that it carried them out before they are done, and what was said meanwhile stands.
    """

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        async with gateway.connected():
            await gateway.read(60.0)
            await committed(r, gateway)
            stale = [Order(f"lost-{each}", Verb.SHELVE, "P1/H", EARLIEST_NS + each, "li") for each in range(MOST)]
            gateway.obeyed += [order.id for order in stale]
            async with r.database.write() as session:
                await put_orders(session, [GatewayOrder(GATEWAY, order) for order in stale])
            answer = await r.command("ack")
            await soon(lambda: order_state(r, answer.id, "done"))
            assert gateway.obeyed[-1] == answer.id
            gateway.again = True
            await soon(lambda: order_state(r, "lost-0", "done"))
            assert await r.phase() == "acknowledged"

    tell(tmp_path, story)


def test_an_order_that_the_gateway_refuses_is_taken_back_here(tmp_path: Path) -> None:
    """It had returned there, and was acknowledged, before the order came: there is nothing to take back."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        gateway.deaf = True
        async with gateway.connected():
            await gateway.read(60.0)
            await gateway.ask(Verb.ACKNOWLEDGE)
            await committed(r, gateway)
            gateway.judge(10.0, now_ms() + 1)
            answer = await r.command("unacknowledge")
            assert (answer.accepted, await r.phase()) == (True, "unacknowledged")
            gateway.deaf = False
            await soon(lambda: order_state(r, answer.id, "refused"))
            assert await r.phase() == "normal"
            assert gateway.state.phase[gateway.rules.index["P1/H"]] == 0

    tell(tmp_path, story)


def test_entries_that_come_too_early_wait_and_those_that_never_come_are_counted(tmp_path: Path) -> None:
    """A gap is not passed over before the gateway says that nothing will fill it."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        async with gateway.connected():
            await gateway.read(60.0)
            await committed(r, gateway)
            known = gateway.journal_newest
            for value in (10.0, 60.0, 10.0):
                await gateway.read(value, tell=False)
                await pause()
            answers = len(gateway.said_committed)
            await gateway.send_journal(known + 3)
            await soon(lambda: len(gateway.said_committed) > answers)
            assert gateway.said_committed[-1] == known
            assert len(await steps(r)) == 1
            for number in (known + 1, known + 2):
                del gateway.entries[number]
            await gateway.send_journal(known + 3, oldest=known + 3)
            await committed(r, gateway)
            row = await journal(r)
            assert row is not None
            assert row.lost == 1
            assert counted(r, "lost") == 1
            # What is missing is made up for: no occurrence stays open.
            assert {row.phase for row in await r.all(sql.Occurrence)} == {"normal", "returned-unacknowledged"}

    tell(tmp_path, story)


def test_a_gateway_that_decides_no_longer_leaves_it_to_the_cloud_side(tmp_path: Path) -> None:
    """Born without a journal: what stood stands, returns by the readings, and no order waits for ever."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        gateway.deaf = True
        async with gateway.connected():
            await gateway.read(60.0)
            await committed(r, gateway)
            answer = await r.command("shelve", duration_s=600)
        gateway.decides = False
        async with gateway.connected():
            await soon(lambda: order_state(r, answer.id, "refused"))
            await gateway.send({0: 10.0})
            await soon(lambda: phase_is(r, "returned-unacknowledged"))
            assert [event for event, _ in await steps(r)] == ["raise", "shelve", "return"]

    tell(tmp_path, story)


def test_while_the_plant_files_differ_both_ends_judge_and_know_the_same_occurrences(tmp_path: Path) -> None:
    """Nothing of the journal is lost, even what was over before it came; nothing is doubled, nobody called twice."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        gateway.differs = True
        async with gateway.connected():
            await gateway.read(60.0)
            await committed(r, gateway)
            # The gateway may not know of today's limit: the readings are judged here as well.
            answer = await r.command("ack")
            await soon(lambda: order_state(r, answer.id, "done"))
            assert gateway.state.phase[gateway.rules.index["P1/H"]] == Phase.ACKNOWLEDGED
            await gateway.read(10.0)
            await committed(r, gateway)
            known = [("raise", "unacknowledged"), ("acknowledge", "acknowledged"), ("return", "normal")]
            assert await steps(r) == known
        for value in (60.0, 10.0, 60.0):
            await pause()
            gateway.judge(value, now_ms())
        async with gateway.connected():
            await pause()
            await gateway.read(60.0)
            await committed(r, gateway)
        gateway.differs = False
        async with gateway.connected():
            await pause()
            await gateway.read(10.0)
            await committed(r, gateway)
            rows = await r.all(sql.Transition)
            entries = [decode(body) for body in gateway.entries.values()]
            told = [(entry.event.text, entry.time_ns) for entry in entries if entry.event is not None]
            # What the birth told may be committed before the journal is heard, which tells of earlier times.
            assert [(row.event, row.time_ns) for row in sorted(rows, key=lambda row: row.time_ns)] == told
            assert [row.event for row in rows].count("raise") == 3
            # What was over already when the birth told the last reading is history alone: its raising and its return.
            assert counted(r, "unheeded") == 2
            calls = [(message.occurrence, message.round_ns) for message in await r.all(sql.Message)]
            assert len(calls) == len(set(calls)) == 2

    tell(tmp_path, story)


def test_what_the_birth_told_before_the_journal_is_the_gateways_occurrence_all_the_same(tmp_path: Path) -> None:
    """It stands since an earlier reading there: people are called once, and either end's answer holds at both."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        gateway.differs = True
        number = gateway.rules.index["P1/H"]
        for answer in ("there", "here"):
            for value in (60.0, 60.0):
                await pause()
                gateway.judge(value, now_ms())
            async with gateway.connected():
                await committed(r, gateway)
                (standing,) = [row for row in await r.all(sql.Occurrence) if row.phase == "unacknowledged"]
                assert await told_beside(r, standing.id) == [("raise", int(gateway.state.onset_ns[number]))]
                calls = [message for message in await r.all(sql.Message) if message.state != "cancelled"]
                assert len(calls) == 1
                if answer == "there":
                    await gateway.ask(Verb.ACKNOWLEDGE)
                else:
                    told = await r.command("ack")
                    await soon(partial(order_state, r, told.id, "done"))
                await committed(r, gateway)
                assert gateway.state.phase[number] == Phase.ACKNOWLEDGED
                assert [row.phase for row in await r.all(sql.Occurrence) if row.id == standing.id] == ["acknowledged"]
                await pause()
                await gateway.read(10.0)
                await committed(r, gateway)
        assert counted(r, "unheeded") == 0

    tell(tmp_path, story)


def test_an_answer_given_after_a_restart_reaches_a_gateway_whose_plant_file_differs(tmp_path: Path) -> None:
    """The worker goes on from its snapshot, before the gateway is born again: its siren is on."""

    async def run() -> None:
        async with rig(tmp_path) as (r, gateway):
            gateway.differs = True
            async with gateway.connected():
                async with ordering(r):
                    await gateway.read(60.0)
                    await committed(r, gateway)
                gateway.names.clear()
                async with ordering(r):
                    # Whoever takes over says again as what it is known.
                    await soon(lambda: gateway.names)
                    answer = await r.command("ack")
                    await soon(lambda: order_state(r, answer.id, "done"))
                    assert gateway.state.phase[gateway.rules.index["P1/H"]] == Phase.ACKNOWLEDGED

    asyncio.run(run())


def test_what_is_shown_again_here_is_shown_again_at_a_gateway_whose_plant_file_differs(tmp_path: Path) -> None:
    """Hidden there its siren would be still, and once the files are alike its next word would hide it here again."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        gateway.differs = True
        async with gateway.connected():
            at_ns = SystemClock().now_ns()
            await gateway.ask(Verb.SHELVE, reason="there", until_ns=at_ns + minutes(10))
            await gateway.ask(Verb.OUT_OF_SERVICE, reason="there")
            await committed(r, gateway)
            assert [event for event, _ in await steps(r)] == ["shelve", "out-of-service"]
            for verb in ("unshelve", "in-service"):
                answer = await r.command(verb)
                await soon(lambda: order_state(r, answer.id, "done"))  # noqa: B023 -- awaited at once
        gateway.differs = False
        async with gateway.connected():
            await gateway.read(60.0)
            await committed(r, gateway)
            (raised,) = await r.all(sql.Occurrence)
            assert (raised.phase, raised.suppressed) == ("unacknowledged", False)

    tell(tmp_path, story)


def test_a_limit_that_is_stricter_here_counts_before_the_gateway_has_it(tmp_path: Path) -> None:
    """The readings raise it here; what the gateway raises later by its own limit is the same, and is answered there."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        gateway.differs = True
        async with gateway.connected():
            await gateway.send({0: 60.0})
            await soon(lambda: phase_is(r, "unacknowledged"))
            await pause()
            await gateway.read(70.0)
            await committed(r, gateway)
            (standing,) = await r.all(sql.Occurrence)
            onset_ns = int(gateway.state.onset_ns[gateway.rules.index["P1/H"]])
            assert await told_beside(r, standing.id) == [("raise", onset_ns)]
            await soon(lambda: gateway.names == {onset_ns: standing.raised_ns})
            assert [event for event, _ in await steps(r)] == ["raise", "raise"]
            assert len(await r.all(sql.Message)) == 1
            await gateway.ask(Verb.ACKNOWLEDGE)
            await committed(r, gateway)
            assert await r.phase() == "acknowledged"

    tell(tmp_path, story)


def test_what_the_journal_tells_of_alarms_that_are_unknown_here_is_history(tmp_path: Path) -> None:
    """The plant file has them no more, or never had: each step is recorded once, closed, counted, and calls nobody."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        gateway.differs = True
        began = now_ms() * 1_000_000 - 60 * NS
        raised = Entry("P1/LL", Event.RAISE, began, Phase.UNACKNOWLEDGED, began, value=-3.0)
        returned = replace(raised, event=Event.RETURN, time_ns=began + NS, phase=Phase.RETURNED_UNACKNOWLEDGED)
        pressed = replace(returned, event=Event.ACKNOWLEDGE, time_ns=began + 2 * NS, phase=Phase.NORMAL, who="ACK")
        async with gateway.connected():
            await gateway.read(10.0)
            for entry in (raised, returned, pressed, pressed):
                gateway.note(entry)
            gateway.note(replace(raised, alarm="NOBODYS/of-tomorrow"))
            await gateway.send_journal()
            await committed(r, gateway)
            (row,) = await r.all(sql.Occurrence)
            assert row.id == occurrence_id("P1/LL", began)
            assert (row.phase, row.returned_ns, row.acknowledged_by, row.value) == ("normal", began + NS, "ACK", -3.0)
            assert [
                (each.event, each.phase_from, each.phase_to, each.reason) for each in await r.all(sql.Transition)
            ] == [
                ("raise", "normal", "unacknowledged", UNKNOWN),
                ("return", "unacknowledged", "returned-unacknowledged", UNKNOWN),
                ("acknowledge", "returned-unacknowledged", "normal", UNKNOWN),
                ("raise", "normal", "unacknowledged", UNKNOWN),
            ]
            assert counted(r, "unheeded") == 5
            assert await r.all(sql.Message) == []

    tell(tmp_path, story)


def test_what_stood_at_the_gateway_while_it_stood_here_is_no_other_occurrence(tmp_path: Path) -> None:
    """Also where the journal tells it after a later one was found here: live readings go before it, and come first."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        gateway.differs = True
        began = now_ms() - 30_000
        at = [(began + 1000 * second) * 1_000_000 for second in range(9)]
        raised = Entry("P1/H", Event.RAISE, at[1] - NS // 2, Phase.UNACKNOWLEDGED, at[1] - NS // 2, value=60.0)
        returned = replace(
            raised, event=Event.RETURN, time_ns=at[2] + 1, phase=Phase.RETURNED_UNACKNOWLEDGED, value=10.0
        )
        before = replace(raised, time_ns=at[0] - 9 * NS, onset_ns=at[0] - 9 * NS)
        over = replace(returned, time_ns=at[0] - 8 * NS, onset_ns=before.onset_ns)
        async with gateway.connected():
            for second, value in enumerate((10.0, 60.0, 10.0, 60.0, 60.0)):
                await gateway.send({0: value}, time_ms=began + 1000 * second)

            async def judged() -> bool:
                return [event for event, _ in await steps(r)] == ["raise", "return", "raise"]

            await eventually_async(judged)
            for entry in (before, over, raised, returned):
                gateway.note(entry)
            await gateway.send_journal()
            await committed(r, gateway)
            rows = {row.raised_ns: row.returned_ns for row in await r.all(sql.Occurrence)}
            assert rows == {before.onset_ns: over.time_ns, at[1]: at[2], at[3]: None}
            assert await told_beside(r, occurrence_id("P1/H", at[1])) == [
                ("raise", raised.time_ns),
                ("return", returned.time_ns),
            ]
            gateway.note(replace(returned, event=Event.ACKNOWLEDGE, time_ns=at[8], phase=Phase.NORMAL, who="ACK"))
            await gateway.send_journal()
            await committed(r, gateway)
            assert len(await r.all(sql.Occurrence)) == len(rows)

    tell(tmp_path, story)


def test_readings_that_long_say_otherwise_than_the_journal_raise_it_here_and_are_counted(tmp_path: Path) -> None:
    """Beyond the limit for longer than the delay and ten seconds, and no word of it; that is of the same occurrence."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        def differ() -> float | None:
            return r.metrics.registry.get_sample_value("tocsin_disagreements", {"gateway": GATEWAY})

        began = now_ms() - 30_000
        async with gateway.connected():
            for second in (0, 15, 29):
                gateway.judge(60.0, began + 1000 * second)
                await gateway.send({0: 60.0}, time_ms=began + 1000 * second)
            await soon(lambda: differ() == 1)
            assert await steps(r) == [("raise", "unacknowledged")]
            await gateway.send_journal()
            await soon(lambda: differ() == 0)
            assert await steps(r) == [("raise", "unacknowledged"), ("raise", "unacknowledged")]
            (row,) = await r.all(sql.Occurrence)
            assert (row.id, row.phase) == (occurrence_id("P1/H", (began + 15_000) * 1_000_000), "unacknowledged")

    tell(tmp_path, story)


def test_what_was_shelved_before_the_gateway_decided_is_shelved_there_too(tmp_path: Path) -> None:
    """It begins with nothing hidden; it is told, and the shelf here holds meanwhile."""

    async def story(r: Rig, gateway: DecidingGateway) -> None:
        gateway.decides = False
        async with gateway.connected():
            await gateway.send({0: 10.0})
            await r.command("shelve", duration_s=600)
        gateway.decides = True
        async with gateway.connected():
            await soon(lambda: gateway.obeyed)
            number = gateway.rules.index["P1/H"]
            until_ns = int(gateway.state.shelved_until_ns[number])
            assert 0 < until_ns - SystemClock().now_ns() < minutes(10)
            await committed(r, gateway)
            (state,) = await r.all(sql.AlarmState)
            assert state.shelved_until_ns == until_ns
            assert [event for event, _ in await steps(r)] == ["shelve"]

    tell(tmp_path, story)


def test_what_the_gateway_may_decide_no_longer_is_decided_here(tmp_path: Path) -> None:
    """The plant file changed: another gateway's point suppresses the alarm now, before the gateway is born again."""

    async def run() -> None:
        async with rig(tmp_path) as (r, gateway), gateway.connected():
            async with r.working():
                await gateway.read(10.0)
                await soon(lambda: gateway.said_committed)
            changed = tmp_path / "changed"
            changed.mkdir()
            text = (tmp_path / "plant" / "plant.yaml").read_text(encoding="utf-8")
            suppressed = text.replace(
                "H: {setpoint: 50, deadband: 5", "H: {suppressed_by: {point: X1, above: 5}, setpoint: 50, deadband: 5"
            )
            (changed / "plant.yaml").write_text(suppressed, encoding="utf-8")
            r.plant = load_plant(changed)
            async with r.working():
                await gateway.send({0: 60.0})
                await soon(lambda: phase_is(r, "unacknowledged"))

    asyncio.run(run())


def test_people_are_called_of_what_stood_at_the_gateway_before_this_end_had_that_alarm(tmp_path: Path) -> None:
    """The plant file came to the gateway first: nobody was called of it there; now they are, once, and can answer."""

    async def run() -> None:
        async with rig(tmp_path) as (r, gateway):
            whole, lacking = r.plant, tmp_path / "lacking"
            lacking.mkdir()
            text = (tmp_path / "plant" / "plant.yaml").read_text(encoding="utf-8")
            high = "H: {setpoint: 50, deadband: 5, off_delay_s: 0, priority: high}, "
            (lacking / "plant.yaml").write_text(text.replace(high, ""), encoding="utf-8")
            r.plant = load_plant(lacking)
            async with r.working(), gateway.connected():
                await gateway.read(60.0)
                await committed(r, gateway)
                assert await r.all(sql.Message) == []
            r.plant = whole
            for _ in range(2):
                async with ordering(r), gateway.connected():
                    await soon(lambda: phase_is(r, "unacknowledged"))
            (message,) = await r.all(sql.Message)
            onset_ns = int(gateway.state.onset_ns[gateway.rules.index["P1/H"]])
            assert (message.occurrence, message.state) == (occurrence_id("P1/H", onset_ns), "pending")
            async with ordering(r), gateway.connected():
                answer = await r.command("ack")
                await soon(lambda: order_state(r, answer.id, "done"))
                assert gateway.state.phase[gateway.rules.index["P1/H"]] == Phase.ACKNOWLEDGED
            (message,) = await r.all(sql.Message)
            assert message.state == "cancelled"

    asyncio.run(run())


def test_a_worker_without_its_snapshot_takes_the_same_journal_from_the_stream(tmp_path: Path) -> None:
    """Repeats in the stream are repeats again, and the alarm goes on where it was."""

    async def run() -> None:
        async with rig(tmp_path) as (r, gateway), gateway.connected():
            async with r.working():
                await gateway.read(60.0)
                await committed(r, gateway)
                await gateway.send_journal(NEW_SPOOL + 1)
                await gateway.read(10.0)
                await committed(r, gateway)
            before = await steps(r)
            for each in (tmp_path / "s.npz", earlier(tmp_path / "s.npz")):
                each.unlink(missing_ok=True)
            async with r.working():
                await gateway.read(60.0)
                await committed(r, gateway)
                assert await steps(r) == [*before, ("raise", "unacknowledged")]

    asyncio.run(run())


def test_kill_9_loses_and_doubles_nothing_of_the_journal(tmp_path: Path) -> None:
    """The process is killed while the journal streams in, three times; each entry is one transition."""

    async def run() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            folder = plant_folder(tmp_path / "plant")
            cloud = CloudProcess(folder, tmp_path / "data", server.url, settings.mqtt)
            gateway = DecidingGateway(settings.mqtt).on(load_plant(folder))
            cloud.start()
            try:
                await cloud.until_ready()
                async with gateway.connected():
                    for kill in range(3):
                        for _ in range(25):
                            for value in (90.0, 10.0):
                                await gateway.read(value)
                                await pause()
                        if kill < 2:
                            cloud.end(signal.SIGKILL)
                            cloud.start()
                    await soon(lambda: resent(gateway))
                    counts: list[Any] = cloud.rows("SELECT event, count(*) FROM transition GROUP BY event")
                    assert sorted(counts) == [("raise", 75), ("return", 75)]
                    assert cloud.rows("SELECT count(*) FROM occurrence") == [(75,)]
                    assert cloud.rows("SELECT position, lost FROM gateway_journal") == [(gateway.journal_newest, 0)]
                    assert cloud.rows("SELECT count(*) FROM message WHERE repeat = 0") == [(1,)]
            finally:
                cloud.end(signal.SIGKILL)

    asyncio.run(run())


async def resent(gateway: DecidingGateway) -> bool:
    """Whether all of the journal is committed; what is not is sent again."""
    if gateway.journal_committed == gateway.journal_newest:
        return True
    await gateway.send_journal()
    return False


def counted(r: Rig, what: str) -> float | None:
    """A figure of the gateway's journal."""
    return r.metrics.registry.get_sample_value(f"tocsin_journal_{what}_total", {"gateway": GATEWAY})


async def order_state(r: Rig, identity: str, state: str) -> bool:
    """Whether the order is in that state."""
    async with r.database.read() as session:
        found = await session.scalar(select(sql.GatewayOrder.state).where(sql.GatewayOrder.id == identity))
    return found == state


async def called(r: Rig, reason: str) -> bool:
    """Whether somebody is to be called for that reason."""
    return reason in [message.reason for message in await r.all(sql.Message) if message.state == "pending"]


async def phase_is(r: Rig, phase: str) -> bool:
    """Whether the only occurrence is in that phase."""
    return await r.phase() == phase
