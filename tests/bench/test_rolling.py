"""The rolling restart and the takeover benchmark: a short real restart of everything, and what they count."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.postgres import Postgres
from tests.support.wait import eventually_async
from tocsin_cli.bench import app
from tocsin_cli.bench.faults_cloud_bed import Sql, Tables
from tocsin_cli.bench.faults_cloud_takeover import Roles, Waits
from tocsin_cli.bench.pipeline_plant import Course
from tocsin_cli.bench.rolling import leases_taken, measure
from tocsin_cli.bench.takeover import counted
from tocsin_cloud.adapters.sql.engine import Database, migrate
from tocsin_core.clock import SystemClock


@pytest.mark.timeout(600)
def test_each_process_restarted_in_turn_leaves_no_gap(tmp_path: Path) -> None:
    """Two workers and two interfaces: all that was read and raised is there once, and each role was handed over."""
    found = asyncio.run(measure(tmp_path, SystemClock(), lambda _: None, Sql.SQLITE, ("workers", "api")))
    assert (found["restarts"], found["ended_badly"]) == (4, 0)
    assert found["leases_handed_over"] >= 3
    counts = {key: value for key, value in found.items() if key.endswith(("_lost", "_doubled", "_unseen"))}
    assert counts == dict.fromkeys(counts, 0)
    assert len(counts) == 7
    assert min(found[f"{what}_expected"] for what in ("readings", "alarms")) > 0
    # Who asks one that has just ended goes to the other.
    assert min(found["requests"], found["requests_refused"], found["streams_ended"]) > 0
    assert found["worst_s"].keys() > {"alarm_committed", "request_answered"}


def test_tables_that_nobody_has_made_yet_are_waited_for(postgres_server: Postgres) -> None:
    """PostgreSQL answers at once, and the processes take a while until they have made them."""
    url, asked = postgres_server.make("empty"), list[str]()

    async def story() -> None:
        tables, clock = Tables(Database.as_it_is(url)), SystemClock()

        async def there() -> bool:
            asked.append("leases")
            return await tables.leases() == {}

        waits = Waits(Roles(tables, (), clock), there, clock)
        waiting = asyncio.create_task(waits.until(there, 60.0, "the tables"))
        await eventually_async(lambda: len(asked) > 1 or waiting.done())
        assert not waiting.done()
        await asyncio.to_thread(migrate, url)
        await waiting
        assert await tables.leases() == {}
        await tables.database.close()

    asyncio.run(story())


def test_a_lease_is_handed_over_or_runs_out(tmp_path: Path) -> None:
    """The first holder of all takes it from nobody."""
    taken = [(1, None), (2, "a:1:x"), (3, None), (4, None)]
    lines = [json.dumps({"before": before, "event": "lease taken", "epoch": epoch}) for epoch, before in taken]
    log = tmp_path / "log"
    log.write_text("\n".join([*lines, "{}"]), encoding="utf-8")
    assert leases_taken([log]) == {"leases_handed_over": 2, "leases_run_out": 1}


def test_alarms_are_counted_by_what_is_in_the_tables(tmp_path: Path) -> None:
    """Of those that were due one is missing and one there twice; one is there that never was due."""
    course = Course.of(5, 2, 8, 1_800_000_000_000)
    due = sorted(course.expected())
    raises = [*due[1:], due[1], "stranger"]
    with closing(sqlite3.connect(tmp_path / "tocsin.sqlite")) as database:
        database.execute("CREATE TABLE occurrence (id, kind)")
        database.execute("CREATE TABLE transition (occurrence, event)")
        database.executemany("INSERT INTO occurrence VALUES (?, 'H')", [(one,) for one in {*raises}])
        database.executemany("INSERT INTO transition VALUES (?, 'raise')", [(one,) for one in raises])
        database.commit()
    found = counted(tmp_path, course, 1_900_000_000_000)
    assert found == {"alarms_expected": len(due), "alarms_lost": 1, "alarms_doubled": 2}
    assert counted(tmp_path, course, 0)["alarms_expected"] == 0


@pytest.mark.parametrize("words", [["takeover", "--points", "1500"], ["rolling", "--sql", "paper"]])
def test_what_cannot_be_measured_is_refused(words: list[str]) -> None:
    """One line, and nothing is started."""
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, words[-1] in result.stderr) == (2, True)
