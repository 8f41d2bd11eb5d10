"""The room on the spool's disk: how far the file can grow there, and what is kept for when it cannot."""

import os
from pathlib import Path
from typing import Final

import structlog

from tocsin_edge.adapters.spool_file import WAL_LIMIT

# Where there is no log, as at a start, SQLite begins one.
RESERVE: Final = WAL_LIMIT
# What the file keeps unused of itself: with that and a log of full length it is written on a disk that has nothing
# left. Of a small file an eighth, where the disk is narrow, as it grows slowly.
SPARE: Final = 4_000_000
SPARE_SHARE: Final = 8
# Where the file cannot grow by this, or twice its own length, somebody else may take it before the next look.
NARROW: Final = 2 * SPARE
UNKNOWN: Final = 2**62

log = structlog.get_logger()


class Room:
    """The room on the disk below the file at `path`; `refused`: the disk was full since the last `took`."""

    def __init__(self, path: Path) -> None:
        """Make no file yet."""
        self._path = path
        self._reserve = path.with_name(f"{path.name}.reserve")
        self._log = path.with_name(f"{path.name}-wal")
        self.refused = False
        self._told = ""

    def growth(self, file_bytes: int) -> int:
        """Tell by how many bytes a file that is to be `file_bytes` long, with its log, can grow."""
        owed = max(0, file_bytes - _length(self._path)) + max(0, WAL_LIMIT - _length(self._log))
        return max(0, self._free() - owed)

    def _free(self) -> int:
        try:
            disk = os.statvfs(self._path.parent)
        except OSError as error:
            # Only a disk that says that it is full has rows deleted for it.
            log.warning("the disk does not say how much room it has", reason=str(error))
            return UNKNOWN
        return disk.f_bavail * disk.f_frsize

    def wide(self, file_bytes: int) -> bool:
        """Tell whether a file of `file_bytes` can grow for long enough that it need not be looked at meanwhile."""
        return not self.refused and self.growth(file_bytes) >= min(NARROW, 2 * file_bytes)

    def spare(self, file_bytes: int) -> int:
        """Tell how much a file of `file_bytes` is to have unused while it can grow: half of what is left at most."""
        return min(SPARE, self.growth(file_bytes) // 2)

    def lacks(self, file_bytes: int, unused: int) -> int:
        """Tell how many bytes of the file, beside those `unused`, are to become free so that writing can go on."""
        return 0 if self.wide(file_bytes) else min(SPARE, (file_bytes - unused) // SPARE_SHARE) - unused

    def refuse(self) -> None:
        """Note that the disk is full, and give up the reserve."""
        self.refused = True
        try:
            self._reserve.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("the spool's reserve cannot be given up", reason=str(error))
            return
        log.warning("disk full: the spool's reserve is given up", bytes=RESERVE)

    def took(self) -> None:
        """Note that the disk took what was written; where there is plenty of room, see to the reserve and the log."""
        self.refused = False
        if self._free() < RESERVE + WAL_LIMIT + NARROW:
            return
        try:
            for file in (self._reserve, self._log):
                _lengthen(file, WAL_LIMIT)
        except OSError as error:
            if str(error) != self._told:
                log.warning("no reserve for the spool", reason=str(error))
            self._told = str(error)
        else:
            self._told = ""


def _lengthen(file: Path, length: int) -> None:
    """Give a file blocks up to `length`; a log ends for SQLite where it wrote last."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        there = os.fstat(descriptor).st_size
        if there < length:
            os.posix_fallocate(descriptor, there, length - there)
    finally:
        os.close(descriptor)


def _length(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        # Not there, or out of reach: nothing that could be counted on.
        return 0
