"""Writes what was learned, so that whoever reads finds what was there before, or all of it."""

import os
from pathlib import Path

import typer


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path`, in a folder that is made where it is not there; what cannot be is a usage error."""
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(content)
        os.replace(new, path)  # noqa: PTH105 -- of the two names it is the one that says what happens
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from error
