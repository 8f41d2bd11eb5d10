"""The readings of a VictoriaMetrics server as a file of a backup, and back into a server."""

# As the lines of JSON that every version of the server gives and takes, packed by gzip, as they come: neither side has
# more than a piece in memory, and Python has next to nothing to do. The server's own binary format is a fifth of the
# size, but no format to keep: what version 1.77 wrote, 1.82 does not read. To read each point's samples and write them
# as lines would do for every kind of server, but takes a second for some hundred thousand readings.

import asyncio
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final

from tocsin_cloud.adapters.backup_manifest import CHUNK, Say
from tocsin_cloud.adapters.history import HistoryError
from tocsin_cloud.adapters.history_lines import BAD_VALUE, LARGER, MEASUREMENT, QUALITY, VALUE
from tocsin_cloud.adapters.history_victoria_server import DURABLE_AFTER_S, NotWholeError, VictoriaServer
from tocsin_cloud.settings import HistoryAddress
from tocsin_core.clock import Clock
from tocsin_core.rules import NS

# Not the roll-ups: they are made anew.
READINGS: Final = f'{{__name__=~"{MEASUREMENT}_({VALUE}|{BAD_VALUE}|{QUALITY})({LARGER})?"}}'
# The server takes readings two days ahead of its clock.
AHEAD_S: Final = 3 * 86_400
# Of less no more is given than of so much.
SHORTEST_S: Final = 1
LOOK_S: Final = 0.5
# How a line ends, and with it a whole export: a server that fails in the midst appends a word of that, and no more.
END: Final = b"]}\n"
GZIP: Final = zlib.MAX_WBITS | 16


def keep_readings(address: HistoryAddress, path: Path, clock: Clock, say: Say) -> None:
    """Write all readings of the server into the new file `path`.

    Raises:
        HistoryError: the server is away or refuses, or broke off.
        OSError: the disk does not take it.
    """

    async def export(file: BinaryIO) -> None:
        server = VictoriaServer(address)
        try:
            await server.look()
            await _keep(server, file, 0, clock.now_ns() // NS + AHEAD_S, say)
        finally:
            await server.close()

    with path.open("xb") as file:
        asyncio.run(export(file))


async def _keep(server: VictoriaServer, file: BinaryIO, start_s: int, end_s: int, say: Say) -> None:
    """Append what is in [start, end): at once, or, where the server has limits to that, one half after the other."""
    begin = file.tell()
    try:
        await _keep_at_once(server, file, start_s, end_s, say)
    except NotWholeError:
        if end_s - start_s <= SHORTEST_S:
            raise
    else:
        return
    file.seek(begin)
    file.truncate()
    middle_s = (start_s + end_s) // 2
    await _keep(server, file, start_s, middle_s, say)
    await _keep(server, file, middle_s, end_s, say)


async def _keep_at_once(server: VictoriaServer, file: BinaryIO, start_s: int, end_s: int, say: Say) -> None:
    unpacking, end = zlib.decompressobj(GZIP), END
    async for piece in server.export(READINGS, start_s, end_s):
        file.write(piece)
        end = (end + unpacking.decompress(piece))[-len(END) :]
        say("readings", file.tell(), 0)
    if not unpacking.eof or end != END:
        raise NotWholeError("the server broke off its export")


def put_readings(path: Path, address: HistoryAddress, clock: Clock, say: Say) -> None:
    """Have the server take what `keep_readings` wrote, and wait until it is durable; what it has already stays once.

    Raises:
        HistoryError: the server is away or refuses, was restarted meanwhile, or dropped some.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size

    async def pieces(file: BinaryIO) -> AsyncIterator[bytes]:
        while piece := file.read(CHUNK):
            yield piece
            say("readings", file.tell(), size)

    async def take_in(file: BinaryIO) -> None:
        server = VictoriaServer(address)
        try:
            before = await server.look()
            await server.take_in(pieces(file))
            say("waiting until the readings are durable", 0, 0)
            taken_at = clock.monotonic()
            while clock.monotonic() < taken_at + DURABLE_AFTER_S:  # noqa: ASYNC110 -- the server tells nobody
                await asyncio.sleep(LOOK_S)
            after = await server.look()
        finally:
            await server.close()
        if not after.goes_on_from(before):
            raise HistoryError(f"{address.hosts[0]} was restarted while it took the readings: restore once more")
        if after.ignored > before.ignored:
            dropped = int(after.ignored - before.ignored)
            raise HistoryError(f"{address.hosts[0]} dropped {dropped} samples: its -retentionPeriod is too short")

    with path.open("rb") as file:
        asyncio.run(take_in(file))
