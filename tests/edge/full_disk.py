"""A spool on a disk that is smaller than its bound: run as a module on a small disk, prints what became of it."""

import json
import os
import sqlite3
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.edge.rig import NEW_MS as NOW
from tocsin_core.sparkplug.edge import Columns
from tocsin_edge.adapters.spool import Spool

STEP_MS = 500
ALL = 2**62


def wide(time_ms: int) -> Columns:
    """Give 500 readings, 9.5 kB."""
    return Columns(np.zeros(500, np.int64), np.full(500, time_ms), np.zeros(500), np.full(500, 192, np.uint8))


def main(folder: Path, ballast: str) -> None:
    """Take 6,000 batches, look after them as a gateway does, and let all be committed in the end.

    `ballast`: after 1,000 of them something else fills the disk.
    """
    refused, now = 0, NOW
    with closing(Spool.open(folder / "gw" / "spool.sqlite", 512, 600, NOW)) as spool:
        spool.journal.append([(NOW, b"entry")] * 50)
        for n in range(6_000):
            now = NOW + n * STEP_MS
            full = False
            try:
                spool.append([("d", ("a",), wide(now))])
            except sqlite3.OperationalError:
                full = True
            refused += full
            if full or n % 10 == 0:
                spool.trim(now)
            if n == 1_000 and ballast:
                with (folder / "ballast").open("wb") as file:
                    disk = os.statvfs(folder)
                    os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize)
        waiting = [int(batch.columns.time_ms[0]) for batch in spool.uncommitted(0, ALL, ALL)]
        held = spool.counters()
        entries = len(spool.journal.waiting(0, 100))
        spool.commit_upto(ALL, now)
        committed = spool.counters()
        spool.trim(now + 600_001)
        spool.append([("d", ("a",), wide(now))])
        left = len(spool.uncommitted(0, ALL, ALL))
    found = {
        "refused": refused,
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
