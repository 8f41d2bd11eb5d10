"""Opens the time-series store that an address names."""

import os
from pathlib import Path
from typing import Final

from tocsin_cloud.adapters.history import History, HistoryError
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_cloud.settings import HistoryAddress, HistoryKind
from tocsin_core.clock import Clock

FILE: Final = "history.duckdb"
TOKEN: Final = "TOCSIN_HISTORY_TOKEN"  # noqa: S105 -- the variable's name
TOKEN_FILE: Final = "TOCSIN_HISTORY_TOKEN_FILE"  # noqa: S105 -- the variable's name


async def open_history(address: HistoryAddress, folder: Path, clock: Clock) -> History:
    """Open the history; what it keeps on this machine is in `folder`, and keeps another process off it.

    Raises:
        HistoryError: another process works on the folder, what is there is not ours, or a token is missing.
    """
    if address.kind is HistoryKind.DUCKDB:
        return await DuckdbHistory.open(folder / FILE)
    if address.kind is HistoryKind.VICTORIAMETRICS:
        from tocsin_cloud.adapters.history_victoria import VictoriaHistory  # noqa: PLC0415 -- loads slowly

        return await VictoriaHistory.open(address, folder, clock)
    from tocsin_cloud.adapters.history_influx import InfluxHistory  # noqa: PLC0415 -- loads slowly

    return await InfluxHistory.open(address, folder, _token())


def _token() -> str:
    given, path = os.environ.get(TOKEN), os.environ.get(TOKEN_FILE)
    if given:
        return given
    if not path:
        raise HistoryError(f"InfluxDB needs a token: in {TOKEN}, or in a file that {TOKEN_FILE} names")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise HistoryError(f"{TOKEN_FILE}: {error}") from error
