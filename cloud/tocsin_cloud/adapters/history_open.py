"""Opens the time-series store that an address names, and says so while this process has none open."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from tocsin_cloud.adapters.history import History, HistoryBusyError, HistoryError, Trend, Wanted
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.settings import HistoryAddress, HistoryKind
from tocsin_core.clock import Clock

FILE: Final = "history.duckdb"
TOKEN: Final = "TOCSIN_HISTORY_TOKEN"  # noqa: S105 -- the variable's name
TOKEN_FILE: Final = "TOCSIN_HISTORY_TOKEN_FILE"  # noqa: S105 -- the variable's name

RETRY_S: Final = 0.5

log = structlog.get_logger()


class OwnHistory:
    """The history of this process: open while it is the historian, else nothing can be read of it."""

    def __init__(self, address: HistoryAddress, folder: Path, clock: Clock) -> None:
        """Open nothing yet."""
        self._address = address
        self._folder = folder
        self._clock = clock
        self._history: History | None = None

    async def open(self) -> History:
        """Open it; one that is open already stays so.

        Raises:
            HistoryBusyError: another process works on the folder.
            HistoryError: as `open_history`.
        """
        if self._history is None:
            self._history = await open_history(self._address, self._folder, self._clock)
        return self._history

    async def wait_open(self) -> History:
        """Open it as soon as nobody else has it: who had the lease before may still be about to let go.

        Raises:
            HistoryError: as `open_history`.
        """
        told = False
        while True:
            try:
                return await self.open()
            except HistoryBusyError as error:
                if not told:
                    log.warning("history waits", reason=str(error))
                told = True
            await asyncio.sleep(RETRY_S)

    async def read(self, point_id: str, start_ns: int, end_ns: int, step_ns: int | None, limit: int) -> Trend:
        """As `tocsin_cloud.adapters.history.StoredReadings.read`.

        Raises:
            HistoryError: the store does not answer, or this process has not opened it.
        """
        return await self._opened().read(point_id, start_ns, end_ns, step_ns, limit)

    async def read_each(self, wanted: Sequence[Wanted]) -> list[Trend]:
        """As `tocsin_cloud.adapters.history.StoredReadings.read_each`.

        Raises:
            HistoryError: as `read`.
        """
        return await self._opened().read_each(wanted)

    def _opened(self) -> History:
        if self._history is None:
            raise HistoryError("this process is not the historian, or not yet")
        return self._history

    async def close(self) -> None:
        """Let go of it.

        Raises:
            HistoryError: as `History.close`.
        """
        history, self._history = self._history, None
        if history is not None:
            await history.close()


async def open_history(address: HistoryAddress, folder: Path, clock: Clock) -> History:
    """Open the history; what it keeps on this machine is in `folder`, and keeps another process off it.

    Raises:
        HistoryBusyError: another process works on the folder.
        HistoryError: what is there is not ours, or a token is missing.
    """
    if address.kind is HistoryKind.DUCKDB:
        return await DuckdbHistory.open(folder / FILE)
    if address.kind is HistoryKind.VICTORIAMETRICS:
        from tocsin_cloud.adapters.history_victoria import VictoriaHistory  # noqa: PLC0415 -- loads slowly

        return await VictoriaHistory.open(address, folder, clock)
    from tocsin_cloud.adapters.history_influx import InfluxHistory  # noqa: PLC0415 -- loads slowly

    return await InfluxHistory.open(address, folder, influx_token())


def influx_token() -> str:
    """The token for InfluxDB, of the environment or of the file that it names.

    Raises:
        HistoryError: there is none.
    """
    given, path = os.environ.get(TOKEN), os.environ.get(TOKEN_FILE)
    if given:
        return given
    if not path:
        raise HistoryError(f"InfluxDB needs a token: in {TOKEN}, or in a file that {TOKEN_FILE} names")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise HistoryError(f"{TOKEN_FILE}: {error}") from error
