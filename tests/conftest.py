"""Settings of every test run: repeatable hypothesis profiles, the heavy folders on one worker, SQL of both makes."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import structlog
from hypothesis import settings
from sqlalchemy.engine import URL
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.postgres import Postgres, postgres
from tests.support.sqlite import with_tables
from tocsin_cli.cancelling import keep_cancellations
from tocsin_cloud.adapters.sql.engine import SQLITE
from tocsin_cloud.settings import SQL_FILE

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# As the command does, whose loops the tests run in their own process.
keep_cancellations()

# What the demo's tests count goes by real minutes, of which they wait through most.
DEMO: Final = "tests/e2e/test_demo.py"
HEAVY: Final = ("tests/bench/", "tests/e2e/")


class OneHeavyAtATime(LoadScopeScheduling):
    """Gives whole files to the workers, and all tests of whole systems to one: two at once would measure each other.

    The demo's go beside them: what they measure is counted, not timed.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", maxsplit=1)[0]
        return "heavy" if nodeid.startswith(HEAVY) and file != DEMO else file


# As the command does, which hides rich from structlog: drawing one error with all that stands around it takes seconds.
PLAIN: Final = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


@pytest.fixture(autouse=True)
def logs_of_its_own() -> None:
    """A verb that a test ran in its own process has set the logs up, for a stream that ends with the test."""
    structlog.reset_defaults()
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], PLAIN])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneHeavyAtATime:
    """Share the tests out by file; xdist's own loadgroup mode does not see its marks under pytest 9.2."""
    return OneHeavyAtATime(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what is not collected for want of a server that no package brings."""
    if not os.environ.get("TOCSIN_TEST_INFLUX_URL"):
        terminalreporter.write_line("not run: the history's suite on InfluxDB 2 (TOCSIN_TEST_INFLUX_URL is not set)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the heavy tests first, so that the light ones fill the other worker meanwhile."""
    items.sort(key=lambda item: not item.nodeid.startswith(HEAVY))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Return the one PostgreSQL of this run."""
    with postgres(tmp_path_factory.mktemp("postgresql") / "server") as server:
        yield server


@pytest.fixture
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """Return the address of an empty database with tables: SQLite's, or what a test marked `on_both` asks for."""
    if getattr(request, "param", SQLITE) == SQLITE:
        return with_tables(tmp_path / SQL_FILE)
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.with_tables()
