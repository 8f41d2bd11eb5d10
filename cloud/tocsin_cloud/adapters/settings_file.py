"""The settings with which the cloud side was started last, in a file beside its data: a backup finds the plant by."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tocsin_cloud.adapters.whole_file import write_whole
from tocsin_cloud.settings import Address, CloudSettings, HistoryAddress, HistoryKind, name_of

FILE: Final = "settings.json"


def note_settings(settings: CloudSettings, site: str) -> None:
    """Write the settings down, and the plant's site.

    Raises:
        OSError: the disk does not take them.
    """
    held = asdict(settings) | {"plant": str(settings.plant.resolve()), "site": site, "roles": name_of(settings.roles)}
    content = json.dumps(held, default=str, indent=1, ensure_ascii=False).encode()
    path = settings.data / FILE
    if not path.exists() or path.read_bytes() != content:
        write_whole(path, content)


def noted_settings(data: Path) -> dict[str, Any]:
    """The settings that were written down in `data`, as plain values; none where the cloud side never ran.

    Raises:
        ValueError: the file is something else.
        OSError: it cannot be read.
    """
    path = data / FILE
    if not path.exists():
        return {}
    held = json.loads(path.read_bytes())
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds no settings")  # noqa: TRY004 -- the file's content is wrong, not an argument
    return held


def history_of(settings: Mapping[str, Any]) -> HistoryAddress:
    """Where the history is by settings that were written down.

    Raises:
        ValueError: they do not tell.
    """
    try:
        held = settings["history"]
        hosts = tuple(Address(str(host), int(port)) for host, port in held["hosts"])
        return HistoryAddress(HistoryKind(held["kind"]), hosts, tuple(map(str, held["path"])), bool(held["secure"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{FILE} does not tell where the history is") from error


def note_moved(data: Path, plant: Path, sql: str | None, history: HistoryAddress) -> None:
    """Change in what is written down in `data` where the plant, the SQL database and the history are.

    Raises:
        ValueError: the file is something else.
        OSError: it cannot be read or written.
    """
    held = noted_settings(data) | {"plant": str(plant), "sql": sql, "history": asdict(history)}
    write_whole(data / FILE, json.dumps(held, indent=1, ensure_ascii=False).encode())
