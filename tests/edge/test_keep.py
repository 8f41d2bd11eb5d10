"""When the keep loop writes, syncs and hands on: each sample is on disk at once, and synced together with others."""

import asyncio
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Never

import numpy as np
import pytest

from tests.support.wait import eventually_async
from tocsin_core.clock import Clock, SystemClock
from tocsin_core.plant.mqtt import Mqtt
from tocsin_core.ranges import Ranges
from tocsin_core.readings import GOOD
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters import spool, spool_file
from tocsin_edge.adapters.spool import NUMBERS_LEFT_OUT, Part, Spool
from tocsin_edge.loops import keep, spool_thread
from tocsin_edge.loops.board import Board
from tocsin_edge.loops.journal_feed import JournalFeed
from tocsin_edge.loops.keep import Keeper, Kept, Sample, Verdict
from tocsin_edge.loops.spool_thread import DiskHangsError, SpoolThread
from tocsin_edge.settings import DeviceSettings, SensorDevice


class Ahead(SystemClock):
    """A clock that is so many hours ahead."""

    def __init__(self, hours: int) -> None:
        self._ahead_ns = hours * 3600 * 10**9

    def now_ns(self) -> int:
        """Wall clock, ns."""
        return super().now_ns() + self._ahead_ns


CLOCK = SystemClock()
HOUR_S = 3600.0
MANY = 1000
Story = Callable[["Run"], Coroutine[None, None, None]]
DEVICE = DeviceSettings(
    EdgeDevice("D", (EdgeMetric("X"),)), Ranges.of([None]), 10**9, SensorDevice(Mqtt(topic="t"), ("X",))
)


def sample(time_ms: int) -> Sample:
    """Give one good reading."""
    return Sample(DEVICE, Columns(np.zeros(1, np.int64), np.array([time_ms]), np.ones(1), np.full(1, GOOD, np.uint8)))


class Run:
    """A keep loop on a spool of its own, and what it has written, synced and handed on."""

    def __init__(self, folder: Path, clock: Clock = CLOCK) -> None:
        now_ms = clock.now_ns() // 1_000_000
        self.path = folder / "spool.sqlite"
        self.spool = Spool.open(self.path, 8, 60, now_ms)
        self.thread = SpoolThread(self.spool, clock)
        self.entries: list[tuple[int, bytes]] = []
        self.handed_on: list[list[int]] = []
        self.numbers: list[int] = []
        self.writes: list[tuple[int, bool]] = []
        self.syncs = 0
        self.known = 0, 0
        self._keep, self._sync = self.spool.keep, self.spool.sync
        self.journal, board = JournalFeed(self.thread), Board((), now_ms)
        self.keeper = Keeper(
            self.journal, board, clock, self.judge, lambda: self.known, self.hand_on, lambda: None, lambda: None
        )

    def judge(self) -> Verdict:
        """Give the verdict of a gateway with the alarms that the test says."""

        def kept(numbers: object, batch: int, *, on_disk: bool) -> None:
            del numbers, batch, on_disk

        entries, self.entries = self.entries, []
        return Verdict(entries, kept)

    def hand_on(self, kept: list[Kept]) -> None:
        """Take what is safe."""
        self.handed_on.append([int(each.sample.columns.time_ms[0]) for each in kept])
        self.numbers += [each.number for each in kept]

    def keep(
        self, parts: Sequence[Part], entries: Sequence[tuple[int, bytes]], *, synced: bool
    ) -> tuple[list[int], list[int]]:
        """Write, and count it."""
        given = self._keep(parts, entries, synced=synced)
        self.writes.append((len(parts), synced))
        return given

    def sync(self) -> None:
        """Sync, and count it."""
        self._sync()
        self.syncs += 1

    def mended(self) -> bool:
        """Wake the loop, and tell whether the disk takes everything again."""
        self.keeper.wake()
        return not self.keeper.trouble

    def told(self) -> list[int]:
        """All that was handed on, in its order."""
        return [*chain(*self.handed_on)]

    def log(self) -> bytes:
        """Read the spool's log."""
        return Path(f"{self.path}-wal").read_bytes()

    def on_disk(self) -> int:
        """Count the batches that another process sees, and so would find after a kill."""
        with closing(sqlite3.connect(self.path)) as other:
            return int(other.execute("SELECT count(*) FROM batches").fetchone()[0])


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], None]:
    """Run a story with a keep loop that runs meanwhile and is cut off at the story's end."""

    async def told(story: Story) -> None:
        run = Run(tmp_path)
        monkeypatch.setattr(run.spool, "keep", run.keep)
        monkeypatch.setattr(run.spool, "sync", run.sync)
        running = asyncio.create_task(run.keeper.run())
        try:
            await story(run)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            run.thread.close()

    return lambda story: asyncio.run(told(story))


def test_every_sample_is_on_disk_at_once_and_handed_on_when_it_is_synced(
    begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill takes nothing that was read; a card bears only so many synced writes, and nothing is sent before one."""
    monkeypatch.setattr(keep, "SYNC_EVERY_S", HOUR_S)

    async def story(run: Run) -> None:
        run.keeper.put(sample(1))
        await eventually_async(lambda: run.handed_on == [[1]])
        for time_ms in (2, 3):
            run.keeper.put(sample(time_ms))
            await eventually_async(lambda: len(run.writes) == time_ms)  # noqa: B023 - within this turn
            assert run.on_disk() == time_ms
        assert run.handed_on == [[1]]
        run.entries = [(4, b"raised")]
        run.keeper.wake()
        await eventually_async(lambda: run.handed_on == [[1], [2, 3]])
        assert run.writes == [(1, False), (1, False), (1, False), (0, True)]
        assert run.syncs == 1

    begin(story)


def test_what_was_written_soon_after_a_sync_is_synced_together_without_more_to_come(
    begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes last before a silence is not left to the next power cut."""
    monkeypatch.setattr(keep, "SYNC_EVERY_S", 0.5)

    async def story(run: Run) -> None:
        run.keeper.put(sample(1))
        await eventually_async(lambda: run.handed_on == [[1]])
        for time_ms in (2, 3):
            run.keeper.put(sample(time_ms))
        await eventually_async(lambda: [*chain(*run.handed_on)] == [1, 2, 3])
        assert sum(synced for _, synced in run.writes) + run.syncs == len(run.handed_on)

    begin(story)


def test_more_than_may_be_written_one_by_one_is_gathered(
    begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway of hundreds of devices does not judge and write a thousand times a second."""
    monkeypatch.setattr(keep, "AT_ONCE", 3)
    monkeypatch.setattr(keep, "WRITES_PER_S", 1 / HOUR_S)

    async def story(run: Run) -> None:
        for time_ms in range(1, 4):
            run.keeper.put(sample(time_ms))
            await eventually_async(lambda: len(run.writes) == time_ms)  # noqa: B023 - within this turn
        run.keeper.put(sample(4))
        # A write that did not wait would be in the spool's thread before this.
        for _ in range(3):
            await asyncio.sleep(0)
        await run.thread.call(run.spool.counters)
        assert len(run.writes) == 3

    begin(story)


def test_a_disk_that_does_not_sync_is_told_and_what_it_took_is_sent(
    begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody believes a disk that failed at it, and the cloud side gets what may be gone after the next power cut."""

    async def story(run: Run) -> None:
        def refuse() -> None:
            raise sqlite3.OperationalError("not synced")

        monkeypatch.setattr(run.spool, "sync", refuse)
        run.keeper.put(sample(1))
        await eventually_async(lambda: run.handed_on == [[1]])
        assert run.on_disk() == 1
        assert run.keeper.trouble == "not synced"

    begin(story)


def test_what_comes_after_a_trouble_in_which_nothing_came_has_numbers_above_those_left_out(
    begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends was told of those: an alarm's entry under one of them would never go up."""
    monkeypatch.setattr(keep, "RETRY_FIRST_S", 0.01)

    async def story(run: Run) -> None:
        def refuse() -> None:
            raise sqlite3.OperationalError("not synced")

        before = run.journal.newest
        with monkeypatch.context() as disk:
            disk.setattr(run.spool, "sync", refuse)
            run.keeper.put(sample(1))
            await eventually_async(lambda: run.keeper.trouble)
        await eventually_async(run.mended)
        left_out = before + NUMBERS_LEFT_OUT
        assert run.journal.newest == left_out
        run.entries = [(2, b"raised")]
        run.keeper.put(sample(2))
        await eventually_async(lambda: run.handed_on == [[1], [2]])
        waits = await run.journal.waiting(left_out)
        assert [each.body for each in waits or []] == [b"raised"]
        counters = await run.thread.call(run.spool.counters)
        assert counters["batch_last"] > left_out

    begin(story)


def test_a_number_that_went_up_from_memory_is_given_out_by_no_later_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No start on the same disk, nor after a power cut: the cloud side would take another batch or alarm for known."""

    async def from_memory(run: Run) -> tuple[list[int], list[int]]:
        def refuse(*_: object, **__: object) -> Never:
            raise sqlite3.OperationalError("attempt to write a readonly database")

        monkeypatch.setattr(run.spool, "keep", refuse)
        running = asyncio.create_task(run.keeper.run())
        run.entries = [(1, b"raised")]
        run.keeper.put(sample(1))
        await eventually_async(lambda: run.handed_on)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        entries = await run.journal.waiting(0) or []
        run.thread.close()
        return run.numbers, [each.number for each in entries]

    first_batches, first_entries = asyncio.run(from_memory(Run(tmp_path)))
    batches, entries = asyncio.run(from_memory(Run(tmp_path, Ahead(1))))
    assert min(batches) > max(first_batches)
    assert min(entries) > max(first_entries)
    with closing(sqlite3.connect(tmp_path / "spool.sqlite")) as database, database:
        database.execute("UPDATE counters SET value = 7 WHERE name = 'opened_in_boot'")
    with closing(Run(tmp_path, Ahead(2)).spool) as cut:
        assert cut.counters()["batch_last"] > max(batches)
        assert cut.counters()["journal_last"] > max(entries)


def test_what_a_disk_did_not_show_at_the_start_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it may only be read the newest may be out of sight, in the log: it is kept once the disk is back."""
    monkeypatch.setattr(keep, "RETRY_FIRST_S", 0.01)
    first, torn = Run(tmp_path), tmp_path / "torn"
    # What is taken into the file is seen, what is in its log is not.
    first.spool.recover(1)
    first.spool.keep([("D", ("X",), sample(1).columns)], [(1, b"raised")])
    torn.mkdir()
    for name in ("spool.sqlite", "spool.sqlite-wal"):
        shutil.copy(tmp_path / name, torn)
    first.thread.close()
    read_as = spool_file._reading  # noqa: SLF001 - what it does is not changed

    async def story() -> None:
        def refuse(*_: object) -> Never:
            raise sqlite3.OperationalError("attempt to write a readonly database")

        with monkeypatch.context() as disk:
            disk.setattr(spool_file, "_ready", refuse)
            disk.setattr(spool_file, "_reading", lambda uri, how: read_as(uri, how) if "immutable" in uri else refuse())
            run = Run(torn)
            assert run.spool.uncommitted(0, 2**62, 9) == []
            running = asyncio.create_task(run.keeper.run())
            run.entries = [(2, b"returned")]
            run.keeper.put(sample(2))
            await eventually_async(lambda: run.told() == [2])
        await eventually_async(run.mended)
        batches = await run.thread.call(run.spool.uncommitted, 0, 2**62, 9)
        assert [int(batch.columns.time_ms[0]) for batch in batches] == [1, 2]
        assert [each.body for each in run.spool.journal.waiting(0, 9)] == [b"raised", b"returned"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        run.thread.close()

    asyncio.run(story())


def test_a_disk_that_fails_and_is_gone_ends_nothing(
    begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file cannot be opened anew live data goes up all the same, and is kept once it can be."""
    monkeypatch.setattr(keep, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(keep, "RETRY_MOST_S", 0.01)

    async def story(run: Run) -> None:
        def gone(*_: object, **__: object) -> Never:
            raise OSError("Input/output error")

        with monkeypatch.context() as disk:
            disk.setattr(spool, "open_file", gone)
            # As a write that fails leaves it: closed, and not opened anew.
            await run.thread.recover()
            for time_ms in range(1, 5):
                await asyncio.sleep(0.02)
                run.keeper.put(sample(time_ms))
                await eventually_async(lambda: [*chain(*run.handed_on)] == [*range(1, time_ms + 1)])  # noqa: B023 - within this turn
            assert run.keeper.trouble
        put = 4
        while run.keeper.trouble and put < MANY:
            put += 1
            run.keeper.put(sample(put))
            await asyncio.sleep(0.02)
        await eventually_async(lambda: [*chain(*run.handed_on)] == [*range(1, put + 1)])
        assert run.on_disk() == put

    begin(story)


@pytest.mark.parametrize("gone", ["the file", "its log", "both", "replaced"])
def test_a_spool_that_is_deleted_or_replaced_is_written_anew_with_all_that_it_held(
    begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """What is open can still be read: nothing of it is lost, and what is there instead is set aside."""
    monkeypatch.setattr(keep, "RETRY_FIRST_S", 0.01)

    async def story(run: Run) -> None:
        run.entries = [(1, b"raised")]
        run.keeper.put(sample(1))
        await eventually_async(lambda: run.told() == [1])
        for file, which in ((run.path, "the file"), (Path(f"{run.path}-wal"), "its log")):
            if gone in (which, "both"):
                file.unlink()
        if gone == "replaced":
            another = run.path.with_name("another")
            Spool.open(another, 8, 60, 1).close()
            another.replace(run.path)
        run.keeper.put(sample(2))
        await eventually_async(lambda: run.keeper.trouble == spool.GONE)
        await eventually_async(run.mended)
        run.keeper.put(sample(3))
        await eventually_async(lambda: run.told() == [1, 2, 3])
        assert run.on_disk() == 3
        with closing(sqlite3.connect(run.path)) as other:
            assert other.execute("SELECT body FROM journal").fetchall() == [(b"raised",)]
        assert len([*run.path.parent.glob("spool.sqlite.damaged-*")]) == (gone in ("its log", "replaced"))

    begin(story)


def test_what_comes_while_much_is_forgotten_is_kept_before_the_rest_of_it(
    begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day's batches that were committed at once leave at once: a slow card takes its time for that."""
    monkeypatch.setattr(spool, "TRIM_CHUNK", 1)
    monkeypatch.setattr(keep, "TRIM_EVERY_S", 0.0)
    done: list[str] = []

    async def story(run: Run) -> None:
        loop, forget, keep_ = asyncio.get_running_loop(), run.spool._forget, run.spool.keep  # noqa: SLF001 - as it is

        def forgotten(rows: Sequence[tuple[int, int]]) -> None:
            if not done:
                loop.call_soon_threadsafe(run.keeper.put, sample(3))
            done.append("forgotten")
            forget(rows)

        def kept(*args: object, **how: object) -> object:
            done.append("kept")
            return keep_(*args, **how)  # type: ignore[arg-type]

        await run.thread.call(run.spool.append, [("D", ("X",), sample(1).columns)] * 5)
        await run.thread.call(run.spool.commit_upto, 2**62, 1)
        run.keeper.put(sample(2))
        await eventually_async(lambda: run.told() == [2])
        monkeypatch.setattr(run.spool, "_forget", forgotten)
        monkeypatch.setattr(run.spool, "keep", kept)
        run.known = spool.ALL
        run.keeper.wake()
        await eventually_async(lambda: len(done) == 6)
        assert done == ["forgotten", "kept", *(["forgotten"] * 4)]
        assert run.on_disk() == 2

    begin(story)


def test_a_sync_waits_for_no_look_up_of_a_name(begin: Callable[[Story], None]) -> None:
    """These may have all the loop's threads for as long as nobody answers."""
    answered = threading.Event()

    async def story(run: Run) -> None:
        with ThreadPoolExecutor(1) as lookups:
            asyncio.get_running_loop().set_default_executor(lookups)
            lookups.submit(answered.wait)
            try:
                run.keeper.put(sample(1))
                await eventually_async(lambda: run.handed_on == [[1]])
            finally:
                answered.set()

    begin(story)


def test_a_sync_that_hangs_holds_no_end_up(begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs leaves the process free to end."""
    begun, over = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        over.wait()

    async def story(run: Run) -> None:
        monkeypatch.setattr(run.spool, "sync", hang)
        run.keeper.put(sample(1))
        await eventually_async(begun.is_set)

    too_late = threading.Timer(30, over.set)
    too_late.start()
    try:
        begin(story)
        assert not over.is_set()
    finally:
        too_late.cancel()
        over.set()


@pytest.mark.parametrize("written", ["at once", "in the end", "never"])
def test_a_disk_that_hangs_holds_nothing_up_and_takes_everything_once(
    begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """Whatever becomes of the write that hung: readings and entries go on, and are kept once when the disk answers."""
    monkeypatch.setattr(keep, "RETRY_FIRST_S", 0.01)
    answers = threading.Event()

    async def story(run: Run) -> None:
        def hang(
            parts: Sequence[Part], entries: Sequence[tuple[int, bytes]], *, synced: bool
        ) -> tuple[list[int], list[int]]:
            given = run.keep(parts, entries, synced=synced) if written == "at once" else None
            answers.wait(60)
            if written == "never":
                raise sqlite3.OperationalError("disk I/O error")
            return given or run.keep(parts, entries, synced=synced)

        run.keeper.put(sample(1))
        await eventually_async(lambda: run.told() == [1])
        with monkeypatch.context() as disk:
            disk.setattr(spool_thread, "DISK_PATIENCE_S", 0.2)
            disk.setattr(run.spool, "keep", hang)
            run.entries = [(2, b"raised")]
            run.keeper.put(sample(2))
            await eventually_async(lambda: run.told() == [1, 2])
        assert run.keeper.trouble == "the disk hangs"
        run.keeper.put(sample(3))
        await eventually_async(lambda: run.told() == [1, 2, 3])
        # It goes up, and what the thread may be about to write does not, by any reader.
        assert [each.body for each in await run.journal.waiting(0) or []] == [b"raised"]
        assert await run.thread.attempt([], run.spool.uncommitted, 0, 2**62, 9) == []
        answers.set()
        await eventually_async(run.mended)
        run.keeper.put(sample(4))
        await eventually_async(lambda: run.told() == [1, 2, 3, 4])
        batches = await run.thread.call(run.spool.uncommitted, 0, 2**62, 9)
        assert [int(batch.columns.time_ms[0]) for batch in batches] == [1, 2, 3, 4]
        assert batches[1].number > batches[0].number + NUMBERS_LEFT_OUT
        assert (await run.thread.call(run.spool.counters))["readings_polled"] == 4
        assert [each.body for each in await run.journal.waiting(0) or []] == [b"raised"]
        assert run.journal.held == 0

    try:
        begin(story)
    finally:
        answers.set()


@pytest.mark.parametrize("comes", [1, MANY])
def test_what_comes_while_the_disk_takes_what_waited_goes_up_before_the_rest_of_it(
    begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch, comes: int
) -> None:
    """A card that was in trouble may be slow for long; all is kept in the end, also where as much comes as it takes."""
    monkeypatch.setattr(keep, "RETRY_FIRST_S", HOUR_S)
    monkeypatch.setattr(keep, "CHUNK", 1)

    async def story(run: Run) -> None:
        loop, append, handed_on = asyncio.get_running_loop(), run.spool.append, list[list[int]]()

        def refuse(*_: object, **__: object) -> Never:
            raise sqlite3.OperationalError("disk I/O error")

        def appended(parts: Sequence[Part], numbers: Sequence[int]) -> list[int]:
            handed_on.append(run.told())
            if len(handed_on) <= comes:
                loop.call_soon_threadsafe(run.keeper.put, sample(3 + len(handed_on)))
            return append(parts, numbers)

        with monkeypatch.context() as disk:
            disk.setattr(run.spool, "keep", refuse)
            for time_ms in (1, 2, 3):
                run.keeper.put(sample(time_ms))
                await eventually_async(lambda: run.told() == [*range(1, time_ms + 1)])  # noqa: B023 - within this turn
        monkeypatch.setattr(run.spool, "append", appended)
        monkeypatch.setattr(run.keeper, "_retry_at", 0.0)
        await eventually_async(run.mended)
        assert handed_on[:2] == [[1, 2, 3], [1, 2, 3, 4]]
        assert len(handed_on) < MANY
        in_all = 3 + min(comes, len(handed_on))
        await eventually_async(lambda: run.told() == [*range(1, in_all + 1)])
        assert run.on_disk() == in_all

    begin(story)


def test_a_sync_that_hangs_holds_no_reading_up(begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is handed on, and so is what comes then; all of it is on disk once the disk answers."""
    monkeypatch.setattr(keep, "RETRY_FIRST_S", 0.01)
    answers = threading.Event()

    async def story(run: Run) -> None:
        with monkeypatch.context() as disk:
            disk.setattr(spool_thread, "DISK_PATIENCE_S", 0.2)
            disk.setattr(run.spool, "sync", partial(answers.wait, 60))
            for time_ms in (1, 2):
                run.keeper.put(sample(time_ms))
                await eventually_async(lambda: run.told() == [*range(1, time_ms + 1)])  # noqa: B023 - within this turn
        assert run.keeper.trouble == "the disk hangs"
        answers.set()
        await eventually_async(run.mended)
        run.keeper.put(sample(3))
        await eventually_async(lambda: run.told() == [1, 2, 3])
        assert run.on_disk() == 3

    try:
        begin(story)
    finally:
        answers.set()


def test_what_waits_behind_something_that_hangs_is_given_up_with_it(
    begin: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits once more for what is known to hang; that others were refused is found out without a reading."""
    monkeypatch.setattr(keep, "RETRY_FIRST_S", 0.01)
    answers = threading.Event()

    async def story(run: Run) -> None:
        with monkeypatch.context() as patience:
            patience.setattr(spool_thread, "DISK_PATIENCE_S", 0.2)
            first = asyncio.create_task(run.thread.call(answers.wait, 60))
            await asyncio.sleep(0)
            patience.setattr(spool_thread, "DISK_PATIENCE_S", HOUR_S)
            behind = asyncio.create_task(run.thread.call(run.spool.next_bd_seq))
            found = await asyncio.gather(first, behind, return_exceptions=True)
        assert [type(each) for each in found] == [DiskHangsError] * 2
        run.keeper.wake()
        await eventually_async(lambda: run.keeper.trouble)
        answers.set()
        await eventually_async(run.mended)
        # Nobody waited for it when its turn came.
        assert await run.thread.call(run.spool.next_bd_seq) == 0

    try:
        begin(story)
    finally:
        answers.set()


def test_after_a_sync_that_failed_once_no_gap_is_left_before_what_is_synced_later(
    begin: Callable[[Story], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells a failed sync once and takes the write for done; the log after it would end there."""
    monkeypatch.setattr(keep, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(keep, "RETRY_MOST_S", 0.01)

    async def story(run: Run) -> None:
        run.keeper.put(sample(1))
        await eventually_async(lambda: run.handed_on == [[1]])
        before = len(run.log())

        def fail_once(_: int) -> Never:
            disk.undo()
            raise OSError("Input/output error")

        with monkeypatch.context() as disk:
            disk.setattr(os, "fdatasync", fail_once)
            run.keeper.put(sample(2))
            await eventually_async(lambda: run.keeper.trouble)
        refused = run.log()[before:]
        put = 2
        while run.keeper.trouble and put < MANY:
            put += 1
            run.keeper.put(sample(put))
            await asyncio.sleep(0.02)
        run.entries = [(1, b"raised")]
        run.keeper.wake()
        await eventually_async(lambda: not run.entries and [*chain(*run.handed_on)] == [*range(1, put + 1)])
        await run.thread.call(run.spool.sync)
        after = tmp_path / "after"
        after.mkdir()
        shutil.copy(run.path, after / "spool.sqlite")
        (after / "spool.sqlite-wal").write_bytes(run.log().replace(refused, bytes(len(refused))))
        with closing(sqlite3.connect(after / "spool.sqlite")) as found:
            assert found.execute("SELECT count(*) FROM batches").fetchone()[0] == put
            assert found.execute("SELECT count(*) FROM journal").fetchone()[0] == 1

    begin(story)
