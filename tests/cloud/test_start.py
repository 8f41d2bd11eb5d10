"""The start and the end of a cloud process from within: a database that is away, and what is written last."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import aiomqtt
import httpx
import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from tests.cloud.rig import HOST, plant_folder
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.support.wait import eventually_async
from tocsin_cloud import app
from tocsin_cloud.adapters.sql import away
from tocsin_cloud.adapters.sql.engine import NO_TIME
from tocsin_cloud.api.problem import WAITS
from tocsin_cloud.api.server import serving
from tocsin_cloud.app import Summary, run
from tocsin_cloud.loops import quarantine
from tocsin_cloud.settings import WORKERS, Address, CloudSettings
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant


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
                await eventually_async(lambda: status(client, "/healthz"), 30)
                assert await status(client, "/healthz") == httpx.codes.OK
                ready = await client.get("/readyz")
                assert (ready.status_code, ready.json()) == (503, {"status": "not ready", "reason": WAITS})
                for answer in (await client.get("/"), await client.post("/api/v1/session", json={})):
                    assert (answer.status_code, answer.json()["detail"]) == (503, WAITS)
            assert summaries == [Summary("all")]
        (told,) = [line for line in logs if line["event"] == "waiting for the database"]
        assert "unable to open database file" in told["reason"]
        async with running(settings) as (client, summaries):
            await eventually_async(lambda: status(client, "/healthz"), 30)
            settings.sql_file.rmdir()
            await eventually_async(lambda: ready_at(client), 60)
        assert summaries == [Summary("all", 0, 0, 0)]

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

            await eventually_async(counted, 30)
        assert summaries[0].quarantined == 1

    asyncio.run(story())
    with closing(sqlite3.connect(settings.sql_file)) as database:
        assert database.execute("SELECT topic, reason FROM quarantine").fetchall() == [
            ("spBv1.0/nonsense", "not-sparkplug")
        ]
