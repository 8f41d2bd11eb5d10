"""The files that a plant consists of, and the audit log's entry of those that the plant in force was read from."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from pathlib import Path
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.audit import append
from tocsin_cloud.adapters.audit_chain import SYSTEM, Deed, Outcome
from tocsin_core.clock import Clock
from tocsin_core.plant.calibrations import CALIBRATIONS_FILE
from tocsin_core.plant.load import MODELS_FOLDER, PLANT_FILE, POINTS_FILE, PROFILES_FOLDER

FILES: Final = (PLANT_FILE, POINTS_FILE, CALIBRATIONS_FILE, f"{PROFILES_FOLDER}/*.yaml", f"{MODELS_FOLDER}/*.normal")


async def note_plant(
    write: Callable[[], AbstractAsyncContextManager[AsyncSession]], clock: Clock, site: str, files: Mapping[str, str]
) -> None:
    """Append which files the plant of `site` was read from, each with its SHA-256, as `files_of` told at the start.

    `write` begins a transaction: that of a lease, so that nobody who has lost it says which plant is in force.
    """
    async with write() as session:
        await append(session, clock.now_ns(), SYSTEM, Deed("plant.load", site, Outcome.DONE, {**files}))


def plant_files(folder: Path) -> list[Path]:
    """The files of which the plant in `folder` consists."""
    return [path for pattern in FILES for path in sorted(folder.glob(pattern))]


def files_of(folder: Path) -> dict[str, str]:
    """The files of which the plant in `folder` consists, each with its SHA-256.

    Raises:
        OSError: one of them cannot be read.
    """
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in plant_files(folder)}
