"""The start and the end of a cloud process from within: a database that is away, and what is written last."""

import asyncio
import gc
import re
import sqlite3
import warnings
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from tests.cloud.rig import HOST, broker, depose, plant_folder
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.wait import eventually_async
from tocsin_cloud import app
from tocsin_cloud.adapters.history_open import FILE
from tocsin_cloud.adapters.settings_file import FILE as SETTINGS_FILE
from tocsin_cloud.adapters.sql import away
from tocsin_cloud.adapters.sql.engine import NO_TIME, Database, sqlite_url
from tocsin_cloud.api import watch
from tocsin_cloud.api.problem import WAITS
from tocsin_cloud.api.server import serving
from tocsin_cloud.app import Summary, run
from tocsin_cloud.loops import judged, quarantine
from tocsin_cloud.settings import WORKERS, Address, CloudSettings
from tocsin_core.clock import SystemClock
from tocsin_core.plant import Plant, load_plant
from tocsin_core.rules import Rules, compile_rules


@asynccontextmanager
async def running(settings: CloudSettings) -> AsyncIterator[tuple[httpx.AsyncClient, list[Summary]]]:
    """The cloud side in this process; told to end with the context, after which its summary is there."""
    stop, summaries = asyncio.Event(), list[Summary]()
    async with asyncio.TaskGroup() as tasks:
        work = run(settings, load_plant(settings.plant), SystemClock(), stop, lambda _user, _password: None)
        task = tasks.create_task(work)
        async with httpx.AsyncClient(base_url=f"http://{settings.http}", trust_env=False, timeout=20) as client:
            yield client, summaries
        stop.set()
        summaries.append(await task)


def settings_in(folder: Path) -> CloudSettings:
    """A cloud side of the small plant on free ports, with a broker of its own."""
    http, mqtt = Address(HOST, free_port()), Address(HOST, free_port())
    return CloudSettings(plant=plant_folder(folder / "plant"), data=folder / "data", http=http, mqtt=mqtt)


async def status(client: httpx.AsyncClient, path: str) -> int:
    """What is answered there; 0 while nobody answers."""
    try:
        return (await client.get(path)).status_code
    except httpx.TransportError:
        return 0


def test_a_database_that_is_away_at_the_start_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interface's address says why there is nothing, the log does so once; told to end it ends; then it works."""
    monkeypatch.setattr(away, "AGAIN_S", 0.01)
    monkeypatch.setattr(away, "SAID_EVERY", 10**6)
    monkeypatch.setattr(app, "AT_ONCE_S", 0.1)
    settings = settings_in(tmp_path)
    # SQLite cannot open a folder.
    settings.sql_file.mkdir(parents=True)

    async def story() -> None:
        with capture_logs() as logs:
            async with running(settings) as (client, summaries):
                await eventually_async(lambda: status(client, "/healthz"))
                assert await status(client, "/healthz") == httpx.codes.OK
                ready = await client.get("/readyz")
                assert (ready.status_code, ready.json()) == (503, {"status": "not ready", "reason": WAITS})
                for answer in (await client.get("/"), await client.post("/api/v1/session", json={})):
                    assert (answer.status_code, answer.json()["detail"]) == (503, WAITS)
            assert summaries == [Summary("all")]
        (told,) = [line for line in logs if line["event"] == "waiting for the database"]
        assert "unable to open database file" in told["reason"]
        async with running(settings) as (client, summaries):
            await eventually_async(lambda: status(client, "/healthz"))
            settings.sql_file.rmdir()
            await eventually_async(lambda: ready_at(client), 60)
        assert summaries == [Summary("all", 0, 0, 0)]

    asyncio.run(story())


def test_told_to_end_while_no_broker_answers_it_ends(tmp_path: Path) -> None:
    """One that is away is waited for, at a start and by who begins anew after it lost a lease: not for ever."""
    settings = replace(settings_in(tmp_path), nats_url=f"nats://{HOST}:{free_port()}", roles=WORKERS)

    async def story() -> None:
        with capture_logs() as logs:

            def tried() -> bool:
                return any(line["event"] == "nats" for line in logs)

            async with asyncio.timeout(60), running(settings) as (_, summaries):
                await eventually_async(tried)
        assert summaries == [Summary("workers")]

    asyncio.run(story())


@pytest.mark.parametrize("away", [Postgres.killed, Postgres.standing_still])
def test_told_to_end_while_the_database_is_away_it_ends(
    away: Callable[[Postgres], AbstractContextManager[None]],
    postgres_server: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In order and in time, whether the server refuses or says nothing; the log says what is not written."""
    monkeypatch.setattr(app, "END_S", 1.0)
    url = postgres_server.make(f"end_{away.__name__}").render_as_string()
    settings = replace(settings_in(tmp_path), sql=url)

    async def has_read(client: httpx.AsyncClient) -> bool:
        """Whether the alarms worker has something to commit at its end: a tick at least."""
        return await ready_at(client) and 'tocsin_stream_position{role="alarms"}' in (await client.get("/metrics")).text

    async def story() -> None:
        with capture_logs() as logs, ExitStack() as meanwhile:
            async with asyncio.timeout(120), running(settings) as (client, summaries):
                await eventually_async(lambda: has_read(client), 60)
                meanwhile.enter_context(away(postgres_server))
        assert summaries == [Summary("all", 0, None, 0)]
        (last,) = [line for line in logs if line["event"].startswith("ends without the database")]
        assert "Connect call failed" in last["reason"] or last["reason"] == NO_TIME
        assert {line["lease"] for line in logs if line["event"] == "lease not released"} == {*WORKERS}

    asyncio.run(story())


async def ready_at(client: httpx.AsyncClient) -> bool:
    """Whether all is well there."""
    return await status(client, "/readyz") == httpx.codes.OK


def test_a_port_that_is_taken_is_named() -> None:
    """Of several addresses in the command, whoever reads the reason knows which one to change."""

    async def story() -> None:
        async with serving(Starlette(), HOST, 0) as (host, port):
            with pytest.raises(OSError, match=f"in use: {host}:{port}, for the page"):
                await serving(Starlette(), host, port).__aenter__()

    asyncio.run(story())


def test_what_is_quarantined_in_the_last_moment_is_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two flushes the process is told to end: the row is in the table."""
    monkeypatch.setattr(quarantine, "INTERVAL_S", 3600.0)
    settings = settings_in(tmp_path)

    async def story() -> None:
        async with running(settings) as (client, summaries):
            await eventually_async(lambda: ready_at(client), 60)
            async with aiomqtt.Client(*settings.mqtt) as vandal:
                await vandal.publish("spBv1.0/nonsense", b"\xff\x00")
            figure = 'tocsin_quarantined_total{reason="not-sparkplug"} 1.0'

            async def counted() -> bool:
                return figure in (await client.get("/metrics")).text

            await eventually_async(counted)
        assert summaries[0].quarantined == 1

    asyncio.run(story())
    with closing(sqlite3.connect(settings.sql_file)) as database:
        assert database.execute("SELECT topic, reason FROM quarantine").fetchall() == [
            ("spBv1.0/nonsense", "not-sparkplug")
        ]


async def deposed(settings: CloudSettings) -> None:
    """Take a lease from the cloud side of this process, which was ready."""
    database = Database.as_it_is(sqlite_url(settings.sql_file))
    await depose(database)
    await database.close()


async def who_works(client: httpx.AsyncClient) -> set[str]:
    """The processes that do a role's work, as whoever answers there knows; one that begins anew is another one."""
    try:
        metrics = (await client.get("/metrics")).text
    except httpx.TransportError:
        return set()
    return set(re.findall(r'^tocsin_lease_epoch\{.*process="([^"]*)"', metrics, re.MULTILINE))


def test_who_begins_anew_leaves_no_page_of_before(tmp_path: Path) -> None:
    """A browser keeps its connection: it is not answered on it by what was known before, and is known no more."""
    settings = settings_in(tmp_path)

    async def story() -> None:
        async with running(settings) as (client, _):
            before = await eventually_async(lambda: who_works(client), 60)
            await deposed(settings)
            await eventually_async(lambda: others_than(client, before), 60)

    async def others_than(client: httpx.AsyncClient, before: set[str]) -> bool:
        return bool(await who_works(client) - before)

    asyncio.run(story())


def test_who_begins_anew_does_not_work_the_rules_out_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large plant that takes most of a minute, in which nobody would stand by."""
    compiled: list[Plant] = []

    def counted(plant: Plant) -> Rules:
        compiled.append(plant)
        return compile_rules(plant)

    monkeypatch.setattr(judged, "compile_rules", counted)
    settings = settings_in(tmp_path)

    async def story() -> None:
        with capture_logs() as logs:
            async with running(settings) as (client, _):
                await eventually_async(lambda: ready_at(client), 60)
                await deposed(settings)
                await eventually_async(lambda: begins_anew(logs), 60)
                await eventually_async(lambda: ready_at(client), 60)

    asyncio.run(story())
    assert len(compiled) == 1


def begins_anew(logs: list[MutableMapping[str, Any]]) -> bool:
    """Whether the log says so."""
    return any(line["event"] == "begins anew as a candidate" for line in logs)


def test_who_begins_anew_leaves_no_connection_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where the page was just reading when the lease was lost, and the process is told to end then."""
    # It reads all the time.
    monkeypatch.setattr(watch, "CYCLE_S", 0.0)
    settings = settings_in(tmp_path)

    async def story() -> None:
        with capture_logs() as logs:
            async with running(settings) as (client, _):
                await eventually_async(lambda: ready_at(client), 60)
                await deposed(settings)
                await eventually_async(lambda: begins_anew(logs), 60)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(story())
        gc.collect()
    assert [str(each.message) for each in told if each.category is ResourceWarning] == []


def test_who_takes_over_tells_of_the_plant_that_is_in_force(tmp_path: Path) -> None:
    """Its files were changed since it was started, and one cannot be read: it decides alarms all the same."""
    settings = settings_in(tmp_path)

    async def story() -> None:
        with capture_logs() as logs:
            async with running(settings) as (client, _):
                await eventually_async(lambda: ready_at(client), 60)
                with (settings.plant / "plant.yaml").open("a", encoding="utf-8") as file:
                    file.write("# changed\n")
                (settings.plant / "profiles" / "half.yaml").mkdir(parents=True)
                await deposed(settings)
                await eventually_async(lambda: begins_anew(logs), 60)
                await eventually_async(lambda: ready_at(client), 60)

    asyncio.run(story())
    with closing(sqlite3.connect(settings.sql_file)) as database:
        told = database.execute("SELECT detail FROM audit WHERE action = 'plant.load'").fetchall()
    assert len(told) == 2
    assert len(set(told)) == 1


def test_a_history_that_cannot_be_opened_costs_no_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file, say: who is to decide alarms decides them, says why nothing is stored, and goes on to try it."""
    monkeypatch.setattr(app, "NO_HISTORY_S", 0.1)
    settings = replace(settings_in(tmp_path), roles=WORKERS)
    settings.data.mkdir()
    (settings.data / FILE).write_bytes(b"no database" * 1000)

    def decided() -> int:
        with closing(sqlite3.connect(settings.sql_file)) as database:
            found = database.execute("SELECT position FROM worker").fetchone()
        return int(found[0]) if found else 0

    async def story() -> None:
        with capture_logs() as logs:

            def refusals() -> list[MutableMapping[str, Any]]:
                return [line for line in logs if line["event"] == "no history: alarms go on without it"]

            async with broker(tmp_path / "nats") as (server, addresses):
                here = replace(settings, nats_url=server.url, mqtt=addresses.mqtt)
                async with asyncio.timeout(120), running(here):
                    await eventually_async(lambda: len(refusals()) > 1)
                    assert FILE in refusals()[0]["reason"]
                    before = decided()
                    await eventually_async(lambda: decided() > before)
                    (settings.data / FILE).unlink()
                    await eventually_async((settings.data / FILE).exists)

    asyncio.run(story())


def test_settings_that_cannot_be_written_down_end_nothing(tmp_path: Path) -> None:
    """A disk is full, and whoever starts with fewer days of history, to have room again, has other settings."""
    settings = settings_in(tmp_path)
    (settings.data / SETTINGS_FILE).mkdir(parents=True)

    async def story() -> None:
        with capture_logs() as logs:
            async with running(settings) as (client, _):
                await eventually_async(lambda: ready_at(client), 60)
        assert [line["log_level"] for line in logs if line["event"] == "settings not written down"] == ["error"]

    asyncio.run(story())
