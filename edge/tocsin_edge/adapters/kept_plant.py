"""The slice of its plant folder that a gateway keeps: while nothing has changed, the next start reads no YAML."""

import json
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog

from tocsin_core.plant import Plant, PlantError, load_plant, shipped_profiles
from tocsin_core.plant.load import Folder
from tocsin_core.plant.slice import SliceError, load_slice, slice_of
from tocsin_edge.adapters.whole_file import write_whole

KEPT_FILE: Final = "plant.kept"

log = structlog.get_logger()

Read = dict[str, str | None]
"""What a plant was made from: by file the hash of its content, None where there was no such file."""


def own_plant(folder: Path, gateway_id: str, own: Path) -> Plant:
    """The plant in `folder`, or the slice of the gateway `gateway_id` that was kept in its `own` folder.

    What was kept counts only if this very Tocsin kept it of the same folder, and every file that it was made from, or
    looked for in vain, is as it was. It is checked like any slice. What another version kept counts where this one
    refuses the folder.

    Raises:
        PlantError: as `load_plant`.
    """
    file = own / KEPT_FILE
    kept = _kept(file, folder)
    if kept is not None:
        return kept
    read: Read = {}
    try:
        plant = load_plant(_Noting(folder.absolute(), read), _Noting(shipped_profiles(), read))
    except PlantError as error:
        before = _kept(file, folder, by_any=True)
        if before is None:
            raise
        # Nobody has touched the plant: an upgrade is to silence no gateway.
        log.critical("this version refuses the plant folder: going on as before", reason=error.line)
        return before
    if any(each.id == gateway_id for each in plant.file.gateways):
        try:
            own.mkdir(parents=True, exist_ok=True)
            head = json.dumps(_head(folder, read, version("tocsin")), sort_keys=True).encode()
            write_whole(file, head + b"\n" + slice_of(plant, gateway_id))
        except OSError as error:
            log.warning("plant not kept: the next start reads it anew", reason=str(error))
    return plant


def _kept(file: Path, folder: Path, *, by_any: bool = False) -> Plant | None:
    """What this Tocsin kept of the folder as it is; or `by_any`, whose own register maps were others."""
    try:
        head, _, data = file.read_bytes().partition(b"\n")
        said = json.loads(head)
        whose = said["tocsin"] if by_any else version("tocsin")
        read = {path for path in dict(said["read"]) if not by_any or Path(path).is_relative_to(folder.absolute())}
        now = _head(folder, {path: _hash_of(Path(path)) for path in read}, whose)
        if said | {"read": {path: said["read"][path] for path in read}} != now:
            return None
        return load_slice(data)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, SliceError, PlantError) as error:
        log.warning("kept plant cannot be used: it is read anew", reason=" ".join(str(error).split()))
        return None


def _head(folder: Path, read: Read, by: str) -> dict[str, object]:
    return {"tocsin": by, "folder": str(folder.absolute()), "read": read}


def _hash_of(path: Path) -> str | None:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


class _Noting:
    """A folder or file that notes in `read` what is read in it, by the very bytes that are handed out."""

    def __init__(self, path: Folder, read: Read) -> None:
        self._path = path
        self._read = read

    def __str__(self) -> str:
        return str(self._path)

    @property
    def name(self) -> str:
        return self._path.name

    def joinpath(self, name: str, /) -> Folder:
        return _Noting(self._path.joinpath(name), self._read)

    def is_file(self) -> bool:
        there = self._path.is_file()
        if not there:
            self._read[str(self._path)] = None
        return there

    def read_bytes(self) -> bytes:
        content = self._path.read_bytes()
        self._read[str(self._path)] = sha256(content).hexdigest()
        return content

    def read_text(self, encoding: str) -> str:
        return self.read_bytes().decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
