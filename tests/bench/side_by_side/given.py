"""Peers that no package registry has: their program is named by an environment variable, or they are left out."""

import os
import subprocess
from pathlib import Path

from tests.bench.side_by_side.peer import NotInstalledError, Peer


class GivenPeer(Peer):
    """One whose program the environment variable `variable` names."""

    variable: str

    def __init__(self) -> None:
        """Know no program yet."""
        self._program = Path()

    def install(self, folder: Path) -> dict[str, str]:
        """It must be there."""
        del folder
        self._program = given_program(self.variable)
        return {self.name: version_of(self._program)}


def given_program(variable: str) -> Path:
    """The program that an environment variable names.

    Raises:
        NotInstalledError: it names none.
    """
    named = os.environ.get(variable, "")
    if not named:
        raise NotInstalledError(f"{variable} is not set: no package registry has this program, so name a built one")
    program = Path(named).resolve()
    if not os.access(program, os.X_OK):
        raise NotInstalledError(f"{variable} names no program that can be run: {program}")
    return program


def version_of(program: Path) -> str:
    """The first line that a program prints when it is asked for its version, in its own folder.

    Raises:
        NotInstalledError: it does not run.
    """
    asked = (str(program), "--version")
    told = subprocess.run(asked, cwd=program.parent, capture_output=True, text=True, check=False)
    if not told.stdout.strip():
        raise NotInstalledError(f"{program} --version failed: {told.stderr.strip()}")
    return told.stdout.splitlines()[0]
