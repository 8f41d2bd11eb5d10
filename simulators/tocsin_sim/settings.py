"""What `tocsin sim` was asked for, checked."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """One run of the simulator."""

    plant: Path
    scenario: str | None = None
    seed: int = 1
    speed: float = 1.0
    play: Path | None = None
    update_s: float = 0.1  # by the wall clock: ten times the fastest poll of the example plants
