"""The spool: numbers and counters through kills, torn writes, damage, a full file and a cloud that went back."""

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.edge.rig import NEW_MS as NOW
from tests.edge.rig import nth, one_reading, plain, run, wide
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import LIVE_MS, NUMBERS_LEFT_OUT, Spool
from tocsin_edge.adapters.spool_codec import seal

FOR_EVER = 2**62


def open_spool(path: Path, max_mb: int = 64) -> Spool:
    """Open the spool at `path` with the usual bounds."""
    return Spool.open(path, max_mb, 600, NOW)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the file's place, in a folder that is not there yet."""
    return tmp_path / "gateways" / "gw" / "spool.sqlite"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    """Give a new spool."""
    with closing(open_spool(path)) as new:
        yield new


def fill(spool: Spool, batches: int) -> list[int]:
    """Append batches of one reading, each with its number as value, in one transaction."""
    return spool.append([("dev", ("a", "b"), one_reading(NOW + n, float(n))) for n in range(batches)])


def waiting(spool: Spool) -> list[int]:
    """List the numbers that wait for a commit."""
    return [batch.number for batch in spool.uncommitted(0, FOR_EVER, 1_000_000)]


def test_batches_come_back_as_they_were_given(spool: Spool) -> None:
    """Device, names and columns return unchanged, under numbers that count up."""
    columns = Columns(
        np.array([1, 0], dtype=np.int64),
        np.array([NOW, NOW + 1]),
        np.array([np.nan, 1.5]),
        np.array([24, 192], np.uint8),
    )
    assert spool.append([("dev", ("a", "b"), columns), ("other", ("c",), one_reading(NOW, 2.0))]) == run(1, 2)
    first, second = spool.uncommitted(0, FOR_EVER, 10)
    assert (first.number, first.device, first.metrics) == (nth(1), "dev", ("a", "b"))
    assert (second.device, second.metrics) == ("other", ("c",))
    for kept, given_ in (
        (first.columns.metric, columns.metric),
        (first.columns.time_ms, columns.time_ms),
        (first.columns.value, columns.value),
        (first.columns.quality, columns.quality),
    ):
        np.testing.assert_array_equal(kept, given_)


def test_counters_follow_commits_and_a_host_that_went_back(spool: Spool) -> None:
    """Polled, committed and the floor keep in step; reopening takes commits back; no number is used twice."""
    fill(spool, 10)
    spool.commit([nth(2), nth(3), nth(7)], NOW)
    assert spool.counters()["batch_committed"] == nth(0)
    spool.commit_upto(nth(4), NOW)
    counters = spool.counters()
    assert (counters["batch_last"], counters["batch_committed"], counters["readings_committed"]) == (nth(10), nth(4), 5)
    assert waiting(spool) == [*run(5, 6), *run(8, 10)]
    assert spool.reopen(nth(2)) == 3
    assert waiting(spool) == run(3, 10)
    assert spool.counters()["readings_committed"] == 2
    assert fill(spool, 1) == [nth(11)]
    assert spool.counters()["readings_polled"] == 11


def test_committed_batches_are_kept_a_while_longer(spool: Spool) -> None:
    """What was committed is forgotten after the keep time, not before; numbers go on."""
    fill(spool, 4)
    spool.commit_upto(nth(2), NOW)
    spool.trim(NOW + 600_000)
    assert spool.reopen(0) == 2
    spool.commit_upto(nth(2), NOW)
    spool.trim(NOW + 600_001)
    assert spool.reopen(0) == 0
    assert waiting(spool) == run(3, 4)
    assert fill(spool, 1) == [nth(5)]


def test_over_the_bound_the_oldest_go_and_are_counted(path: Path) -> None:
    """Committed batches go first; then the oldest history, with its readings counted; the newest stay."""
    columns = wide(2000, NOW)
    with closing(open_spool(path, max_mb=8)) as spool:
        for _ in range(300):
            spool.append([("dev", ("a",), columns)])
        spool.commit_upto(nth(50), NOW)
        lost = spool.trim(NOW)
        counters = spool.counters()
        left = waiting(spool)
        assert lost == counters["readings_dropped"] > 0
        assert counters["readings_polled"] == counters["readings_dropped"] + 2000 * (len(left) + 50)
        assert left == list(range(left[0], nth(301)))
        assert counters["batch_committed"] == left[0] - 1
        for _ in range(300):
            spool.append([("dev", ("a",), columns)])
            spool.trim(NOW)
    assert path.stat().st_size < 13_000_000


def test_bdseq_counts_on_over_restarts_and_wraps(path: Path) -> None:
    """Each connection gets the next of 0 to 255."""
    seen = []
    for _ in range(3):
        with closing(open_spool(path)) as spool:
            seen += [spool.next_bd_seq() for _ in range(100)]
    assert seen == [n % 256 for n in range(300)]


def append_for_ever(path: Path, told: Connection) -> None:
    """Append and tell each number after it is kept; run in a process of its own, to be killed."""
    spool = open_spool(path)
    while True:
        told.send(fill(spool, 3)[-1])


def test_kill_9_loses_nothing_that_was_told_as_kept(path: Path) -> None:
    """Killed in the middle of writing, again and again: every number told is there, whole, and the count agrees."""
    context = multiprocessing.get_context("spawn")
    for round_ in range(3):
        ours, theirs = context.Pipe(duplex=False)
        writer = context.Process(target=append_for_ever, args=(path, theirs))
        writer.start()
        theirs.close()
        told = 0
        for _ in range(20 + 7 * round_):
            told = ours.recv()
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        while ours.poll():
            try:
                told = ours.recv()
            except EOFError:
                break
        ours.close()
        with closing(open_spool(path)) as spool:
            kept = waiting(spool)
            assert kept == run(1, len(kept))
            assert nth(len(kept)) >= told
            assert spool.counters()["readings_polled"] == len(kept)
    assert not list(path.parent.glob("*damaged*"))


def copy_of_open_spool(path: Path, to: Path) -> None:
    """Write a spool of 12 single batches, all of it still in the WAL, and copy it as a power cut would leave it."""
    with closing(open_spool(path)) as spool:
        for _ in range(12):
            fill(spool, 1)
        to.mkdir()
        for suffix in ("", "-wal"):
            (to / f"spool.sqlite{suffix}").write_bytes(path.with_name(path.name + suffix).read_bytes())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.integers(1, 60_000), change=st.none() | st.integers(1, 255))
def test_a_torn_tail_is_cut_never_refused(
    tmp_path_factory: pytest.TempPathFactory, tail: int, change: int | None
) -> None:
    """The WAL cut short, or a byte of its tail changed: the spool opens with a prefix of what was kept, and goes on."""
    folder = tmp_path_factory.mktemp("torn")
    torn = folder / "torn"
    copy_of_open_spool(folder / "spool.sqlite", torn)
    wal = torn / "spool.sqlite-wal"
    body = bytearray(wal.read_bytes())
    at = max(0, len(body) - tail)
    if change is None:
        wal.write_bytes(body[:at])
    else:
        body[at] ^= change
        wal.write_bytes(body)
    with closing(open_spool(torn / "spool.sqlite")) as spool:
        kept = waiting(spool)
        assert kept == run(1, len(kept))
        assert len(kept) <= 12
        assert spool.counters()["readings_polled"] == len(kept)
        assert fill(spool, 1) == [nth(len(kept) + 1)]


@pytest.mark.parametrize(
    "damage", [b"no database at all" * 100, b"\x00" * 5000, b"SQLite format 3\x00" + b"\xff" * 5000]
)
def test_a_file_that_is_no_spool_is_set_aside(path: Path, damage: bytes) -> None:
    """The gateway starts with a new spool; the old file stays for people to look at."""
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    with closing(open_spool(path)) as spool:
        # Which numbers the old file had given out nobody knows; the clock is ahead of them all.
        assert fill(spool, 2) == run(1, 2)
        assert spool.counters()["files_set_aside"] == 1
    assert next(found.read_bytes() for found in path.parent.glob("*damaged-*")).startswith(damage[:16])


def test_a_spool_that_cannot_even_be_opened_costs_the_new_one_nothing(path: Path) -> None:
    """As one whose first sector is gone: what SQLite says of that at once is said of the old file, not of the disk."""
    path.mkdir(parents=True)
    with closing(open_spool(path)) as spool:
        assert fill(spool, 2) == run(1, 2)
        assert spool.counters()["files_set_aside"] == 1
    assert list(path.parent.glob("*damaged-*"))
    with closing(open_spool(path)) as spool:
        assert waiting(spool) == run(1, 2)


def test_what_a_damaged_file_still_gives_is_taken_over(path: Path) -> None:
    """Pages overwritten in the middle: counters go on, and every batch that still reads well waits to be sent."""
    with closing(open_spool(path)) as spool:
        for _ in range(40):
            fill(spool, 50)
        spool.next_bd_seq()
    body = bytearray(path.read_bytes())
    middle = len(body) // 2 // 4096 * 4096
    body[middle : middle + 4096] = b"\xa5" * 4096
    path.write_bytes(body)
    with closing(open_spool(path)) as spool:
        kept = waiting(spool)
        # One page of 4096 bytes held some 50 of them.
        assert 1900 < len(kept) < 2000
        assert all(batch.columns.time_ms[0] >= NOW for batch in spool.uncommitted(0, FOR_EVER, 3000))
        counters = spool.counters()
        assert (counters["batch_last"], counters["readings_polled"], counters["bd_seq"]) == (
            nth(2000) + NUMBERS_LEFT_OUT,
            2000,
            0,
        )
        assert fill(spool, 1) == [nth(2001) + NUMBERS_LEFT_OUT]
    assert list(path.parent.glob("*damaged*"))


def test_a_damaged_batch_is_dropped_and_counted(path: Path, spool: Spool) -> None:
    """Bytes changed inside one batch, which SQLite cannot see: it is dropped with its count, the others are sent."""
    fill(spool, 3)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE batches SET columns = zeroblob(length(columns)) WHERE number = ?", (nth(2),))
    assert waiting(spool) == [nth(1), nth(3)]
    assert spool.counters()["readings_dropped"] == 1


def test_a_read_only_disk_is_an_error_not_damage(path: Path) -> None:
    """A sound file that cannot be written is never set aside."""
    open_spool(path).close()
    with closing(sqlite3.connect(path)) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError):
            open_spool(path)
    assert not list(path.parent.glob("*damaged*"))


def test_history_goes_before_live_and_each_is_counted_by_its_class(path: Path) -> None:
    """Over the bound an old backlog goes first, even where its numbers are higher; then live, and both are counted."""
    fresh, old = wide(2000, NOW), wide(2000, NOW - LIVE_MS - 1)
    with closing(open_spool(path, max_mb=8)) as spool:
        for columns in (fresh, old):
            spool.append([("dev", ("a",), columns)] * 150)
        assert spool.trim(NOW) > 0
        counters = spool.counters()
        assert counters["readings_dropped_live"] == 0
        assert counters["readings_dropped"] == counters["readings_dropped_history"] > 0
        assert waiting(spool)[:150] == run(1, 150)
        spool.append([("dev", ("a",), fresh)] * 300)
        spool.trim(NOW)
        counters = spool.counters()
        assert counters["readings_dropped_history"] == 150 * 2000
        assert counters["readings_dropped_live"] > 0
        assert counters["readings_dropped"] == counters["readings_dropped_history"] + counters["readings_dropped_live"]


def test_the_journal_is_never_dropped(path: Path) -> None:
    """Over the bound by the journal alone: every batch goes, every entry stays, in order, until it is committed."""
    body = b"x" * 50_000
    with closing(open_spool(path, max_mb=8)) as spool:
        fill(spool, 10)
        entries = spool.journal.append([(NOW + n, body) for n in range(300)])
        assert entries == run(1, 300)
        spool.trim(NOW)
        assert waiting(spool) == []
        assert [entry.number for entry in spool.journal.waiting(0, 1000)] == entries
        spool.journal.commit_upto(nth(290), NOW)
        spool.trim(NOW + 600_000)
        assert spool.journal.reopen(nth(280)) == 10
        spool.journal.commit_upto(nth(290), NOW)
        spool.trim(NOW + 600_001)
        assert spool.journal.reopen(0) == 0
        assert [entry.number for entry in spool.journal.waiting(0, 1000)] == run(291, 300)
        counters = spool.counters()
        assert (counters["journal_last"], counters["journal_committed"]) == (nth(300), nth(290))
        fill(spool, 5)
        spool.trim(NOW)
        assert len(waiting(spool)) == 5


def test_a_damaged_entry_is_told_and_counted_and_the_others_come(path: Path, spool: Spool) -> None:
    """An entry whose bytes were changed is not passed on as if it were what was written."""
    spool.journal.append([(NOW, b"first"), (NOW, b"second"), (NOW + 1, b"third")])
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE journal SET time_ms = time_ms + 1 WHERE number = ?", (nth(2),))
    assert [entry.body for entry in spool.journal.waiting(0, 9)] == [b"first", b"third"]
    assert spool.counters()["journal_damaged"] == 1


def test_what_is_behind_damaged_entries_comes_in_their_place(path: Path, spool: Spool) -> None:
    """However few are asked for: that none is given means that none waits."""
    spool.journal.append([(NOW, bytes([place])) for place in range(6)])
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE journal SET time_ms = time_ms + 1 WHERE number IN (?, ?, ?)", (nth(1), nth(2), nth(4)))
    assert [entry.number for entry in spool.journal.waiting(0, 1)] == [nth(3)]
    assert [entry.number for entry in spool.journal.waiting(0, 3)] == [nth(3), nth(5), nth(6)]
    assert spool.journal.waiting(nth(6), 1) == []
    assert spool.counters()["journal_damaged"] == 3


def test_a_batch_is_not_taken_for_another_devices(path: Path, spool: Spool) -> None:
    """A layout that turns into another one by damage: its batches are dropped, not told as another device's."""
    spool.append([("dev", ("a",), one_reading(NOW, 1.0)), ("other", ("a",), one_reading(NOW, 2.0))])
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE batches SET layout = 1")
    assert [(batch.number, batch.device) for batch in spool.uncommitted(0, FOR_EVER, 9)] == [(nth(1), "dev")]
    assert spool.counters()["readings_damaged"] == 1


def test_a_spool_of_the_first_schema_is_taken_over(path: Path) -> None:
    """What an earlier version kept is sent by this one: its checksums did not hold the names."""
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as old, old:
        old.executescript(
            "CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE layouts(id INTEGER PRIMARY KEY, device TEXT NOT NULL, metrics TEXT NOT NULL);"
            "CREATE TABLE batches(number INTEGER PRIMARY KEY, layout INTEGER, readings INTEGER, columns BLOB,"
            " committed_ms INTEGER);"
            "INSERT INTO counters VALUES ('readings_polled', 3), ('batch_last', 3), ('bd_seq', 9);"
            """INSERT INTO layouts VALUES (1, 'dev', '["a"]');"""
            "PRAGMA user_version = 1;"
        )
        for number in (2, 3):
            old.execute("INSERT INTO batches VALUES (?, 1, 1, ?, NULL)", (number, plain(one_reading(NOW, number))))
    with closing(open_spool(path)) as spool:
        found = [(batch.number, batch.columns.value.tolist()) for batch in spool.uncommitted(0, FOR_EVER, 9)]
        assert found == [(2, [2.0]), (3, [3.0])]
        assert spool.counters()["readings_polled"] == 3
        assert spool.next_bd_seq() == 10


def test_what_an_earlier_version_has_not_packed_is_sent(path: Path) -> None:
    """The same file goes on: what waits in it in another form comes first, as it was, then what is packed."""
    columns = Columns(
        np.array([1, 0]), np.array([NOW, NOW - 7]), np.array([-0.0, np.nan]), np.array([192, 0], np.uint8), NOW - 9
    )
    with closing(open_spool(path)) as spool:
        spool.append([("dev", ("a", "b"), columns)] * 2)
    with closing(sqlite3.connect(path)) as other, other:
        for number in run(1, 2):
            blob = plain(columns, seal(number, "dev", ("a", "b")))
            other.execute("UPDATE batches SET columns = ? WHERE number = ?", (blob, number))
    with closing(open_spool(path)) as spool:
        spool.append([("dev", ("a", "b"), columns)])
        found = spool.uncommitted(0, FOR_EVER, 9)
        assert [batch.number for batch in found] == run(1, 3)
        assert {batch.columns.value.tobytes() for batch in found} == {columns.value.tobytes()}
        assert {batch.columns.time_ms.tobytes() for batch in found} == {columns.time_ms.tobytes()}
        assert {batch.columns.unsynchronised_ms for batch in found} == {NOW - 9}
        assert spool.counters()["readings_dropped"] == 0


def test_batches_that_went_out_unkept_keep_their_numbers(spool: Spool) -> None:
    """What was sent while the disk took nothing is kept under the numbers it was sent with; new ones come above."""
    assert fill(spool, 2) == run(1, 2)
    spool.commit_upto(nth(2), NOW)
    parts = [("dev", ("a",), one_reading(NOW + n, n)) for n in range(2)]
    assert spool.append(parts, run(500, 501)) == run(500, 501)
    assert spool.counters()["batch_committed"] == nth(499)
    assert fill(spool, 1) == [nth(502)]
    spool.note_lost(7)
    counters = spool.counters()
    assert (counters["readings_polled"], counters["readings_dropped_live"]) == (12, 7)


def test_batches_and_the_entries_they_led_to_are_kept_together_or_not_at_all(path: Path, spool: Spool) -> None:
    """One transaction for both; what was kept can be read again whether it was committed or not."""
    part = ("dev", ("a",), one_reading(NOW, 1.0))
    assert spool.keep([part], [(NOW, b"raised")]) == ([nth(1)], [nth(1)])
    assert spool.keep([], [(NOW, b"acked"), (NOW, b"returned")]) == ([], [nth(2), nth(3)])
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'no room'); END")
    with pytest.raises(sqlite3.Error, match="no room"):
        spool.keep([part], [(NOW, b"lost")])
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TRIGGER full")
    assert spool.keep([part, part], []) == ([nth(2), nth(3)], [])
    spool.commit_upto(nth(2), NOW)
    assert spool.journal.commit_upto(nth(2), NOW) == nth(2)
    assert [batch.number for batch in spool.since(0, 9)] == [nth(1), nth(2), nth(3)]
    assert [batch.number for batch in spool.since(nth(1), 1)] == [nth(2)]
    assert [entry.body for entry in spool.journal.since(nth(1))] == [b"acked", b"returned"]


def test_entries_that_went_out_unkept_are_kept_under_their_numbers(spool: Spool) -> None:
    """With a gap before them, and the numbers after them follow."""
    spool.journal.append([(NOW, b"first")])
    assert spool.journal.append([(NOW, b"later")], [nth(100)]) == [nth(100)]
    assert spool.journal.commit_upto(nth(1), NOW) == nth(99)
    assert spool.journal.append([(NOW, b"last")]) == [nth(101)]


def test_what_nobody_was_told_of_is_taken_back(spool: Spool) -> None:
    """Batches and entries above those that are known to be kept go, with what was counted; no number is used twice."""
    entry = [(NOW, b"raised")]
    fill(spool, 3)
    spool.journal.append(entry)
    spool.take_back(nth(3), nth(1))
    assert waiting(spool) == run(1, 3)
    spool.keep([("dev", ("a",), one_reading(NOW, 4.0))] * 2, entry)
    spool.commit([nth(1), nth(4)], NOW)
    spool.take_back(nth(3), nth(1))
    assert waiting(spool) == run(2, 3)
    assert [each.number for each in spool.journal.waiting(0, 9)] == [nth(1)]
    counters = spool.counters()
    assert (counters["readings_polled"], counters["readings_committed"]) == (3, 1)
    assert spool.append([("dev", ("a",), one_reading(NOW, 5.0))], [nth(9)]) == [nth(9)]
    assert spool.journal.append(entry) == [nth(3)]
