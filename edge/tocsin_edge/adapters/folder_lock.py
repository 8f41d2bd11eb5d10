"""One process a data folder: two gateways on one spool would number the same batches twice."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FolderHeldError(OSError):
    """Another process holds the folder."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold `folder` (made if missing) while the context lasts; the system lets go of it however the process ends.

    The folder itself is locked, not a file in it, so that a disk that has become read-only does not stop a gateway.

    Raises:
        FolderHeldError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderHeldError(f"another gateway is running on {folder}") from error
        yield
    finally:
        os.close(lock)
