"""A spool on a disk that is smaller than its bound: run as a module on a small disk, prints what became of it."""

import json
import os
import sqlite3
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from tests.edge.rig import NEW_MS as NOW
from tests.edge.rig import wide
from tocsin_edge.adapters import spool as spools
from tocsin_edge.adapters.spool import Spool
from tocsin_edge.adapters.spool_room import Room

STEP_MS = 500
ALL = 2**62


def fill(file: Path) -> None:
    """Leave no room on the disk."""
    disk = os.statvfs(file.parent)
    if disk.f_bavail:
        with file.open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, disk.f_bavail * disk.f_frsize)


class GreedyRoom(Room):
    """A room on a disk on which something else takes at once what is given up."""

    def refuse(self) -> None:
        """Give up the reserve, and find it taken."""
        super().refuse()
        fill(self._path.with_name(f"ballast-{len(list(self._path.parent.iterdir()))}"))


def main(folder: Path, ballast: str) -> None:
    """Take 6,000 batches, look after them as a gateway does, and let all be committed in the end.

    `ballast`: after 1,000 of them something else fills the disk, and goes on doing so; it is looked at too rarely.
    """
    refused, now, every = 0, NOW, 10
    if ballast:
        vars(spools)["Room"], every = GreedyRoom, 200
    with closing(Spool.open(folder / "gw" / "spool.sqlite", 512, 600, NOW)) as spool:
        spool.journal.append([(NOW, b"entry")] * 50)
        for n in range(6_000):
            now = NOW + n * STEP_MS
            try:
                spool.append([("d", ("a",), wide(500, now))])
            except sqlite3.OperationalError:
                refused += 1
                spool.trim(now)
                spool.append([("d", ("a",), wide(500, now))])
            if n % every == 0:
                spool.trim(now)
            if n == 1_000 and ballast:
                # As after a start: with a new log.
                spool.recover(now)
                spool.trim(now)
                fill(folder / "ballast")
        waiting = [int(batch.columns.time_ms[0]) for batch in spool.uncommitted(0, ALL, ALL)]
        held, room = spool.counters(), spool.room()
        entries = len(spool.journal.waiting(0, 100))
        spool.commit_upto(ALL, now)
        committed = spool.counters()
        spool.trim(now + 600_001)
        spool.append([("d", ("a",), wide(500, now))])
        left = len(spool.uncommitted(0, ALL, ALL))
    found = {
        "refused": refused,
        "room": room,
        "newest": waiting[-1] == now,
        "without_gap": all(later - sooner == STEP_MS for sooner, later in pairwise(waiting)),
        "waiting": len(waiting),
        "lost": held["readings_dropped_history"] // 500,
        "lost_live": held["readings_dropped_live"],
        "committed": committed["readings_committed"] // 500,
        "journal": entries,
        "left": left,
    }
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
