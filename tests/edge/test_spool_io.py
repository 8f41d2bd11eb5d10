"""The spool on a disk that fails: nothing written after it is called safe, and what takes several steps is whole."""

import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.edge.rig import NEW_MS as NOW
from tests.edge.rig import nth, one_reading, run
from tocsin_edge.adapters import spool as spools
from tocsin_edge.adapters.spool import LIVE_MS, Spool

FOR_EVER: Final = 2**62
KEEP_MS: Final = 600_000
PARTS: Final = [*run(1, 12), *run(20, 22), *run(31, 33)]


def opened(folder: Path) -> Spool:
    """Open the spool in a folder."""
    return Spool.open(folder / "spool", 64, KEEP_MS / 1000, NOW)


def fill(spool: Spool, batches: int) -> None:
    """Append batches of one reading that is history already."""
    spool.append([("dev", ("a",), one_reading(NOW - LIVE_MS - 1, float(n))) for n in range(batches)])


@contextmanager
def broken(folder: Path) -> Iterator[None]:
    """Let every write fail that would make the spool's log longer, as a broken disk does, not as a full one."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "spool-wal").stat().st_size, most[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)


@contextmanager
def failing(folder: Path) -> Iterator[None]:
    """Have a write fail on a broken disk."""
    with broken(folder), pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        yield


WRITES: Final[dict[str, Callable[[Spool], object]]] = {
    "append": lambda spool: spool.append([("dev", ("a",), one_reading(NOW, 1.0))]),
    "commit": lambda spool: spool.commit([nth(4)], NOW),
    "commit up to": lambda spool: spool.commit_upto(nth(5), NOW),
    "reopen": lambda spool: spool.reopen(nth(1)),
    "forget": lambda spool: spool.trim(NOW + KEEP_MS + 1),
    "forget entries": lambda spool: spool.trim(NOW + KEEP_MS + 1, (0, FOR_EVER)),
    "note lost": lambda spool: spool.note_lost(7),
    "bdSeq": lambda spool: spool.next_bd_seq(),
    "note host": lambda spool: spool.note_acknowledging_host(),
    "journal": lambda spool: spool.journal.append([(NOW, b"entry")]),
    "journal commit": lambda spool: spool.journal.commit_upto(nth(2), NOW),
    "journal reopen": lambda spool: spool.journal.reopen(0),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_after_any_write_that_failed_nothing_is_called_safe_until_the_log_is_new(
    tmp_path: Path, write: Callable[[Spool], object]
) -> None:
    """The system may have told of it once and for all; after a power cut the log would end there."""
    with closing(opened(tmp_path)) as spool:
        fill(spool, 5)
        spool.journal.append([(NOW, b"first"), (NOW, b"second")])
        spool.commit_upto(nth(2), NOW)
        spool.journal.commit_upto(nth(1), NOW)
        spool.sync()
        with failing(tmp_path):
            write(spool)
        with pytest.raises(sqlite3.OperationalError, match="may be gone"):
            spool.sync()
        with pytest.raises(sqlite3.OperationalError, match="may be gone"):
            spool.keep([], [(NOW, b"raised")])
        spool.mend()
        assert (tmp_path / "spool-wal").stat().st_size == 0
        spool.sync()
        write(spool)
        assert spool.keep([], [(NOW, b"raised")])[1]


def test_a_damaged_entry_that_no_disk_takes_out_holds_up_no_other(tmp_path: Path) -> None:
    """It is counted once it is gone; what is behind it comes meanwhile."""
    with closing(opened(tmp_path)) as spool:
        spool.journal.append([(NOW, b"first"), (NOW, b"second")])
        with closing(sqlite3.connect(tmp_path / "spool")) as other, other:
            other.execute("UPDATE journal SET time_ms = time_ms + 1 WHERE number = ?", (nth(1),))
        with broken(tmp_path):
            assert [entry.body for entry in spool.journal.waiting(0, 1)] == [b"second"]
        assert spool.counters()["journal_damaged"] == 0
        assert [entry.body for entry in spool.journal.waiting(0, 9)] == [b"second"]
        assert spool.counters()["journal_damaged"] == 1


def test_an_over_full_spool_whose_disk_fails_is_no_safer(tmp_path: Path) -> None:
    """What is dropped for its bytes is dropped in the same way as any other write."""
    with closing(opened(tmp_path)) as spool:
        fill(spool, 3)
        spool.resize(0, KEEP_MS / 1000)
        with failing(tmp_path):
            spool.trim(NOW)
        with pytest.raises(sqlite3.OperationalError, match="may be gone"):
            spool.sync()


@pytest.mark.parametrize("how", [lambda spool: spool.commit_upto(nth(40), NOW), lambda spool: spool.commit(PARTS, NOW)])
def test_a_commit_that_a_kill_broke_off_is_whole_after_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[Spool], int]
) -> None:
    """It takes several transactions, as one would need all its room twice; with the first of them all of it counts."""
    monkeypatch.setattr(spools, "TRIM_CHUNK", 7)
    spool = opened(tmp_path)
    fill(spool, 50)
    with closing(sqlite3.connect(tmp_path / "spool")) as other, other:
        other.execute(
            "CREATE TRIGGER kill BEFORE UPDATE OF committed_ms ON batches"
            f" WHEN NEW.number >= {nth(10)} BEGIN SELECT RAISE(ABORT, 'killed'); END"
        )
    with pytest.raises(sqlite3.Error, match="killed"):
        how(spool)
    with closing(sqlite3.connect(tmp_path / "spool")) as other, other:
        other.execute("DROP TRIGGER kill")
    # Not closed before: as a kill leaves it.
    with closing(opened(tmp_path)) as started:
        waiting = [batch.number for batch in started.uncommitted(0, FOR_EVER, 99)]
        assert waiting in (run(41, 50), [n for n in run(1, 50) if n not in PARTS])
        assert started.counters()["readings_committed"] == 50 - len(waiting)
        assert started.counters()["batch_committed"] == waiting[0] - 1
        assert not [name for name in started.counters() if name.startswith(spools.OWED)]
        # Nothing of it is left for later: what was committed can be asked for again.
        assert started.reopen(nth(30)) == len([n for n in run(31, 50) if n not in waiting])
        started.commit([nth(50)], NOW)
        assert nth(31) in [batch.number for batch in started.uncommitted(0, FOR_EVER, 99)]
    spool.close()


@pytest.mark.parametrize("how", [lambda spool: spool.commit_upto(nth(40), NOW), lambda spool: spool.commit(PARTS, NOW)])
def test_a_commit_that_a_disk_broke_off_can_be_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[Spool], int]
) -> None:
    """As a gateway does at the host's next word: what is left of the first time is in the second, and counts once."""
    monkeypatch.setattr(spools, "TRIM_CHUNK", 7)
    with closing(opened(tmp_path)) as spool:
        fill(spool, 50)
        most = f"BEFORE UPDATE OF committed_ms ON batches WHEN NEW.number >= {nth(10)}"
        with closing(sqlite3.connect(tmp_path / "spool")) as other, other:
            other.execute(f"CREATE TRIGGER full {most} BEGIN SELECT RAISE(ABORT, 'no room'); END")
        with pytest.raises(sqlite3.Error, match="no room"):
            how(spool)
        with closing(sqlite3.connect(tmp_path / "spool")) as other, other:
            other.execute("DROP TRIGGER full")
        how(spool)
        waiting = [batch.number for batch in spool.uncommitted(0, FOR_EVER, 99)]
        assert waiting in (run(41, 50), [n for n in run(1, 50) if n not in PARTS])
        assert spool.counters()["readings_committed"] == 50 - len(waiting)
        assert not [name for name in spool.counters() if name.startswith(spools.OWED)]


def test_a_host_that_goes_back_in_the_midst_of_a_commit_is_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says that it has not is not committed later for what it said before."""
    monkeypatch.setattr(spools, "TRIM_CHUNK", 7)
    with closing(opened(tmp_path)) as spool:
        fill(spool, 50)
        most = f"BEFORE UPDATE OF committed_ms ON batches WHEN NEW.number = {nth(10)}"
        with closing(sqlite3.connect(tmp_path / "spool")) as other, other:
            other.execute(f"CREATE TRIGGER full {most} BEGIN SELECT RAISE(ABORT, 'no room'); END")
        with pytest.raises(sqlite3.Error, match="no room"):
            spool.commit_upto(nth(40), NOW)
        with closing(sqlite3.connect(tmp_path / "spool")) as other, other:
            other.execute("DROP TRIGGER full")
        spool.reopen(nth(20))
        spool.commit_upto(nth(9), NOW)
        assert [batch.number for batch in spool.uncommitted(0, FOR_EVER, 99)] == run(21, 50)


def test_what_is_forgotten_of_a_long_backlog_costs_as_much_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times as many batches take four times the work: a day's, committed at once, would take minutes otherwise."""
    monkeypatch.setattr(spools, "TRIM_CHUNK", 16)

    def work(batches: int) -> int:
        path = tmp_path / str(batches)
        path.mkdir()
        with closing(opened(path)) as spool:
            fill(spool, batches)
            spool.commit_upto(nth(batches), NOW)
            steps = 0

            def step() -> int:
                nonlocal steps
                steps += 1
                return 0

            spool._db.set_progress_handler(step, 10)  # noqa: SLF001 - SQLite's own count of what it does
            spool.trim(NOW + KEEP_MS + 1)
            assert spool.reopen(0) == 0
            return steps

    assert work(1600) < 6 * work(400)
