"""A DuckDB history on a disk that is full for a while: run as a module on a small disk, prints what became of it."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Final

import numpy as np

from tocsin_cloud.adapters.history import HistoryError
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.adapters.history_open import FILE
from tocsin_core.readings import GOOD, Frame

ROWS: Final = 20_000
BALLAST_BYTES: Final = 24 << 20
REFUSALS: Final = 3
AFTERWARDS: Final = 5


class Commits:
    """Commits of readings that do not pack well, each of a point of its own."""

    def __init__(self, history: DuckdbHistory) -> None:
        """None is taken yet."""
        self._history = history
        self._noise = np.random.default_rng(1)
        self.taken = 0

    async def one(self) -> bool:
        """Try the next one; whether it was taken."""
        key = self._history.key(f"P{self.taken}")
        time_ns = 1_800_000_000_000_000_000 + np.arange(ROWS, dtype=np.int64) * 1_000_000_000
        value, quality = self._noise.normal(size=ROWS), np.full(ROWS, GOOD, np.uint8)
        try:
            await self._history.commit(Frame(np.full(ROWS, key, np.int32), time_ns, value, quality), {"position": b"1"})
        except HistoryError:
            return False
        self.taken += 1
        return True


async def main(folder: Path, least_chunk_rows: int) -> None:
    """Commit until the disk is full, and on; make room, and commit on; count what is there after another opening."""
    ballast = folder / "ballast"
    ballast.write_bytes(os.urandom(BALLAST_BYTES))
    history = await DuckdbHistory.open(folder / FILE, least_chunk_rows)
    commits, refused = Commits(history), 0
    while refused < REFUSALS:
        refused += not await commits.one()
    ballast.unlink()
    afterwards = [await commits.one() for _ in range(AFTERWARDS)]
    await history.close()
    history = await DuckdbHistory.open(folder / FILE, least_chunk_rows)
    kept = [
        len((await history.read(f"P{number}", 0, 2**62, None, 2 * ROWS)).time_ns) for number in range(commits.taken)
    ]
    await history.close()
    found = {"afterwards": afterwards, "kept": sorted(set(kept)), "many": commits.taken > AFTERWARDS}
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
