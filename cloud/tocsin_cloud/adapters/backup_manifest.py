"""What a backup says of itself: its format, what made it and when, and each file's size and SHA-256."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, Self

FILE: Final = "manifest.json"
FORMAT: Final = 1
# The two folders of a backup: what the cloud side keeps, and the plant that it ran.
DATA: Final = "data"
PLANT: Final = "plant"
CHUNK: Final = 1 << 20

Say = Callable[[str, int, int], None]
"""Told how far the work is: what is done now, and how much of how much of it."""


class BackupError(RuntimeError):
    """A backup cannot be made, or cannot be restored; the text is one line."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One file of a backup."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup of the site `site`; `revision` is that of the SQL tables.

    `files` by their paths in the backup. `alarms_at_once`: the alarms' state is of the same moment as the SQL tables,
    so that nothing of the stream is needed to go on from them.
    """

    tocsin: str
    made_at: str
    site: str
    revision: str
    history: str
    alarms_at_once: bool
    files: dict[str, Kept]
    format: int = FORMAT

    @property
    def size(self) -> int:
        """How much it holds."""
        return sum(kept.size for kept in self.files.values())

    def to_bytes(self) -> bytes:
        """Give it as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def read(cls, backup: Path) -> Self:
        """Read the manifest of the backup in the folder `backup`.

        Raises:
            BackupError: there is none, it is damaged, or of a newer format.
        """
        path = backup / FILE
        try:
            held = json.loads(path.read_bytes())
            if held["format"] > FORMAT:
                raise BackupError(f"{backup} was made by the newer Tocsin {held['tocsin']}: restore it with that")
            files = {str(name): Kept(int(kept["size"]), str(kept["sha256"])) for name, kept in held["files"].items()}
            return cls(**held | {"files": files})
        except FileNotFoundError as error:
            raise BackupError(f"{backup} is no backup: it has no {FILE}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupError(f"{path} is damaged: {error!r}") from error


def hashed_copy(source: BinaryIO, target: BinaryIO | None, told: Callable[[int], None]) -> Kept:
    """Copy a file, or only read it where there is no target, and say what it was; `told` hears of each chunk's bytes.

    Raises:
        OSError: it cannot be read, or the copy not be written.
    """
    summed, size = sha256(), 0
    while chunk := source.read(CHUNK):
        summed.update(chunk)
        if target is not None:
            target.write(chunk)
        size += len(chunk)
        told(len(chunk))
    return Kept(size, summed.hexdigest())
