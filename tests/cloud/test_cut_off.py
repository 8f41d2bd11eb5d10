"""Who is at a NATS server that is cut off from its cluster goes to another one, and stays where there is a leader."""

import asyncio
import json
import signal
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from structlog.testing import capture_logs

from tests.cloud.api.stand_ins import HandClock
from tests.cloud.rig import broker
from tests.cloud.test_start import settings_in
from tests.support.nats import listens
from tests.support.nats_cluster import NatsCluster, nats_cluster
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_cloud.adapters import cut_off
from tocsin_cloud.adapters.cut_off import Reach
from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.nats_server import program
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.adapters.stream import connect
from tocsin_cloud.app import run
from tocsin_cloud.settings import LOOPBACK, Role
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant


def at(client: Client) -> str | None:
    """HOST:PORT of the server that a client is connected to."""
    return None if client.connected_url is None else str(client.connected_url.netloc)


def test_a_server_without_a_leader_is_left_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of three, of which the others never came, answers pings alone; not sooner than an election may take."""
    monkeypatch.setattr(cut_off, "ASK_S", 0.05)
    # In the order given.
    monkeypatch.setattr("random.SystemRandom.shuffle", lambda _random, _servers: None)

    async def story() -> None:
        cluster = NatsCluster(tmp_path / "cluster")
        alone = cluster.servers[0]
        async with broker(tmp_path / "whole") as (_, whole):
            cluster.start(0)
            try:
                await eventually_async(lambda: listens(alone.nats.port))
                await eventually_async(lambda: cluster.alone(0))
                client, clock = await connect(f"nats://{alone.nats},nats://{whole.nats}", "test"), HandClock()
                leaving = asyncio.create_task(Reach(client, clock).watch())
                await asked_again(client)
                assert (at(client), client.stats["reconnects"]) == (str(alone.nats), 0)
                with capture_logs() as logs:
                    clock.move(cut_off.LOST_S + 1)
                    await eventually_async(lambda: at(client) == str(whole.nats))
                # Nobody ever answered: it may not be allowed to ask, and its work may go on.
                assert "error" not in [line["log_level"] for line in logs]
                for _ in range(2):
                    await asked_again(client)
                    clock.move(cut_off.PATIENCE_S + 1)
                assert (at(client), client.stats["reconnects"]) == (str(whole.nats), 1)
                leaving.cancel()
                with suppress(asyncio.CancelledError):
                    await leaving
                await client.close()
            finally:
                cluster.end()

    asyncio.run(story())


async def asked_again(client: Client) -> None:
    """Wait until the client has asked its server twice more, and so has at least one answer."""
    before = client.stats["out_msgs"]
    await eventually_async(lambda: client.stats["out_msgs"] >= before + 2)


def test_who_reaches_no_leader_for_long_knows_that_another_had_better_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no other server is known the connection stays, and is as good as before once there is a leader again."""
    monkeypatch.setattr(cut_off, "ASK_S", 0.05)

    async def story() -> None:
        with nats_cluster(tmp_path / "cluster") as cluster:
            await eventually_async(lambda: not_alone(cluster))
            client, clock = await connect(f"nats://{cluster.servers[0].nats}", "test"), HandClock()
            reach = Reach(client, clock)
            watching = asyncio.create_task(reach.watch())
            await asked_again(client)
            for other in (1, 2):
                cluster.kill(other)
            await eventually_async(lambda: cluster.alone(0))
            await asked_again(client)
            assert not reach.lost
            clock.move(cut_off.LOST_S + 1)
            await eventually_async(lambda: reach.lost)
            for other in (1, 2):
                cluster.start(other)
            await eventually_async(lambda: not reach.lost)
            assert (at(client), client.stats["reconnects"]) == (str(cluster.servers[0].nats), 0)
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await client.close()

    asyncio.run(story())


def test_who_gets_no_answer_in_time_is_not_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may wait behind much else, or one may not ask any more: whoever reads the stream all the same goes on."""
    monkeypatch.setattr(cut_off, "ASK_S", 0.05)
    monkeypatch.setattr(cut_off, "API_TIMEOUT_S", 0.5)
    port, config = free_port(), tmp_path / "server.conf"

    def write(refused: str) -> None:
        user = f'{{ user: a, password: b, permissions: {{ publish: {{ deny: ["{refused}"] }} }} }}'
        config.write_text(
            f"listen: {LOOPBACK}:{port}\njetstream {{ store_dir: {json.dumps(str(tmp_path))} }}\n"
            f"authorization {{ users: [{user}] }}\n"
        )

    async def story() -> None:
        await eventually_async(lambda: listens(port))
        client, clock = await connect(f"nats://a:b@{LOOPBACK}:{port}", "test"), HandClock()
        reach = Reach(client, clock)
        watching = asyncio.create_task(reach.watch())
        await asked_again(client)
        write("$JS.API.INFO")
        server.send_signal(signal.SIGHUP)
        await eventually_async(lambda: refused(client))
        for _ in range(2):
            clock.move(cut_off.LOST_S + 1)
            await asked_again(client)
        assert not reach.lost
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await client.close()

    write("nothing")
    server = subprocess.Popen([program(), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(story())
    finally:
        server.kill()
        server.wait()


async def refused(client: Client) -> bool:
    """Whether the server does not answer."""
    try:
        await client.jsm(timeout=0.2).account_info()
    except (NatsError, TimeoutError):
        return True
    return False


async def not_alone(cluster: NatsCluster) -> bool:
    """Whether the first server knows a leader."""
    client = await connect(f"nats://{cluster.servers[0].nats}", "test")
    try:
        await client.jsm().account_info()
    except (NatsError, TimeoutError):
        return False
    finally:
        await client.close()
    return True


def test_who_reaches_no_leader_leaves_its_work_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches its server and the database as before, and would renew its lease for ever."""
    monkeypatch.setattr(cut_off, "ASK_S", 0.2)
    monkeypatch.setattr(cut_off, "LOST_S", 1.0)

    async def story() -> None:
        with nats_cluster(tmp_path / "cluster") as cluster, capture_logs() as logs:

            def logged(event: str) -> bool:
                return any(line["event"] == event for line in logs)

            await eventually_async(lambda: not_alone(cluster))
            server, settings, stop = cluster.servers[0], settings_in(tmp_path), asyncio.Event()
            settings = replace(
                settings, roles=frozenset((Role.ALARMS,)), nats_url=f"nats://{server.nats}", mqtt=server.mqtt
            )
            work = run(settings, load_plant(settings.plant), SystemClock(), stop, lambda _user, _password: None)
            working = asyncio.create_task(work)
            await eventually_async(lambda: logged("alarms worker ready"))
            database = await Database.open(sqlite_url(settings.sql_file))
            other = Lease(database, Role.ALARMS, "other", SystemClock())
            assert not await other.take()
            for number in (1, 2):
                cluster.kill(number)
            await eventually_async(other.take)
            # Who begins anew waits for its cluster, as at any start, and no longer.
            for number in (1, 2):
                cluster.start(number)
            await eventually_async(lambda: logged("begins anew as a candidate"))
            await eventually_async(lambda: logged("standing by"))
            stop.set()
            await working
            await database.close()

    asyncio.run(story())
