"""A file written so that a crash at any moment leaves the old one or the new one, for its owner alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Replace the file; it is on disk when this returns. Nobody but its owner may read it.

    Raises:
        OSError: it could not be written; the old one stands.
    """
    with written_whole(path) as file:
        file.write(content)


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """As `write_whole`, piece by piece: what was written takes the file's place at the end, unless something is raised.

    Raises:
        OSError: it could not be written; the old one stands.
    """
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    opened = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have on disk what the file holds, or which files the folder has.

    Raises:
        OSError: the disk does not take it.
    """
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
