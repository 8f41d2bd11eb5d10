"""Copies of the example plants on ports that are free, so that tests of several processes do not meet."""

import re
import shutil
from pathlib import Path

from tests.support.ports import free_port

PLANTS = Path(__file__).resolve().parents[2] / "simulators" / "plants"


def copy_plant(name: str, folder: Path) -> Path:
    """Copy an example plant into `folder` and give each of its ports a free one; equal ports stay equal."""
    target = folder / name
    shutil.copytree(PLANTS / name, target)
    ports: dict[str, int] = {}

    def free(match: re.Match[str]) -> str:
        if match[1] not in ports:
            ports[match[1]] = free_port()
        return f"port: {ports[match[1]]}"

    for file in target.glob("*.yaml"):
        file.write_text(re.sub(r"port: (\d+)", free, file.read_text(encoding="utf-8")), encoding="utf-8")
    return target
