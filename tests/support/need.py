"""Finds what a test needs that pip and npm do not bring, and says clearly when it is missing."""

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]


def in_ci() -> bool:
    """Tell whether the run is one of .ci/run, where every program must be there."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def need_program(*names: str) -> str:
    """Return the path of the first of these programs that is installed; skip the test without one, fail it in CI."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    message = f"needs the program {' or '.join(names)}, which is not installed"
    if in_ci():
        pytest.fail(message, pytrace=False)
    pytest.skip(message, allow_module_level=True)


def need_data(name: str) -> Path:
    """Return a recorded data set's folder in shared/data next to the checkout; skip the test when it is not there."""
    path = ROOT.parent / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"needs the recorded data set {name} in shared/data next to the checkout", allow_module_level=True)
    return path
