"""The spool on a full disk: history goes before live, the journal never, and what is acknowledged makes room."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.edge.full_disk import ALL
from tests.edge.rig import NEW_MS as NOW
from tests.edge.rig import nth, run, wide
from tests.support.small_disk import on_small_disk
from tocsin_edge.adapters import spool_room
from tocsin_edge.adapters.spool import LIVE_MS, Spool
from tocsin_edge.adapters.spool_room import Room


@pytest.mark.parametrize("ballast", ["", "ballast"])
def test_a_disk_smaller_than_the_bound_gives_up_the_oldest_and_goes_on(tmp_path: Path, ballast: str) -> None:
    """40 MB for 52 MB of batches, or less as something else takes all, what is given up too: the oldest goes."""
    found = on_small_disk("40m", tmp_path, "tests.edge.full_disk", ballast)
    waiting = found["waiting"]
    assert isinstance(waiting, int)
    # 16 MB of the disk at least; where something else has filled it, most of what there was by then.
    assert waiting > (900 if ballast else 2_000)
    assert (found["refused"] != 0) == bool(ballast)
    # Of 42 million bytes 4 are the log's, 4 the reserve, and 8 are left alone.
    assert 9_000_000 < int(str(found["room"])) < 26_500_000
    assert found == {
        "refused": found["refused"],
        "room": found["room"],
        "newest": True,
        "without_gap": True,
        "waiting": waiting,
        "lost": 6_000 - waiting,
        "lost_live": 0,
        "committed": waiting,
        "journal": 50,
        "left": 1,
    }


def test_a_new_spool_on_a_disk_of_few_megabytes_uses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a large file leaves alone is all that there is here: half of it is the new one's, beside its log."""

    def free(_: Room) -> int:
        return 9_000_000 - sum(file.stat().st_size for file in tmp_path.iterdir())

    monkeypatch.setattr(Room, "_free", free)
    with closing(Spool.open(tmp_path / "spool", 64, 600, NOW)) as spool:
        for _ in range(200):
            spool.trim(NOW)
            spool.append([("d", ("a",), wide(500, NOW))])
        assert [batch.number for batch in spool.uncommitted(0, ALL, ALL)] == run(1, 200)
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 9_000_000


def test_what_no_disk_figure_tells_is_a_full_disk_all_the_same(tmp_path: Path) -> None:
    """A file that may not grow (a quota): the oldest history goes, as much as is needed, and it is written on."""
    with closing(Spool.open(tmp_path / "spool", 64, 600, NOW)) as spool:
        spool.append([("d", ("a",), wide(500, NOW))] * 50)
        spool.append([("d", ("a",), wide(500, NOW - LIVE_MS - 1))] * 150)
        spool.journal.append([(NOW, b"entry")] * 3)
        spool.commit_upto(nth(10), NOW)
        pages = spool._db.execute("PRAGMA page_count").fetchone()[0]  # noqa: SLF001 - what a quota does, without rights
        spool._db.execute(f"PRAGMA max_page_count = {pages}")  # noqa: SLF001
        with pytest.raises(sqlite3.OperationalError, match="full"):
            spool.append([("d", ("a",), wide(500, NOW))] * 10)
        spool.trim(NOW)
        numbers = spool.append([("d", ("a",), wide(500, NOW))] * 10)
        counters = spool.counters()
        waiting = [batch.number for batch in spool.uncommitted(0, ALL, ALL)]
        assert waiting[:40] == run(11, 50)
        assert waiting[-10:] == numbers
        assert 0 < counters["readings_dropped_history"] == (200 - len(waiting)) * 500 < 50 * 500
        assert counters["readings_dropped_live"] == 0
        assert len(spool.journal.waiting(0, 9)) == 3


def test_that_there_is_no_reserve_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk without free inodes, of which it is asked every 5 s; and again once there was one."""
    room, refuses = Room(tmp_path / "spool"), [True, True, True, False, False, True, True]

    def lengthen(file: Path, _: int) -> None:
        if refuses.pop(0):
            raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(spool_room, "_lengthen", lengthen)
    with capture_logs() as logs:
        while refuses:
            room.took()
    assert [entry["event"] for entry in logs] == ["no reserve for the spool"] * 2
