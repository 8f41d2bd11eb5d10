"""Runs a module on a disk of a few MB of its own: a file system in memory, in a name space of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


def on_small_disk(size: str, folder: Path, module: str, *arguments: str) -> dict[str, object]:
    """Run `module` with the folder, now a disk of `size`, and `arguments`; give the JSON object that it printed last.

    Skips the test where this machine lets nobody mount anything.
    """
    unshare = shutil.which("unshare")
    tried = [str(unshare), "-Urm", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    # Some systems give the name space and refuse the mount.
    if unshare is None or subprocess.run(tried, check=False, capture_output=True).returncode:
        pytest.skip("needs unshare -Urm and a mount in it, which this machine does not allow")
    mounted = [unshare, "-Urm", "sh", "-c", MOUNT, "sh", size, str(folder)]
    command = [*mounted, sys.executable, "-m", module, str(folder), *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return found
