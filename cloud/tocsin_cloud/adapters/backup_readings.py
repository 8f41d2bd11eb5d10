"""The part of a backup that is on a server: the readings of a history that is no file of ours."""

from pathlib import Path
from typing import Final

from tocsin_cloud.adapters.backup_manifest import BackupError, Manifest, Say
from tocsin_cloud.adapters.history import HistoryError
from tocsin_cloud.adapters.history_open import influx_token
from tocsin_cloud.settings import HistoryAddress, HistoryKind
from tocsin_core.clock import Clock

# The folder of a backup, and the file in it by the kind of server.
READINGS: Final = "readings"
FILES: Final = {
    HistoryKind.VICTORIAMETRICS: "victoriametrics.jsonl.gz",
    HistoryKind.INFLUXDB: "influxdb.lines.gz",
}


def keep_readings(address: HistoryAddress, backup: Path, clock: Clock, say: Say) -> None:
    """Write the readings of the server into the folder `backup`; those of a file are there already.

    Raises:
        BackupError: the server does not give them.
    """
    if address.kind not in FILES:
        return
    (backup / READINGS).mkdir()
    path = backup / READINGS / FILES[address.kind]
    from tocsin_cloud.adapters import history_influx_copies, history_victoria_copies  # noqa: PLC0415 -- load slowly

    try:
        if address.kind is HistoryKind.INFLUXDB:
            history_influx_copies.keep_readings(address, influx_token(), path, clock, say)
        else:
            history_victoria_copies.keep_readings(address, path, clock, say)
    except HistoryError as error:
        raise BackupError(f"the readings are not copied: {error}") from error


def put_readings(backup: Path, manifest: Manifest, address: HistoryAddress, clock: Clock, say: Say) -> None:
    """Have the server take the readings of `backup`, if it has any; what the server has already stays once.

    Raises:
        BackupError: they are of another kind of server, or it does not take them.
    """
    if manifest.history != address.kind:
        raise BackupError(f"the readings of {backup} are of {manifest.history}, which {address.kind} cannot take")
    name = FILES.get(address.kind)
    if name is None or f"{READINGS}/{name}" not in manifest.files:
        return
    path = backup / READINGS / name
    from tocsin_cloud.adapters import history_influx_copies, history_victoria_copies  # noqa: PLC0415 -- load slowly

    try:
        if address.kind is HistoryKind.INFLUXDB:
            history_influx_copies.put_readings(path, address, influx_token(), say)
        else:
            history_victoria_copies.put_readings(path, address, clock, say)
    except HistoryError as error:
        raise BackupError(f"the readings are not restored: {error}") from error
