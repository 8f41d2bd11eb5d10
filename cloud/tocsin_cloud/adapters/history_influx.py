"""The time-series store on InfluxDB 2: readings in a bucket, the historian's state in a file."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from tocsin_cloud.adapters.history import Trend, Wanted, one_by_one
from tocsin_cloud.adapters.history_influx_server import InfluxServer
from tocsin_cloud.adapters.history_lines import MILLISECOND, Names
from tocsin_cloud.adapters.history_state import StateFile
from tocsin_cloud.settings import HistoryAddress
from tocsin_core.readings import Frame

HOUR_S: Final = 3600
HOUR_NS: Final = HOUR_S * 1000 * MILLISECOND


class InfluxHistory:
    """The History port on a bucket of InfluxDB 2.

    The server syncs a write to its log before it answers (storage-wal-fsync-delay is 0 unless set), and keeps one
    value a field, point and time: the later one. The historian's state lies in a file in the data folder, and is
    replaced after the readings that belong to it are written.
    """

    def __init__(self, address: HistoryAddress, token: str, state: StateFile) -> None:
        """Talk to nobody yet."""
        self._file = state
        self._state = state.load()
        self._server = InfluxServer(address, token)
        self._names = Names()
        self._commits = 0

    @classmethod
    async def open(cls, address: HistoryAddress, folder: Path, token: str) -> Self:
        """Take the state file in `folder`; a server that is away is waited for by the commits.

        Raises:
            HistoryError: another process works on the folder, or the file is damaged.
        """
        file = StateFile.open(folder)
        try:
            return cls(address, token, file)
        except BaseException:
            file.close()
            raise

    @property
    def state(self) -> Mapping[str, bytes]:
        """The state that the commits left."""
        return self._state

    @property
    def dropped(self) -> int:
        """None: what is taken is stored."""
        return 0

    def key(self, point_id: str) -> int:
        """The key of `point_id`, a new one if it is new."""
        return self._names.key(point_id)

    async def commit(self, frame: Frame, state: Mapping[str, bytes]) -> None:
        """Write the readings, then `state`.

        Raises:
            HistoryError: the server is away or refuses, or the state file does.
        """
        if len(frame):
            await self._server.write(await asyncio.to_thread(self._names.lines, frame))
        await asyncio.to_thread(self._file.save, state)
        self._state.update(state)
        self._commits += 1

    async def durable(self) -> int:
        """All commits: the server syncs before it answers."""
        return self._commits

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """Rows of one point, as the port says.

        Raises:
            HistoryError: the server is away or refuses.
        """
        return await self._server.read(point_id, start_ns, end_ns, step_ns, limit)

    async def read_each(self, wanted: Sequence[Wanted]) -> list[Trend]:
        """As the port says.

        Raises:
            HistoryError: the server is away or refuses.
        """
        return await one_by_one(self, wanted)

    def overtaken(self) -> None:
        """Nothing: each trend is worked out of readings."""

    async def tend(self) -> int:
        """Nothing: a trend is worked out of all its readings."""
        return 0

    async def retain(self, before_ns: int) -> None:
        """Delete what is older than the whole hour before `before_ns`.

        Raises:
            HistoryError: the server is away, or the token does not allow to delete.
        """
        until = datetime.fromtimestamp(before_ns // HOUR_NS * HOUR_S, UTC)
        await self._server.forget(until)

    async def copy(self, folder: Path) -> None:
        """Write the state file; the readings are on the server.

        Raises:
            HistoryError: the file could not be written.
        """
        await asyncio.to_thread(self._file.copy, folder)

    async def close(self) -> None:
        """Let go of the server and the state file."""
        self._file.close()
        self._server.close()
