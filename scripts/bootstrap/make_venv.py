"""Makes .venv with pip in it, from the wheel beside this file, on a Python that may have neither pip nor ensurepip."""

import argparse
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE.parent.parent / ".venv"
OLDEST = (3, 11)


def checked_wheel() -> Path:
    """Return the path of the one wheel named in SHA256SUMS, or end with a message when its bytes are not those."""
    expected, name = (HERE / "SHA256SUMS").read_text(encoding="ascii").split()
    wheel = HERE / name
    actual = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if actual != expected:
        sys.exit(f"{name}: its SHA-256 is {actual}, SHA256SUMS says {expected}; restore the file from git")
    return wheel


def main() -> None:
    """Make the environment anew with --fresh, or leave the one that is there; then put pip into it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="remove what is there first")
    fresh = parser.parse_args().fresh
    if sys.version_info < OLDEST:
        sys.exit("Python 3.11 or newer is needed, this is {}.{}; try: make PYTHON=python3.12".format(*sys.version_info))
    wheel = checked_wheel()
    if fresh and VENV.is_symlink():
        sys.exit(f"{VENV} is a link, and what it leads to would be emptied: remove the link first")
    if fresh:
        print(f"Python {sys.version.split()[0]} in {VENV}")
        venv.create(VENV, clear=True, symlinks=True, with_pip=False)
    install: list[str | Path] = [VENV / "bin" / "python", wheel / "pip", "install", "--no-index", "--no-deps", wheel]
    sys.exit(subprocess.run(install, check=False).returncode)


if __name__ == "__main__":
    main()
