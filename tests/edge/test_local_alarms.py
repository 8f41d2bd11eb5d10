"""The gateway's alarms over restarts of every kind: the journal tells what an engine that never ended would."""

import asyncio
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.edge.rig import plant
from tests.support.wait import eventually_async
from tocsin_core.engine import Decider, initial, step
from tocsin_core.journal import Entry, Order, decode, encode_order, word_of
from tocsin_core.lifecycle import Event, Phase, Verb
from tocsin_core.plant import load_plant
from tocsin_core.readings import BAD_SENSOR_FAILURE, GOOD, Frame
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.alarm_state import (
    CRC_BYTES,
    FILE,
    MAGIC,
    AlarmState,
    Answered,
    read_alarm_state,
    write_alarm_state,
)
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.loops import local_alarms
from tocsin_edge.loops.alarm_restore import resume
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.loops.keep import Sample, Verdict
from tocsin_edge.loops.local_alarms import SNAPSHOT_EVERY_S, LocalAlarms, Wish
from tocsin_edge.loops.spool_thread import SpoolThread
from tocsin_edge.settings import EdgeSettings, compile_settings

START_MS: Final = 1_800_000_000_000
NS_PER_MS: Final = 1_000_000
POINTS: Final = ("P1", "P2", "P3")
ALARMS: Final = (
    "{H: {setpoint: 10, deadband: 1, on_delay_s: 5, off_delay_s: 3}, rate: {setpoint: 60, window_s: 20}, stale: false}",
    "{H: {setpoint: 10, suppressed_by: {point: P1, above: 12}}, L: {setpoint: 1, latching: true}, stale: false}",
    "{stuck: {window_s: 30}, H: {setpoint: 15}, stale: false}",
)


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        """Begin at START_MS."""
        self.ms = START_MS

    def now_ns(self) -> int:
        """The time, ns since 1970."""
        return self.ms * NS_PER_MS

    def monotonic(self) -> float:
        """The time, s."""
        return self.ms / 1000


@pytest.fixture
def settings(tmp_path: Path) -> EdgeSettings:
    """A gateway that reads three points with alarms of several kinds, and has a siren."""
    points = ", ".join(
        f"{{id: {name}, name: {name}, kind: generic, field: {name}, alarms: {alarms}}}"
        for name, alarms in zip(POINTS, ALARMS, strict=True)
    )
    siren = "    outputs: [{id: S, kind: siren, modbus: {}, address: 0, min_priority: low}]"
    folder = plant(tmp_path / "plant", 1, {"D": f"mqtt: {{topic: d}}\npoints: [{points}]"}, siren)
    return compile_settings(load_plant(folder), "gw", tmp_path / "data")


class Run:
    """One life of the gateway's alarms between two kills, on the files that there are."""

    def __init__(self, settings: EdgeSettings, clock: Hands) -> None:
        """Begin as the gateway does."""
        self.settings, self.clock = settings, clock
        self.folder = settings.spool.parent
        self.spool = Spool.open(settings.spool, 64, 600, clock.ms)
        self.thread = SpoolThread(self.spool, clock)
        alarms = settings.alarms
        resumed = resume(alarms, read_alarm_state(self.folder), self.spool, clock.now_ns())
        self.alarms = LocalAlarms(settings, resumed, clock, JournalFeed(self.thread))
        self._waiting: list[Sample] = []
        self._put = self.alarms.before(self._waiting.append)

    def read(self, values: list[float], quality: int = GOOD, ahead_ms: int = 0) -> None:
        """Take one reading of each point at the clock's time, or of a sensor's clock that is ahead of it."""
        columns = Columns(
            np.arange(3),
            np.full(3, self.clock.ms + ahead_ms),
            np.array(values),
            np.array([quality, GOOD, GOOD], np.uint8),
        )
        self._put(Sample(self.settings.devices[0], columns))

    def take(self) -> Verdict:
        """Judge, and lose it unless it is kept."""
        return self.alarms.take()

    def keep(self, verdict: Verdict) -> None:
        """Put everything on disk, as the keep loop does."""
        device = self.settings.devices[0].sparkplug
        names = tuple(metric.name for metric in device.metrics)
        batches, entries = self.spool.keep([("D", names, each.columns) for each in self._waiting], verdict.entries)
        self._waiting.clear()
        verdict.kept(entries, max([self.spool.counters()["batch_last"], *batches]), on_disk=True)
        asyncio.run(self.alarms.save())

    def keep_entries(self, verdict: Verdict) -> None:
        """Put on disk what was told, and nothing else."""
        verdict.kept(self.spool.journal.append(verdict.entries), 0, on_disk=True)

    def journal(self) -> list[Entry]:
        """All that was ever told."""
        return [decode(entry.body) for entry in self.spool.journal.since(0)]

    def end(self) -> None:
        """End without a word: what is not on disk is gone."""
        self.thread.close()


@contextmanager
def living(settings: EdgeSettings, clock: Hands) -> Iterator[Run]:
    """Give a life that ends without a word."""
    run = Run(settings, clock)
    try:
        yield run
    finally:
        run.end()


Told = tuple[str, Event | None, int, int]


def told(entries: list[Entry]) -> list[Told]:
    """Alarm, event, time and onset of each entry."""
    return [(each.alarm, each.event, each.time_ns, each.onset_ns) for each in entries]


def by_one_engine(settings: EdgeSettings, spool: Spool) -> list[Told]:
    """What an engine that never ended says of all readings in the spool."""
    alarms = settings.alarms
    state, found = initial(alarms.rules, START_MS * NS_PER_MS), list[Told]()
    numbers = np.array([alarms.points["D", name] for name in POINTS], np.int32)
    for batch in spool.since(0, 1_000_000):
        columns = batch.columns
        frame = Frame(numbers[columns.metric], columns.time_ms * NS_PER_MS, columns.value, columns.quality)
        state, result = step(state, alarms.rules, frame, [], int(frame.time_ns.max()))
        found += [
            (alarms.rules.definitions[each.definition].id, each.event, each.time_ns, each.onset_ns)
            for each in result.transitions
        ]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_random_the_journal_is_that_of_an_engine_that_never_ended(settings: EdgeSettings, seed: int) -> None:
    """Delays, slopes, latches and suppressions go on over a kill; what was lost, was lost with its readings."""
    rng, clock = np.random.default_rng(seed), Hands()
    values, lives, kills = [5.0, 5.0, 5.0], 0, int(rng.integers(5, 60))
    done = False
    while not done:
        lives += 1
        with living(settings, clock) as run:
            for _ in range(kills):
                clock.ms += 1000
                if rng.random() < 0.2:
                    values[rng.integers(3)] = float(rng.choice([0.0, 5.0, 9.5, 11.0, 20.0]))
                run.read(values, BAD_SENSOR_FAILURE if rng.random() < 0.03 else GOOD)
                verdict = run.take()
                if rng.random() < 0.05:
                    # Killed between judging and the disk.
                    break
                run.keep(verdict)
            done = clock.ms > START_MS + 900_000
            if done:
                assert told(run.journal()) == by_one_engine(settings, run.spool)
                assert {each.event for each in run.journal()} >= {Event.RAISE, Event.RETURN, Event.SUPPRESS}
    assert lives > 5


def test_a_delay_goes_on_over_a_kill(settings: EdgeSettings) -> None:
    """It began after the snapshot; the seconds before the kill and those after it are the five that the alarm waits."""
    clock = Hands()
    found: list[Entry] = []
    for values in ((5.0, 11.0, 11.0, 11.0), (11.0, 11.0, 11.0)):
        with living(settings, clock) as run:
            for value in values:
                clock.ms += 1000
                run.read([value, 5.0, 5.0])
                run.keep(run.take())
            found = [entry for entry in run.journal() if entry.alarm == "P1/H"]
    (raised,) = found
    assert raised.onset_ns == (START_MS + 7000) * NS_PER_MS


@pytest.mark.parametrize("killed", [False, True], ids=["in one life", "killed after the step"])
def test_an_hour_back_no_alarm_is_missed_or_doubled_at_either_end(settings: EdgeSettings, *, killed: bool) -> None:
    """What stands returns, what comes is raised under an id of its own, older than the last; both ends agree."""
    clock, name = Hands(), "P2/H"

    def live(*values: float) -> list[Entry]:
        with living(settings, clock) as run:
            for value in values:
                clock.ms += 1000 if value else -3_600_000
                if value:
                    run.read([5.0, value, 5.0])
                    run.keep(run.take())
            return [each for each in run.journal() if each.alarm == name]

    if killed:
        live(5.0, 20.0, 0.0)
        entries = live(20.0, 5.0, 20.0, 20.0, 5.0, 20.0)
    else:
        entries = live(5.0, 20.0, 0.0, 20.0, 5.0, 20.0, 20.0, 5.0, 20.0)
    steps = [(each.event, each.onset_ns) for each in entries]
    raised = [onset_ns for event, onset_ns in steps if event is Event.RAISE]
    first, then, now = raised
    assert then < now < first
    assert steps == [
        (Event.RAISE, first), (Event.RETURN, first), (Event.RAISE, then), (Event.RETURN, then), (Event.RAISE, now),
    ]  # fmt: skip
    rules, heard = settings.alarms.rules, []
    number, began_ns = rules.index[name], START_MS * NS_PER_MS
    other, _ = step(initial(rules, began_ns), rules, Frame.empty(), [Decider((number,), True, began_ns)], began_ns)  # noqa: FBT003 -- elsewhere
    for entry in entries:
        other, result = step(other, rules, Frame.empty(), [word_of(entry, number, answers=False)], clock.now_ns())
        heard += [(each.event, each.onset_ns) for each in result.transitions]
    assert heard == steps


def test_a_sensor_whose_clock_is_ahead_sets_nothing_back_over_a_kill(settings: EdgeSettings) -> None:
    """Its stamps count as of when they came, live and replayed: shelves last as long as asked, windows go on."""
    clock, until_ns = Hands(), (START_MS + 600_000) * NS_PER_MS
    with living(settings, clock) as run:
        for second in range(3):
            clock.ms += 1000
            run.read([5.0, 5.0, 20.0], ahead_ms=30_000)
            if second == 1:
                shelf = Order("o", Verb.SHELVE, "P3/H", clock.now_ns(), "li", "why", 0, until_ns)
                run.alarms.order(encode_order(shelf))
            run.keep(run.take())
    clock.ms += 1000
    with living(settings, clock) as run:
        assert run.alarms.state.now_ns <= clock.now_ns()
        run.read([5.0, 5.0, 20.0], ahead_ms=30_000)
        run.keep(run.take())
        assert run.alarms.state.shelved_until_ns[run.alarms.rules.index["P3/H"]] == until_ns


def test_a_sensor_whose_clock_is_ahead_is_heard_at_once_after_a_start(settings: EdgeSettings) -> None:
    """What it said before the kill, by stamps of a time to come, makes no late ones of what it says now."""
    clock = Hands()
    with living(settings, clock) as run:
        clock.ms += 1000
        run.keep(run.take())
        run.read([5.0, 5.0, 5.0], ahead_ms=30_000)
        run.keep(run.take())
    clock.ms += 26_000
    with living(settings, clock) as run:
        clock.ms += 1000
        run.read([5.0, 5.0, 20.0], ahead_ms=30_000)
        run.keep(run.take())
        assert [entry.alarm for entry in run.journal()] == ["P3/H"]


def test_answers_and_shelves_outlive_a_kill_and_end_in_time(settings: EdgeSettings) -> None:
    """Who acknowledged and what is shelved stays; the shelf's end is told when its time has come."""
    clock = Hands()

    async def wishes(run: Run) -> None:
        both = [
            asyncio.create_task(run.alarms.wish(Wish(Verb.ACKNOWLEDGE, ("P3/H",), "li"))),
            asyncio.create_task(run.alarms.wish(Wish(Verb.SHELVE, ("P3/H",), "li", "because", 60.0))),
        ]
        await asyncio.sleep(0)
        verdict = run.take()
        entries = run.spool.journal.append(verdict.entries)
        verdict.kept(entries, 0, on_disk=True)
        assert [outcome.refusal for each in await asyncio.gather(*both) for outcome in each] == ["", ""]

    with living(settings, clock) as run:
        clock.ms += 1000
        run.read([5.0, 5.0, 20.0])
        run.keep(run.take())
        siren = run.alarms.switches[0]
        wanted = [siren.figures.wanted]
        asyncio.run(wishes(run))
        assert [*wanted, siren.figures.wanted] == [True, False]
    clock.ms += 30_000
    with living(settings, clock) as run:
        run.keep(run.take())
        assert len(run.journal()) == 3
        clock.ms += 30_001
        run.keep(run.take())
        last = run.journal()[-1]
        assert (last.event, last.who, last.time_ns) == (Event.UNSHELVE, "", run.journal()[2].until_ns)
        number = run.alarms.rules.index["P3/H"]
        assert run.alarms.state.phase[number] == last.phase
        assert run.alarms.state.onset_ns[number] == (START_MS + 1000) * NS_PER_MS


def test_what_is_told_after_a_spool_was_lost_whose_clock_was_ahead_outlives_a_kill(settings: EdgeSettings) -> None:
    """The new one would number from a lower clock what the snapshot then passes over: the siren came on again."""
    clock = Hands()
    clock.ms += 3_600_000
    with living(settings, clock) as run:
        run.read([5.0, 5.0, 20.0])
        run.keep(run.take())
    for file in settings.spool.parent.glob("spool.sqlite*"):
        file.unlink()
    clock.ms -= 3_590_000
    with living(settings, clock) as run:
        run.keep(run.take())
        sounded = run.alarms.switches[0].figures.wanted
        clock.ms += 1000
        run.alarms.press("ACK")
        run.keep(run.take())
        assert [each.event for each in run.journal()] == [Event.ACKNOWLEDGE]
        assert [sounded, run.alarms.switches[0].figures.wanted] == [True, False]
    with living(settings, clock) as run:
        assert run.alarms.state.phase[run.alarms.rules.index["P3/H"]] == Phase.ACKNOWLEDGED
        assert not run.alarms.switches[0].figures.wanted


def test_a_snapshot_is_taken_every_minute_and_at_the_end(settings: EdgeSettings) -> None:
    """Not with each reading; the batch and the entry in it are those that the engine had seen."""
    clock = Hands()
    with living(settings, clock) as run:
        seen = set()
        for _ in range(90):
            clock.ms += 1000
            run.read([5.0, 5.0, 20.0])
            run.keep(run.take())
            saved = read_alarm_state(run.folder)
            assert saved is not None
            seen.add(saved.batch)
        first = min(seen)
        assert seen == {first, first + round(SNAPSHOT_EVERY_S)}
        run.alarms.end()
        run.keep(run.take())
        saved = read_alarm_state(run.folder)
        assert saved is not None
        counters = run.spool.counters()
        assert (saved.batch, saved.entry) == (counters["batch_last"], counters["journal_last"])


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_a_torn_state_is_none(tmp_path: Path, cut: int) -> None:
    """Whatever is missing at its end or altered in it, it is not believed; a whole one is as it was."""
    state = AlarmState(b"\x00snapshot\n" * 30, 7, 3, {"o1": Answered(5, 3, "overtaken")})
    write_alarm_state(tmp_path, state)
    assert read_alarm_state(tmp_path) == state
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-cut])
    assert read_alarm_state(tmp_path) is None
    (tmp_path / FILE).write_bytes(whole[:cut] + b"!" + whole[cut + 1 :])
    assert read_alarm_state(tmp_path) is None


@pytest.mark.parametrize(
    "head", ['{"batch": 7, "entry": 3, "obeyed": {}, "colour": 1}', '{"batch": 7}', "[7, 3]", "{", "[" * 9]
)
def test_a_state_of_another_version_is_none(tmp_path: Path, head: str) -> None:
    """A gateway that went back to an older program starts all the same: its alarms stand as the journal says."""
    body = MAGIC + head.encode() + b"\nsnapshot"
    (tmp_path / FILE).write_bytes(body + zlib.crc32(body).to_bytes(CRC_BYTES, "little"))
    assert read_alarm_state(tmp_path) is None


def test_a_disk_that_hangs_holds_no_siren_up(settings: EdgeSettings) -> None:
    """The keep loop does not come back: after 2 s alarms are judged and outputs switched all the same."""
    clock = Hands()

    async def story(run: Run) -> None:
        ticking = asyncio.create_task(run.alarms.run())
        clock.ms += 1000
        run.read([5.0, 5.0, 5.0])
        hanging = run.take()
        clock.ms += 1000
        run.read([5.0, 5.0, 20.0])
        siren = run.alarms.switches[0]

        def sounds_a_second_later() -> bool:
            clock.ms += 1000
            return siren.figures.wanted

        await eventually_async(sounds_a_second_later, interval_s=0.05)
        # The verdict from before comes back late, and does not switch it off again.
        hanging.kept([], 0, on_disk=True)
        assert siren.figures.wanted
        late = run.take()
        assert [decode(body).event for _, body in late.entries] == [Event.RAISE]
        ticking.cancel()

    with living(settings, clock) as run:
        asyncio.run(story(run))


def test_a_disk_that_hangs_under_the_snapshot_holds_no_siren_up(
    settings: EdgeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the heaviest of the writes; time goes on for the engine, and the last snapshot waits for the one before."""
    clock, hangs, released, written = Hands(), threading.Event(), threading.Event(), list[AlarmState]()

    def hanging(_: Path, state: AlarmState) -> None:
        hangs.set()
        released.wait(60)
        written.append(state)

    monkeypatch.setattr(local_alarms, "write_alarm_state", hanging)

    async def story(run: Run) -> None:
        ticking = asyncio.create_task(run.alarms.run())
        clock.ms += 1000
        run.read([5.0, 5.0, 5.0])
        run.take().kept([], 0, on_disk=True)
        try:
            await eventually_async(hangs.is_set)
            clock.ms += 1000
            run.read([5.0, 5.0, 20.0])
            siren = run.alarms.switches[0]

            def sounds() -> bool:
                clock.ms += 1000
                return siren.figures.wanted

            await eventually_async(sounds)
            ticking.cancel()
            run.alarms.end()
            run.take().kept([1], 7, on_disk=True)
            last = asyncio.create_task(run.alarms.save())
            await asyncio.sleep(0)
            assert written == []
        finally:
            released.set()
        await last
        assert [state.batch for state in written] == [0, 7]

    with living(settings, clock) as run:
        asyncio.run(story(run))


def test_what_was_not_shown_yet_is_not_acknowledged(settings: EdgeSettings) -> None:
    """Who presses the button or asks for all means what there is; what is raised before it is their turn waits on."""
    clock = Hands()

    async def story(run: Run) -> None:
        clock.ms += 1000
        run.read([5.0, 5.0, 20.0])
        run.keep_entries(run.take())
        siren = run.alarms.switches[0]
        assert siren.figures.wanted
        # The first is raised and not on disk yet, the second comes after the press.
        clock.ms += 1000
        run.read([5.0, 20.0, 20.0])
        underway = run.take()
        run.alarms.press("ACK")
        all_of_them = asyncio.create_task(run.alarms.wish(Wish(Verb.ACKNOWLEDGE, None, "li")))
        await asyncio.sleep(0)
        run.keep_entries(underway)
        clock.ms += 1000
        run.read([5.0, 0.0, 20.0])
        run.keep_entries(run.take())
        assert [outcome.alarm for outcome in await all_of_them] == ["P3/H"]
        acknowledged = [each for each in run.journal() if each.event is Event.ACKNOWLEDGE]
        assert [(each.alarm, each.who) for each in acknowledged] == [("P3/H", "ACK")]
        assert siren.figures.wanted
        run.alarms.press("ACK")
        run.keep_entries(run.take())
        assert not siren.figures.wanted

    with living(settings, clock) as run:
        asyncio.run(story(run))


@pytest.mark.parametrize("ahead_ns", [60 * 10**9 + NS_PER_MS, 365 * 24 * 3600 * 10**9])
def test_an_order_of_a_time_to_come_is_refused_and_overtakes_nothing(settings: EdgeSettings, ahead_ns: int) -> None:
    """A wrong clock or a stranger does not silence an alarm for long, nor make orders after that come too late."""
    clock = Hands()
    with living(settings, clock) as run:
        clock.ms += 1000
        run.read([5.0, 5.0, 20.0])
        run.keep(run.take())
        siren = run.alarms.switches[0]
        at_ns = clock.now_ns() + ahead_ns
        for number, verb in enumerate((Verb.SHELVE, Verb.ACKNOWLEDGE)):
            until_ns = at_ns + 600 * 10**9
            run.alarms.order(encode_order(Order(f"o{number}", verb, "P3/H", at_ns, "li", "why", 0, until_ns)))
        run.keep(run.take())
        found = {each.command: each for each in run.journal() if each.command}
        assert [found[name].refusal for name in ("o0", "o1")] == [local_alarms.AHEAD] * 2
        assert {each.time_ns for each in found.values()} == {at_ns}
        sounded = siren.figures.wanted
        clock.ms += 1000
        run.alarms.order(encode_order(Order("o2", Verb.ACKNOWLEDGE, "P3/H", clock.now_ns(), "li", "why")))
        run.keep(run.take())
        assert run.journal()[-1].event is Event.ACKNOWLEDGE
        assert [sounded, siren.figures.wanted] == [True, False]
        run.alarms.press("ACK")
        run.keep(run.take())


def test_an_order_of_a_clock_a_little_ahead_is_of_now(settings: EdgeSettings) -> None:
    """Its shelf lasts as long as was asked by the gateway's clock; what is asked here next is later."""
    clock = Hands()
    with living(settings, clock) as run:
        clock.ms += 1000
        run.read([5.0, 5.0, 20.0])
        run.keep(run.take())
        at_ns, ten_minutes_ns = clock.now_ns() + 30 * 10**9, 600 * 10**9
        run.alarms.order(encode_order(Order("o", Verb.SHELVE, "P3/H", at_ns, "li", "why", 0, at_ns + ten_minutes_ns)))
        run.keep(run.take())
        last = run.journal()[-1]
        assert (last.event, last.refusal) == (Event.SHELVE, "")
        # The cloud side knows its order by this time; the shelf is counted by the clock here.
        assert (last.time_ns, last.until_ns) == (at_ns, clock.now_ns() + ten_minutes_ns)
        clock.ms += 1000
        run.alarms.order(encode_order(Order("p", Verb.UNSHELVE, "P3/H", clock.now_ns(), "li", "why")))
        run.keep(run.take())
        assert run.journal()[-1].event is Event.UNSHELVE


def test_under_another_plant_what_is_in_both_stands(settings: EdgeSettings) -> None:
    """An alarm that stands goes on, one that is new begins; an output that is the same is the very same."""
    clock = Hands()
    with living(settings, clock) as run:
        clock.ms += 1000
        run.read([5.0, 5.0, 20.0])
        run.keep(run.take())
        siren = run.alarms.switches[0]
        path = run.folder.parents[2] / "plant" / "plant.yaml"
        text = path.read_text(encoding="utf-8").replace("id: P1,", "id: P0,")
        path.write_text(text.replace("P1, above", "P0, above"), encoding="utf-8")
        other = compile_settings(load_plant(path.parent), "gw", settings.data)
        run.alarms.adopt(other)
        assert run.alarms.switches == (siren,)
        assert siren.figures.wanted
        assert "P1/H" not in run.alarms.rules.index
        number = run.alarms.rules.index["P3/H"]
        assert run.alarms.state.onset_ns[number] == (START_MS + 1000) * NS_PER_MS
        # A sample of the former plant is on its way still.
        clock.ms += 1000
        run.read([5.0, 5.0, 5.0])
        run.keep(run.take())
        assert run.journal()[-1].event is Event.RETURN


def test_a_trial_that_outlasts_what_the_spool_keeps_is_outlived_by_a_kill(settings: EdgeSettings) -> None:
    """No snapshot is kept in a trial: what was committed in it is not forgotten for its age, and alarms stand on."""
    clock = Hands()
    with living(settings, clock) as run:
        run.read([5.0, 5.0, 5.0])
        run.keep(run.take())
        run.alarms.adopt(settings)
        for turn in range(90):
            clock.ms += 10_000
            run.read([5.0, 5.0, 20.0 + turn % 2 if turn else 5.0])
            run.keep(run.take())
            newest = run.spool.counters()
            run.spool.commit_upto(newest["batch_last"], clock.ms)
            run.spool.journal.commit_upto(newest["journal_last"], clock.ms)
            run.spool.trim(clock.ms, run.alarms.known())
        before = told(run.journal())
        assert [each[:2] for each in before] == [("P3/H", Event.RAISE)]
    with living(settings, clock) as run:
        clock.ms += 1000
        run.read([5.0, 5.0, 20.0])
        run.keep(run.take())
        assert told(run.journal()) == before
        number = run.alarms.rules.index["P3/H"]
        assert (run.alarms.state.phase[number], run.alarms.state.onset_ns[number]) == (
            Phase.UNACKNOWLEDGED,
            before[0][3],
        )
        # Once a snapshot is on disk again, age counts: the last is not committed yet.
        run.spool.trim(clock.ms + 700_000, run.alarms.known())
        assert len(run.spool.since(0, 1000)) == 1


@pytest.mark.parametrize("ends", ["rolled back", "killed", "kept"])
def test_an_alarm_that_a_version_on_trial_lacks_is_silenced_only_when_that_is_kept(
    settings: EdgeSettings, ends: str
) -> None:
    """Rolled back or killed, it waits for its answer as before; what both versions know stands as the trial left it."""
    clock = Hands()

    def phases(run: Run, alarms: tuple[str, ...] = ("P2/H", "P3/H")) -> list[Phase]:
        return [Phase(int(run.alarms.state.phase[run.alarms.rules.index[each]])) for each in alarms]

    with living(settings, clock) as run:
        for p3 in (20.0, 5.0):
            clock.ms += 1000
            run.read([5.0, 11.0, p3])
            run.keep(run.take())
        assert phases(run) == [Phase.UNACKNOWLEDGED, Phase.RETURNED_UNACKNOWLEDGED]
        onset_ns = int(run.alarms.state.onset_ns[run.alarms.rules.index["P3/H"]])
        path = run.folder.parents[2] / "plant" / "plant.yaml"
        text = path.read_text(encoding="utf-8").replace("H: {setpoint: 15}", "HH: {setpoint: 30}")
        path.write_text(text, encoding="utf-8")
        trial = compile_settings(load_plant(path.parent), "gw", settings.data)
        run.alarms.adopt(trial)
        assert "P3/H" not in run.alarms.rules.index
        run.alarms.order(encode_order(Order("a", Verb.ACKNOWLEDGE, "P2/H", clock.now_ns(), "li", "")))
        clock.ms += round(SNAPSHOT_EVERY_S * 1000)
        run.read([5.0, 11.0, 5.0])
        run.keep(run.take())
        assert phases(run, ("P2/H",)) == [Phase.ACKNOWLEDGED]
        assert run.alarms.switches[0].figures.wanted
        if ends == "rolled back":
            run.alarms.adopt(settings)
            assert run.alarms.switches[0].figures.wanted
        if ends != "killed":
            run.alarms.settle()
            clock.ms += 1000
            run.read([5.0, 11.0, 5.0])
            run.keep(run.take())
            assert run.alarms.switches[0].figures.wanted == (ends == "rolled back")
    with living(settings, clock) as run:
        stands = Phase.NORMAL if ends == "kept" else Phase.RETURNED_UNACKNOWLEDGED
        assert phases(run) == [Phase.ACKNOWLEDGED, stands]
        if ends != "kept":
            assert run.alarms.state.onset_ns[run.alarms.rules.index["P3/H"]] == onset_ns
            assert run.alarms.switches[0].figures.wanted


@pytest.mark.parametrize("kept", [False, True], ids=["rolled back", "kept"])
def test_an_output_that_a_version_on_trial_lets_follow_less_falls_silent_only_when_that_is_kept(
    settings: EdgeSettings, *, kept: bool
) -> None:
    """The alarm stands under both versions; the siren is for graver ones alone in the one on trial."""
    clock = Hands()
    with living(settings, clock) as run:
        clock.ms += 1000
        run.read([5.0, 5.0, 20.0])
        run.keep(run.take())
        path = run.folder.parents[2] / "plant" / "plant.yaml"
        path.write_text(
            path.read_text(encoding="utf-8").replace("min_priority: low", "min_priority: critical"), "utf-8"
        )
        run.alarms.adopt(compile_settings(load_plant(path.parent), "gw", settings.data))
        clock.ms += 1000
        run.read([5.0, 5.0, 20.0])
        run.keep(run.take())
        assert run.alarms.switches[0].figures.wanted
        if not kept:
            run.alarms.adopt(settings)
        run.alarms.settle()
        run.keep(run.take())
        assert run.alarms.switches[0].figures.wanted is not kept


def test_what_is_read_with_the_word_that_it_is_no_gas_raises_nothing_over_a_kill_either(tmp_path: Path) -> None:
    """The word stands behind the gas in the message; replayed after a kill it counts for it as well."""
    points = """
      - {id: P1, name: P1, kind: generic, field: a, status: {point: P2, flags: {warm_up: [0]}},
         alarms: {H: {setpoint: 10}, stale: false}}
      - {id: P2, name: P2, kind: status, field: b, alarms: {stale: false}}
      - {id: P3, name: P3, kind: generic, field: c, alarms: {stale: false}}"""
    folder = plant(tmp_path / "plant", 1, {"D": f"mqtt: {{topic: d}}\npoints:{points}"})
    settings, clock = compile_settings(load_plant(folder), "gw", tmp_path / "data"), Hands()
    for course in ([5.0, 0.0], [20.0, 1.0]), ([20.0, 1.0], [20.0, 1.0]):
        with living(settings, clock) as run:
            for gas, word in course:
                clock.ms += 1000
                run.read([gas, word, 5.0])
                run.keep(run.take())
            assert run.journal() == []


@pytest.mark.parametrize("snapshot", [True, False])
@pytest.mark.parametrize("seen", [True, False])
def test_what_nobody_saw_asks_for_no_answer_over_a_kill_either(
    settings: EdgeSettings,
    seen: bool,  # noqa: FBT001
    snapshot: bool,  # noqa: FBT001
) -> None:
    """Raised while it was suppressed by design; what was raised and then suppressed, in one step, does ask for one."""
    clock = Hands()
    with living(settings, clock) as run:
        run.read([0.0, 5.0, 5.0])
        run.keep(run.take())
        for first in (0.0, 13.0) if seen else (13.0,):
            clock.ms += 1000
            run.read([first, 20.0, 5.0])
        run.keep(run.take())
    if not snapshot:
        (settings.spool.parent / FILE).unlink()
    with living(settings, clock) as run:
        clock.ms += 1000
        run.read([13.0, 5.0, 5.0])
        run.keep(run.take())
        found = [entry.event for entry in run.journal() if entry.alarm == "P2/H"]
    before = [Event.RAISE, Event.SUPPRESS] if seen else [Event.SUPPRESS, Event.RAISE]
    assert found == [*before, Event.RETURN, *(() if seen else (Event.ACKNOWLEDGE,))]
