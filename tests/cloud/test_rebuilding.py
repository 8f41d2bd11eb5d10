"""Where neither a snapshot nor the stream tells how alarms came about, they stand as the tables have them."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import URL

from tests.cloud.rig import GATEWAY, SITE
from tests.cloud.test_alarms import OCCURRENCE, Rig, rig
from tests.core.plants import SECOND, START_NS, definition, rules_of
from tests.support.postgres import on_both
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.gateways import ask_rebirth
from tocsin_cloud.adapters.snapshot import load
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.stream import STREAM, publish_tick
from tocsin_cloud.loops.disagreeing import Standing, untold
from tocsin_cloud.loops.rebuilding import KEPT, Recorded, as_recorded, recorded
from tocsin_core import engine
from tocsin_core.clock import SystemClock
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.plant import AlarmKind
from tocsin_core.readings import GOOD, Frame
from tocsin_core.rules import MAX_SHELVE_S


def figure(r: Rig, name: str) -> float:
    """One of the worker's figures."""
    return r.metrics.registry.get_sample_value(name) or 0.0


async def _is(r: Rig, phase: str) -> bool:
    return await r.phase() == phase


async def _raised(r: Rig, occurrences: int) -> bool:
    return len(await r.all(sql.Occurrence)) == occurrences


async def _shown(r: Rig, unconfirmed: int) -> bool:
    await publish_tick(r.client, SITE)
    return figure(r, "tocsin_alarms_unconfirmed") == unconfirmed


ALL, EARLIER, AN_OLD_SNAPSHOT = "all is lost", "what was earlier is lost", "there is an old snapshot"
A_GAP = "behind an old snapshot there is a gap"


async def _raised_and_hidden(r: Rig, lost: str) -> None:
    """Raise P1/H, acknowledge and shelve it; where not all is lost the value is read again, after another birth."""
    file, old = r.folder / "s.npz", b""
    if lost in {AN_OLD_SNAPSHOT, A_GAP}:
        async with r.working():
            await eventually_async(lambda: r.live.gateways[SITE, GATEWAY].state == "online")
        old = file.read_bytes()
    async with r.working():
        await r.gateway.send({0: 60.0})
        await eventually_async(lambda: _is(r, "unacknowledged"))
        assert (await r.command("ack")).accepted
        assert (await r.command("shelve", duration_s=3600.0)).accepted
        state = (await r.client.jsm().stream_info(STREAM)).state
        if lost in {EARLIER, A_GAP}:
            r.gateway.committed = r.gateway.newest
            await ask_rebirth(r.client, SITE, GATEWAY, SystemClock().now_ns())
            await eventually_async(lambda: r.gateway.rebirths == 1)
            await r.gateway.send({0: 62.0})
            index = r.plant.point_index["P1"]
            await eventually_async(lambda: float(r.live.value[index]) == 62.0)
    await r.client.jsm().purge_stream(STREAM, seq=state.last_seq + 1)
    r.damage()
    if old:
        file.write_bytes(old)


@on_both
@pytest.mark.parametrize("lost", [ALL, EARLIER, AN_OLD_SNAPSHOT, A_GAP])
def test_what_stands_in_the_tables_is_kept_and_the_readings_decide(tmp_path: Path, sql_url: URL, lost: str) -> None:
    """It is the same occurrence, answered and shelved; that it is unconfirmed is told, until the first reading.

    The gateway is asked for births that are lost, once. Nothing is raised, called or closed anew.
    """

    async def story() -> None:
        async with rig(tmp_path, sql_url) as r:
            await _raised_and_hidden(r, lost)
            (before,) = await r.all(sql.Occurrence)
            async with r.working():
                assert figure(r, "tocsin_engine_rebuilt_timestamp_seconds") > 0
                await eventually_async(lambda: _shown(r, 1))
                (kept,) = await r.all(sql.Occurrence)
                told = "id", "phase", "acknowledged_by", "shelved_until_ns", "suppressed", "returned_ns"
                assert [getattr(kept, name) for name in told] == [getattr(before, name) for name in told]
                assert (await r.command("unshelve")).accepted
                # To an old snapshot the gateway is known: its next message tells that some were not heard.
                await eventually_async(lambda: lost == AN_OLD_SNAPSHOT or r.gateway.rebirths == 1)
                await r.gateway.send({0: 61.0})
                await eventually_async(lambda: _shown(r, 0))
                await eventually_async(lambda: r.gateway.rebirths == 1)
            # What was kept is in the next snapshot.
            async with r.working():
                assert figure(r, "tocsin_engine_rebuilt_timestamp_seconds") == 0
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: _is(r, "normal"))
            steps = [(step.event, step.reason) for step in await r.all(sql.Transition)]
            assert [event for event, _ in steps] == ["raise", "acknowledge", "shelve", "", "unshelve", "return"]
            assert steps[3][1] == KEPT
            assert len(await r.all(sql.Occurrence)) == len(await r.all(sql.Ticket)) == 1
            assert r.gateway.rebirths == 1

    asyncio.run(story())


@pytest.mark.parametrize("lost", [AN_OLD_SNAPSHOT, A_GAP])
def test_what_is_over_in_the_tables_is_not_raised_again_by_an_old_snapshot(tmp_path: Path, lost: str) -> None:
    """In the snapshot the alarm is active; its return is in no message that is left."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
            old = (r.folder / "s.npz").read_bytes()
            async with r.working():
                assert (await r.command("ack")).accepted
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: _is(r, "normal"))
                end = (await r.client.jsm().stream_info(STREAM)).state.last_seq
                if lost == A_GAP:
                    await publish_tick(r.client, SITE)
            before = len(await r.all(sql.Transition))
            await r.client.jsm().purge_stream(STREAM, seq=end + 1)
            (r.folder / "s.npz").write_bytes(old)
            async with r.working():
                assert await r.phase() == "normal"
                await r.gateway.send({0: 61.0})
                await eventually_async(lambda: _raised(r, 2))
            events = [step.event for step in await r.all(sql.Transition)]
            assert events[before:] == ["raise"]

    asyncio.run(story())


def test_what_was_dropped_is_counted_once(tmp_path: Path) -> None:
    """The stream holds nothing of what came after an old snapshot, what was committed since and what came behind it."""

    async def story() -> None:
        async with rig(tmp_path) as r:
            async with r.working():
                await eventually_async(lambda: r.live.gateways[SITE, GATEWAY].state == "online")
            old = load(r.folder / "s.npz")
            assert old is not None
            kept = (r.folder / "s.npz").read_bytes()
            async with r.working():
                await r.gateway.send({0: 60.0})
                await eventually_async(lambda: _is(r, "unacknowledged"))
            for _ in range(5):
                await publish_tick(r.client, SITE)
            last = (await r.client.jsm().stream_info(STREAM)).state.last_seq
            await r.client.jsm().purge_stream(STREAM, seq=last + 1)
            (r.folder / "s.npz").write_bytes(kept)
            async with r.working():
                await r.gateway.send({0: 1.0})
                await eventually_async(lambda: _is(r, "returned-unacknowledged"))
                told = r.metrics.registry.get_sample_value("tocsin_stream_unread_dropped_total", {"role": "alarms"})
                assert told == last - old.position.sequence

    asyncio.run(story())


@pytest.mark.parametrize("off_delay_s", [0.0, 5.0])
@pytest.mark.parametrize("phase", [Phase.ACKNOWLEDGED, Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED])
def test_a_silence_that_is_found_behind_a_reading_is_another_than_the_one_in_the_tables(
    phase: Phase, off_delay_s: float
) -> None:
    """Its raising waited with a mass of others: it is told, and asks for an answer of its own.

    With an off-delay nobody knows whether the one before has returned: it stands.
    """
    alarm = replace(definition("P0", AlarmKind.STALE), after_s=10.0, off_delay_s=off_delay_s)
    rules, state = rules_of(alarm), engine.initial(rules_of(alarm), START_NS)
    for second in range(1, 80):
        now_ns = START_NS + second * SECOND
        frame = Frame.of([0], [now_ns], [1.0], [GOOD]) if second in {1, 30, 40} else Frame.empty()
        state, _ = engine.step(state, rules, frame, [], now_ns)
    first_ns, second_ns = START_NS + 11 * SECOND, START_NS + 50 * SECOND
    assert (int(state.onset_ns[0]), bool(state.active[0])) == (second_ns, True)
    row = sql.Occurrence(**OCCURRENCE, id="first", alarm="P0/stale", raised_ns=first_ns)
    row.phase = phase.text
    stands, kept = as_recorded(state, rules, Recorded([row], []))
    steps = list(untold(stands, rules, [Standing("P0/stale", first_ns, phase)], np.arange(1)))
    if off_delay_s:
        assert (kept, steps) == ([row], [])
        return
    returned = [(Event.RETURN, first_ns)] if phase in (Phase.ACKNOWLEDGED, Phase.UNACKNOWLEDGED) else []
    assert [(step.event, step.onset_ns) for step in steps] == [*returned, (Event.RAISE, second_ns)]
    assert not kept


def test_a_silence_that_lasts_is_the_one_in_the_tables() -> None:
    """The stream begins in the midst of it: it is found later than it was raised, and no reading lies in between."""
    rules = rules_of(replace(definition("P0", AlarmKind.STALE), after_s=10.0))
    state = engine.initial(rules, START_NS)
    for second in range(1, 80):
        state, _ = engine.step(state, rules, Frame.empty(), [], START_NS + second * SECOND)
    assert state.active[0]
    row = sql.Occurrence(**OCCURRENCE, id="first", alarm="P0/stale", raised_ns=START_NS - SECOND)
    stands, kept = as_recorded(state, rules, Recorded([row], []))
    assert (int(stands.onset_ns[0]), kept) == (START_NS - SECOND, [row])


def test_a_shelf_that_a_clock_ahead_wrote_lasts_no_longer_than_one_may() -> None:
    """The tables keep the end by the clock of then; as long as that was ahead the alarm would be hidden."""
    rules = rules_of(definition("P0", AlarmKind.H, 50.0))
    longest_ns = MAX_SHELVE_S[int(rules.priority[0])] * SECOND
    shelved = sql.AlarmState(
        alarm="P0/H", shelved_until_ns=START_NS + 365 * 24 * 3600 * SECOND, shelved_once=False, out_of_service=False
    )
    state, _ = as_recorded(engine.initial(rules, START_NS), rules, Recorded([], [shelved]))
    state, result = engine.step(state, rules, Frame.empty(), [], START_NS + longest_ns - SECOND)
    assert not result.transitions
    _, result = engine.step(state, rules, Frame.empty(), [], START_NS + longest_ns)
    assert [each.event for each in result.transitions] == [Event.UNSHELVE]


@on_both
def test_what_stands_is_not_hidden_by_what_a_clock_ahead_dated_later(sql_url: URL) -> None:
    """It was raised after the clock had been set back, and what had returned before is of a later hour."""
    stands = sql.Occurrence(**OCCURRENCE, id="stands", alarm="P0/H", raised_ns=START_NS)
    stands.phase = Phase.ACKNOWLEDGED.text
    over = sql.Occurrence(**OCCURRENCE, id="over", alarm="P0/H", raised_ns=START_NS + 3000 * SECOND)
    over.phase, over.returned_ns = Phase.NORMAL.text, START_NS + 3600 * SECOND

    async def story() -> None:
        database = await Database.open(sql_url)
        try:
            async with database.write() as session:
                session.add_all([stands, over])
            async with database.read() as session:
                told = await recorded(session, START_NS)
            assert [each.id for each in told.occurrences] == ["stands"]
        finally:
            await database.close()

    asyncio.run(story())
