"""Finds what a test needs that pip and npm do not bring, and says clearly when it is missing."""

import ctypes
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final, Never

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
# What a test may need, and the Debian package that brings it; .ci/run installs them.
DEBIAN: Final = {
    "chromium": "chromium",
    "git": "git",
    "ip": "iproute2",
    "make": "make",
    "mosquitto": "mosquitto",
    "nft": "nftables",
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
    "victoria-metrics": "victoria-metrics",
    "vmalert": "victoria-metrics",
    "libatomic.so.1": "libatomic1",
}


def in_ci() -> bool:
    """Tell whether the run is one of .ci/run, where every program must be there."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def missing(what: str, name: str) -> Never:
    """Skip the test because of what is missing, fail it in CI; say which Debian package brings it."""
    message = f"needs {what}, which is not installed (Debian: apt-get install {DEBIAN.get(name, name)})"
    if in_ci():
        pytest.fail(message, pytrace=False)
    pytest.skip(message, allow_module_level=True)


def need_program(*names: str) -> str:
    """Return the path of the first of these programs that is installed; skip the test without one, fail it in CI."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    missing(f"the program {' or '.join(names)}", names[0])


def need_library(name: str) -> None:
    """Go on only where the loader finds this shared library; skip the test without it, fail it in CI."""
    with suppress(OSError):
        ctypes.CDLL(name)
        return
    missing(f"the library {name}", name)


def need_data(name: str) -> Path:
    """Return a recorded data set's folder in shared/data next to the checkout; skip the test when it is not there."""
    path = ROOT.parent / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"needs the recorded data set {name} in shared/data next to the checkout", allow_module_level=True)
    return path
