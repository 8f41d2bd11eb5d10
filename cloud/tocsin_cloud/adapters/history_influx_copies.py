"""The readings of a bucket of InfluxDB 2 as a file of a backup, and back into a bucket."""

# As lines in gzip, by the calls that the historian reads and writes with, which the suite of the History port holds to
# what they say: the server's own copies need its own tools, and a token that may do everything.

import asyncio
import gzip
from pathlib import Path
from typing import Final

import numpy as np

from tocsin_cloud.adapters.backup_manifest import Say
from tocsin_cloud.adapters.history_influx_server import InfluxServer
from tocsin_cloud.adapters.history_lines import MILLISECOND, Names
from tocsin_cloud.settings import HistoryAddress
from tocsin_core.clock import Clock
from tocsin_core.readings import Frame
from tocsin_core.rules import NS

# Readings that are asked for at once, and bytes of lines that are written at once.
ROWS: Final = 100_000
BATCH: Final = 4 << 20
# For gateways whose clocks are ahead.
AHEAD_NS: Final = 3 * 86_400 * NS
# Lines repeat themselves: more effort makes them hardly smaller.
EFFORT: Final = 1


def keep_readings(address: HistoryAddress, token: str, path: Path, clock: Clock, say: Say) -> None:
    """Write all readings of the bucket into the new file `path`.

    Raises:
        HistoryError: the server is away or refuses.
        OSError: the disk does not take it.
    """

    async def export(file: gzip.GzipFile) -> None:
        server, names = InfluxServer(address, token), Names()
        end_ns = clock.now_ns() + AHEAD_NS
        try:
            points = await server.points()
            for number, point in enumerate(points):
                start_ns = 0
                while len((found := await server.read(point, start_ns, end_ns, None, ROWS)).time_ns):
                    keys = np.full(len(found.time_ns), names.key(point), np.int32)
                    file.write(names.lines(Frame(keys, found.time_ns, found.mean, found.quality)) + b"\n")
                    start_ns = int(found.time_ns[-1]) + MILLISECOND
                say("readings", number + 1, len(points))
        finally:
            server.close()

    with gzip.open(path, "xb", EFFORT) as file:
        asyncio.run(export(file))


def put_readings(path: Path, address: HistoryAddress, token: str, say: Say) -> None:
    """Write what `keep_readings` kept into a bucket; what it has already stays once.

    Raises:
        HistoryError: the server is away or refuses; it may have taken some.
        OSError: the file cannot be read.
    """

    async def write(file: gzip.GzipFile) -> None:
        server, done = InfluxServer(address, token), 0
        try:
            while lines := file.readlines(BATCH):
                await server.write(b"".join(lines))
                done += sum(map(len, lines))
                say("readings", done, 0)
        finally:
            server.close()

    with gzip.open(path) as file:
        asyncio.run(write(file))
