"""The room on the spool's disk: how far the file can grow there, and a reserve that is given up where it cannot."""

import os
from pathlib import Path
from typing import Final

import structlog

from tocsin_edge.adapters.spool_file import WAL_LIMIT

# To make room SQLite writes first: a log, and what that one has of the file's new pages.
RESERVE: Final = 2 * WAL_LIMIT
# What the log comes to before it is written back, and a transaction beyond that.
LOG: Final = WAL_LIMIT * 3 // 2
# What the spool keeps free for what comes until it is looked at again; of a small file an eighth, as it grows slowly.
SLACK: Final = 4_000_000
SLACK_SHARE: Final = 8
UNKNOWN: Final = 2**62

log = structlog.get_logger()


class Room:
    """The room on the disk below the file at `path`; `refused`: the disk was full since the last `took`."""

    def __init__(self, path: Path) -> None:
        """Make no file yet."""
        self._path = path
        self._reserve = path.with_name(f"{path.name}.reserve")
        self.refused = False

    def growth(self, file_bytes: int) -> int:
        """Tell by how many bytes a file that is to be `file_bytes` long, with its log, can grow."""
        log_file = self._path.with_name(f"{self._path.name}-wal")
        owed = max(0, file_bytes - _length(self._path)) + max(0, LOG - _length(log_file))
        return max(0, self._free() - owed)

    def _free(self) -> int:
        try:
            disk = os.statvfs(self._path.parent)
        except OSError as error:
            # Only a disk that says that it is full has rows deleted for it.
            log.warning("the disk does not say how much room it has", reason=str(error))
            return UNKNOWN
        return disk.f_bavail * disk.f_frsize

    def lacks(self, file_bytes: int, unused: int) -> int:
        """Tell how many bytes of the file, beside those `unused`, are to become free so that writing can go on."""
        slack = min(SLACK, (file_bytes - unused) // SLACK_SHARE)
        return slack - unused - (0 if self.refused else self.growth(file_bytes))

    def refuse(self) -> bool:
        """Note that the disk is full, and give up the reserve; tell whether there was one."""
        self.refused = True
        try:
            self._reserve.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            log.warning("the spool's reserve cannot be given up", reason=str(error))
            return False
        log.warning("disk full: the spool's reserve is given up", bytes=RESERVE)
        return True

    def took(self) -> None:
        """Note that the disk took what was written, and make the reserve anew where there is plenty of room."""
        self.refused = False
        if _length(self._reserve) or self._free() < RESERVE + LOG + 2 * SLACK:
            return
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE)
        except OSError as error:
            log.warning("no reserve for the spool", reason=str(error))


def _length(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        # Not there, or out of reach: nothing that could be counted on.
        return 0
