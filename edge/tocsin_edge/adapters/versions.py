"""The versions of its slice that a gateway keeps as files: on trial, good, or rolled back with the reason."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tocsin_edge.adapters.whole_file import sync_folder, write_whole

FOLDER: Final = "slices"
KEPT: Final = 10
"""Good versions kept, and as many that were rolled back."""
TRIAL: Final = "trial"
GOOD: Final = "good"
BAD: Final = "bad"
# Twenty digits hold every u64.
_NAME: Final = re.compile(rf"^(\d{{20}})\.({TRIAL}|{GOOD}|{BAD})$")


class Versions:
    """The folder with the versions; a file's name says what became of it, so that a rename decides.

    After a kill or a power cut at any moment each version is what it was or what it was about to become. Every method
    may raise OSError: the disk does not take it, and nothing has changed.
    """

    def __init__(self, folder: Path) -> None:
        """Use the folder `slices` in a gateway's `folder`; it is made when the first version is kept."""
        self._folder = folder / FOLDER

    def newest(self) -> int:
        """The highest version that ever came, whatever became of it; 0 where none did."""
        return max((version for version, _ in self._all()), default=0)

    def good(self) -> list[int]:
        """The good versions, newest first."""
        return sorted((version for version, state in self._all() if state == GOOD), reverse=True)

    def on_trial(self) -> list[int]:
        """Versions whose trial did not end."""
        return [version for version, state in self._all() if state == TRIAL]

    def read(self, version: int) -> bytes:
        """A good version as it came."""
        return self._path(version, GOOD).read_bytes()

    def rolled_back(self, version: int) -> str | None:
        """Why a version was rolled back; None where it was not. That this cannot be read any more is no error."""
        path = self._path(version, BAD)
        try:
            return path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
        except OSError as error:
            return f"why is not known any more: {error}"

    def keep(self, version: int, sealed: bytes) -> None:
        """Keep a version that goes on trial: it is on disk before this returns."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(version, TRIAL), sealed)

    def confirm(self, version: int) -> None:
        """Make good the version that is on trial, and forget good ones beyond the ten newest."""
        self._prune(GOOD)
        self._path(version, TRIAL).replace(self._path(version, GOOD))
        sync_folder(self._folder)

    def reject(self, version: int, reason: str) -> None:
        """Note that a version was rolled back; its content is forgotten, its number and the reason are not."""
        self._prune(BAD)
        write_whole(self._path(version, BAD), reason.encode())
        for state in (TRIAL, GOOD):
            self._path(version, state).unlink(missing_ok=True)

    def _all(self) -> Iterator[tuple[int, str]]:
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                named = _NAME.match(path.name)
                if named is not None:
                    yield int(named[1]), named[2]

    def _path(self, version: int, state: str) -> Path:
        return self._folder / f"{version:020d}.{state}"

    def _prune(self, state: str) -> None:
        """Leave room for one more."""
        for version in sorted((version for version, each in self._all() if each == state), reverse=True)[KEPT - 1 :]:
            self._path(version, state).unlink()
