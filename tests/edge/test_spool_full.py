"""The spool on a full disk: history goes before live, the journal never, and what is acknowledged makes room."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.edge.full_disk import ALL, wide
from tests.edge.rig import NEW_MS as NOW
from tests.edge.rig import nth, run
from tests.support.small_disk import on_small_disk
from tocsin_edge.adapters.spool import LIVE_MS, Spool


@pytest.mark.parametrize("ballast", ["", "ballast"])
def test_a_disk_smaller_than_the_bound_gives_up_the_oldest_and_goes_on(tmp_path: Path, ballast: str) -> None:
    """40 MB for 57 MB of batches, and less once something else fills it: the newest stay, all can be committed."""
    found = on_small_disk("40m", tmp_path, "tests.edge.full_disk", ballast)
    waiting = found["waiting"]
    assert isinstance(waiting, int)
    # 20 MB of the disk at least; where something else has filled it, half of what there was by then.
    assert waiting > (400 if ballast else 2_000)
    assert found == {
        "refused": found["refused"] if ballast else 0,
        "newest": True,
        "without_gap": True,
        "waiting": waiting,
        "lost": 6_000 - waiting - int(str(found["refused"])),
        "lost_live": 0,
        "committed": waiting,
        "journal": 50,
        "left": 1,
    }


def test_what_no_disk_figure_tells_is_a_full_disk_all_the_same(tmp_path: Path) -> None:
    """A file that may not grow (a quota): the oldest history goes, as much as is needed, and it is written on."""
    with closing(Spool.open(tmp_path / "spool", 64, 600, NOW)) as spool:
        spool.append([("d", ("a",), wide(NOW))] * 50)
        spool.append([("d", ("a",), wide(NOW - LIVE_MS - 1))] * 150)
        spool.journal.append([(NOW, b"entry")] * 3)
        spool.commit_upto(nth(10), NOW)
        pages = spool._db.execute("PRAGMA page_count").fetchone()[0]  # noqa: SLF001 - what a quota does, without rights
        spool._db.execute(f"PRAGMA max_page_count = {pages}")  # noqa: SLF001
        with pytest.raises(sqlite3.OperationalError, match="full"):
            spool.append([("d", ("a",), wide(NOW))] * 10)
        spool.trim(NOW)
        numbers = spool.append([("d", ("a",), wide(NOW))] * 10)
        counters = spool.counters()
        waiting = [batch.number for batch in spool.uncommitted(0, ALL, ALL)]
        assert waiting[:40] == run(11, 50)
        assert waiting[-10:] == numbers
        assert 0 < counters["readings_dropped_history"] == (200 - len(waiting)) * 500 < 50 * 500
        assert counters["readings_dropped_live"] == 0
        assert len(spool.journal.waiting(0, 9)) == 3
