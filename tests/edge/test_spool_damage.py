"""The spool after a power cut: its files cut short or changed at every byte of their tails, and set-aside files."""

import multiprocessing
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.edge.rig import NEW_MS as NOW
from tests.edge.rig import nth, one_reading, run
from tocsin_edge.adapters.spool import NUMBERS_LEFT_OUT, Batch, Spool
from tocsin_edge.adapters.spool_file import BOOT_ID, WAL_LIMIT

HOUR_MS: Final = 3_600_000
FOR_EVER: Final = 2**62
BATCHES: Final = 12
PAGE: Final = 4096
FRAME: Final = PAGE + 24
BITS: Final = 0x15

Damage = Callable[[bytes, int], bytes]


def cut(body: bytes, at: int) -> bytes:
    """Leave what is before byte `at`."""
    return body[:at]


def change(body: bytes, at: int) -> bytes:
    """Change some bits of byte `at`."""
    return body[:at] + bytes([body[at] ^ BITS]) + body[at + 1 :]


def blank(body: bytes, at: int) -> bytes:
    """Keep the length and zero the rest of the sector from byte `at`, as flash does that lost power."""
    end = min(len(body), (at // 512 + 1) * 512)
    return body[:at] + bytes(end - at) + body[end:]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder in memory where there is one: thousands of files are written."""
    shared = Path("/dev/shm")  # noqa: S108 - speed alone
    made = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield made
    shutil.rmtree(made)


def rows(spool: Spool) -> list[tuple[int, str, tuple[str, ...], list[float], list[int]]]:
    """Give everything that waits, to be compared."""
    return [plain(batch) for batch in spool.uncommitted(0, FOR_EVER, 1000)]


def plain(batch: Batch) -> tuple[int, str, tuple[str, ...], list[float], list[int]]:
    """Give a batch as plain values."""
    return (
        batch.number,
        batch.device,
        batch.metrics,
        batch.columns.value.tolist(),
        batch.columns.time_ms.tolist(),
    )


def written(folder: Path) -> list[tuple[int, str, tuple[str, ...], list[float], list[int]]]:
    """Write a spool of two devices, one transaction a batch, journal entries between; copy it with its WAL as it is."""
    with closing(Spool.open(folder / "whole", 64, 600, NOW)) as spool:
        for n in range(BATCHES):
            spool.append([(("one", "two")[n % 2], ("a", "b"), one_reading(NOW + n, n + 0.5))])
            spool.journal.append([(NOW + n, f"entry {n}".encode())])
        spool.next_bd_seq()
        spool.commit_upto(nth(2), NOW)
        for suffix in ("", "-wal"):
            shutil.copy(folder / f"whole{suffix}", folder / f"cut{suffix}")
        return rows(spool)


def check(path: Path, whole: list[tuple[int, str, tuple[str, ...], list[float], list[int]]]) -> int:
    """Open a damaged spool, compare all that it gives, use it, and say how many batches it gave."""
    known = {row[0]: row for row in whole}
    with closing(Spool.open(path, 64, 600, NOW)) as spool:
        found = rows(spool)
        # The first two batches were committed: where that was lost with the tail they come again under their numbers.
        again = [row for row in found if row[0] > nth(2)]
        assert len({row[0] for row in found}) == len(found)
        assert all(row == known[row[0]] for row in again)
        entries = spool.journal.waiting(0, 1000)
        assert [entry.body for entry in entries] == [f"entry {entry.number - nth(1)}".encode() for entry in entries]
        number = spool.append([("one", ("a", "b"), one_reading(NOW, 1.0))])[0]
        assert number > max([row[0] for row in found], default=0)
        assert rows(spool)[-1][0] == number
    return len(again)


@pytest.mark.parametrize("damage", [cut, change])
def test_every_byte_of_the_tail_of_the_wal(folder: Path, damage: Damage) -> None:
    """The WAL cut, or a byte changed, anywhere in its last frame and two before: a prefix of the whole is there."""
    whole = written(folder)
    wal = (folder / "cut-wal").read_bytes()
    body = (folder / "cut").read_bytes()
    for at in range(len(wal) - FRAME, len(wal)):
        torn = folder / "torn"
        torn.write_bytes(body)
        (folder / "torn-wal").write_bytes(damage(wal, at))
        assert check(torn, whole) >= len(whole) - 1
    assert not list(folder.glob("torn.damaged-*"))


@pytest.mark.parametrize("damage", [cut, change, blank])
def test_any_sector_of_the_wal(folder: Path, damage: Damage) -> None:
    """The WAL damaged at every sector from its beginning on: what is before is kept, in order and without a hole."""
    whole = written(folder)
    wal = (folder / "cut-wal").read_bytes()
    body = (folder / "cut").read_bytes()
    kept = []
    for at in range(0, len(wal), 509):
        torn = folder / "torn"
        torn.write_bytes(body)
        (folder / "torn-wal").write_bytes(damage(wal, at))
        kept.append(check(torn, whole))
    if damage is cut:
        assert kept == sorted(kept)
        assert kept[0] == 0
    assert kept[-1] >= len(whole) - 1


def test_a_log_of_full_length_is_read_to_the_last_write_in_it(folder: Path) -> None:
    """Behind what was written last stands what was there before: it is none of it, whole or damaged in front."""
    with closing(Spool.open(folder / "whole", 64, 600, NOW)) as spool:
        # The file now has unused pages, and the log its full length.
        spool.trim(NOW)
        for n in range(BATCHES):
            spool.append([("one", ("a", "b"), one_reading(NOW + n, n + 0.5))])
        body, log = (folder / "whole").read_bytes(), (folder / "whole-wal").read_bytes()
        whole = rows(spool)
    assert len(log) == WAL_LIMIT
    kept = []
    for at in (*range(0, 40 * FRAME, FRAME + 509), len(log) - 1):
        (folder / "torn").write_bytes(body)
        (folder / "torn-wal").write_bytes(change(log, at))
        with closing(Spool.open(folder / "torn", 64, 600, NOW)) as spool:
            found = rows(spool)
            assert found == whole[: len(found)]
            kept.append(len(found))
            assert spool.append([("one", ("a", "b"), one_reading(NOW, 1.0))]) == [nth(len(found) + 1)]
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0, BATCHES)
    assert not list(folder.glob("torn.damaged-*"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("damage", [cut, change, blank])
def test_every_byte_of_the_tail_of_the_database(folder: Path, damage: Damage) -> None:
    """The file damaged at any byte of its last page and any sector of the others: no crash, nothing doubled or altered.

    What SQLite cannot use is set aside and counted.
    """
    whole = written(folder)
    with closing(sqlite3.connect(folder / "whole")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    body = (folder / "whole").read_bytes()
    places = [*range(0, len(body) - PAGE, 127), *range(len(body) - PAGE, len(body))]
    aside = 0
    for at in places:
        for file in folder.glob("torn*"):
            file.unlink()
        torn = folder / "torn"
        torn.write_bytes(damage(body, at))
        check(torn, whole)
        if list(folder.glob("torn.damaged-*")):
            aside += 1
            with closing(Spool.open(torn, 64, 600, NOW)) as spool:
                assert spool.counters()["files_set_aside"] == 1
    assert aside > 0


def test_a_salvage_keeps_what_the_journal_said_before(folder: Path) -> None:
    """Entries that are safe uphill too: a start needs all since its snapshot. They are not sent again."""
    written(folder)
    with closing(Spool.open(folder / "whole", 64, 600, NOW)) as spool:
        spool.journal.commit_upto(nth(4), NOW)
    with closing(sqlite3.connect(folder / "whole")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    body = (folder / "whole").read_bytes()
    kept = 0
    for page in range(PAGE, len(body), PAGE):
        for file in folder.glob("torn*"):
            file.unlink()
        (folder / "torn").write_bytes(body[:page] + bytes(PAGE) + body[page + PAGE :])
        with closing(Spool.open(folder / "torn", 64, 600, NOW)) as spool:
            said = [entry.number for entry in spool.journal.since(0)]
            if not list(folder.glob("torn.damaged-*")) or not said:
                continue
            kept += 1
            assert said == [nth(1 + n) for n in range(BATCHES)]
            assert [entry.number for entry in spool.journal.waiting(0, 1000)] == said[4:]
    assert kept > 0


def test_after_a_power_cut_no_number_is_given_out_again(folder: Path) -> None:
    """In another run of the system, and not closed before: numbers are left out; after a mere kill they are not."""
    if not BOOT_ID.exists():
        pytest.skip("the system does not tell one run from another")
    path = folder / "spool"
    first = Spool.open(path, 64, 600, NOW)
    assert first.append([("d", ("a",), one_reading(NOW, 1.0))]) == [nth(1)]
    with closing(Spool.open(path, 64, 600, NOW)) as killed:
        assert killed.append([("d", ("a",), one_reading(NOW, 1.0))]) == [nth(2)]
    first.close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE counters SET value = 7 WHERE name = 'opened_in_boot'")
    with closing(Spool.open(path, 64, 600, NOW)) as rebooted:
        assert rebooted.append([("d", ("a",), one_reading(NOW, 1.0))]) == [nth(NUMBERS_LEFT_OUT + 3)]
        found = [batch.number for batch in rebooted.uncommitted(0, FOR_EVER, 9)]
        assert found == [nth(1), nth(2), nth(NUMBERS_LEFT_OUT + 3)]
        assert rebooted.commit_upto(nth(2), NOW) == nth(NUMBERS_LEFT_OUT + 2)


def test_a_copy_that_is_put_back_gives_no_number_out_again(folder: Path) -> None:
    """Of a card that was closed properly and copied, and used for long after that; after a night it goes on."""
    if not BOOT_ID.exists():
        pytest.skip("the system does not tell one run from another")

    def live(now_ms: int) -> tuple[list[int], list[int]]:
        with closing(Spool.open(folder / "spool", 64, 600, now_ms)) as spool:
            return spool.keep([("d", ("a",), one_reading(now_ms, 1.0))] * 2, [(now_ms, b"raised")])

    assert live(NOW) == (run(1, 2), [nth(1)])
    copy = (folder / "spool").read_bytes()
    given = [live(NOW + hours * HOUR_MS) for hours in (12, 24, 36)]
    assert given == [(run(at, at + 1), [nth(entry)]) for at, entry in ((3, 2), (5, 3), (7, 4))]
    (folder / "spool").write_bytes(copy)
    batches, entries = live(NOW + 36 * HOUR_MS)
    assert min(batches) > nth(8)
    assert min(entries) > nth(4)


def test_a_file_that_turns_out_damaged_in_use_is_set_aside(folder: Path) -> None:
    """Noise over the file of an open spool: opened anew, it sets the file aside and goes on above every old number."""
    path = folder / "spool"
    with closing(Spool.open(path, 64, 600, NOW)) as spool:
        assert spool.append([("d", ("a",), one_reading(NOW, 1.0))] * 3) == run(1, 3)
        for name in ("spool", "spool-wal"):
            (folder / name).write_bytes(b"\xa5" * 20_000)
        spool.recover(NOW)
        assert spool.writable
        assert spool.append([("d", ("a",), one_reading(NOW, 1.0))]) == [nth(1)]
        assert spool.counters()["files_set_aside"] == 1
    assert (folder / f"spool.damaged-{NOW}").exists()


def test_a_folder_that_was_set_aside_keeps_no_damaged_file_where_it_is(folder: Path) -> None:
    """Somebody had put it in the file's place; it is not ours to delete, and no reason to go on in memory."""
    (folder / "spool.damaged-1").mkdir()
    (folder / "spool").write_bytes(b"\xa5" * 20_000)
    with closing(Spool.open(folder / "spool", 64, 600, NOW)) as spool:
        assert not spool.in_memory
    assert (folder / f"spool.damaged-{NOW}").is_file()


def test_only_the_newest_damaged_file_is_kept(folder: Path) -> None:
    """Damage again and again does not fill the disk with old files."""
    path = folder / "spool"
    for n in range(3):
        path.write_bytes(b"no database" * 100)
        Spool.open(path, 64, 600, NOW + n).close()
    assert [file.name for file in folder.glob("spool.damaged-*")] == [f"spool.damaged-{NOW + 2}"]


def on_a_full_disk(path: Path, told: Connection) -> None:
    """Fill a spool, let its files grow no more, close it, use it again, and lift the limit; in a process of its own."""
    spool = Spool.open(path, 64, 600, NOW)
    for n in range(40):
        spool.append([("d", ("a",), one_reading(NOW + n, float(n)))])
    most = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))
    # The last connection writes the WAL back into the file; it comes as far as the limit.
    spool.close()
    spool = Spool.open(path, 64, 600, NOW)
    told.send((spool.writable, len(rows(spool)), spool.counters()["files_set_aside"]))
    try:
        spool.append([("d", ("a",), one_reading(NOW, 1.0))])
    except sqlite3.OperationalError as error:
        told.send(str(error))
    spool.recover(NOW)
    told.send((spool.writable, len(rows(spool)), spool.counters()["files_set_aside"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    spool.recover(NOW)
    number = spool.append([("d", ("a",), one_reading(NOW, 1.0))])[0]
    told.send((spool.writable, len(rows(spool)), spool.counters()["files_set_aside"], number))


def without_room_for_a_page(path: Path, told: Connection) -> None:
    """Open a spool whose log may not grow, and again without a limit; in a process of its own."""
    most = resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("spool-wal").stat().st_size, most))
    spool = Spool.open(path, 64, 600, NOW)
    told.send((spool.writable, len(rows(spool))))
    try:
        spool.append([("d", ("a",), one_reading(NOW, 1.0))])
    except sqlite3.OperationalError as error:
        told.send(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    spool.recover(NOW)
    told.send((spool.writable, spool.append([("d", ("a",), one_reading(NOW, 1.0))])))


def said_by(story: Callable[[Path, Connection], None], path: Path) -> list[object]:
    """Run a story in a process of its own; give what it told."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=story, args=(path, theirs))
    process.start()
    theirs.close()
    said: list[object] = []
    with suppress(EOFError):
        while ours.poll(60):
            said.append(ours.recv())
    process.join(10)
    ours.close()
    return said


def test_a_write_back_that_a_full_disk_broke_off_is_no_damage(tmp_path: Path) -> None:
    """A file that is whole only with its WAL is not set aside while the disk is full, and goes on where it was."""
    said = said_by(on_a_full_disk, tmp_path / "spool")
    assert said == [(False, 40, 0), "disk I/O error", (False, 40, 0), (True, 41, 0, nth(41))]
    assert not list(tmp_path.glob("*damaged*"))


def test_a_disk_that_is_full_once_the_file_is_open_stops_no_start(tmp_path: Path) -> None:
    """A file that opens well and takes nothing is read all the same, and written again once there is room."""
    path, killed = tmp_path / "spool", tmp_path / "killed" / "spool"
    killed.parent.mkdir()
    with closing(Spool.open(path, 64, 600, NOW)) as spool:
        for n in range(20):
            spool.append([("d", ("a",), one_reading(NOW + n, float(n)))])
        with closing(sqlite3.connect(path, isolation_level=None)) as marks:
            # As the end of a gateway leaves it: the next start has something to write.
            marks.execute("UPDATE counters SET value = 0 WHERE name = 'opened_in_boot'")
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{killed}{suffix}")
    said = said_by(without_room_for_a_page, killed)
    assert said == [(False, 20), "attempt to write a readonly database", (True, [nth(21)])]
