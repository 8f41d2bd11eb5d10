"""A gateway's certificate revoked on a real cluster of three servers with TLS: it counts on none of them any more."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import aiomqtt
import nats
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tests.cli.in_process import tocsin
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.authority import Made
from tocsin_cloud.adapters.enrolment import Enrolment, moment
from tocsin_cloud.adapters.nats_config import server_files
from tocsin_cloud.adapters.own_certificates import broker_context, cloud_context
from tocsin_cloud.adapters.permissions import BROKER_INBOX, LIST_SUBJECT
from tocsin_cloud.adapters.shared_list import keep_telling
from tocsin_cloud.adapters.stream import connect
from tocsin_cloud.cli import serve_cluster
from tocsin_cloud.settings import AUTHORITY, LOOPBACK, Address, BrokerSettings, ClusterSettings
from tocsin_core.clock import SystemClock

CLOCK = SystemClock()
YEAR = timedelta(days=365)
SITE, OURS, THEIRS = "s", "gw1", "gw2"
NAMES = ("n1", "n2", "n3")
LONG_S = 300


@dataclass
class Cluster:
    """Three servers as `tocsin broker server` runs them, by name; the first by that command, the others in here."""

    folder: Path
    said: list[EventDict]
    mqtt: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in NAMES})
    nats: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in NAMES})
    routes: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in NAMES})

    @asynccontextmanager
    async def command(self, name: str) -> AsyncIterator[None]:
        """Run a server by the command line."""
        home = self.folder / name
        words = ["--name", name, "--listen", LOOPBACK, "--store", str(home / "store"), "--tls", str(home)]
        words += ["--routes", ",".join(f"localhost:{port}" for port in self.routes.values())]
        words += ["--mqtt", str(self.mqtt[name]), "--nats", str(self.nats[name])]
        words += ["--route", str(self.routes[name]), "--monitor", str(free_port())]
        with (home / "log").open("wb") as log:
            command = [sys.executable, "-m", "tocsin_cli", "broker", "server", *words]
            process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        try:
            # Nothing may knock at ports before it listens: others could be given them.
            await eventually_async(lambda: "broker ready" in (home / "log").read_text(encoding="utf-8"), LONG_S)
            yield
        finally:
            process.terminate()
            assert await process.wait() == 0

    @asynccontextmanager
    async def server(self, name: str) -> AsyncIterator[None]:
        """Run a server in this process."""
        home = self.folder / name
        settings = BrokerSettings(
            folder=home / "store",
            nats=Address(LOOPBACK, self.nats[name]),
            mqtt=Address(LOOPBACK, self.mqtt[name]),
            server_name=name,
            cluster=ClusterSettings(
                name="tocsin",
                listen=Address(LOOPBACK, self.routes[name]),
                routes=tuple(Address("localhost", port) for port in self.routes.values()),
            ),
            tls=server_files(home),
        )
        stop, before = asyncio.Event(), self._times_ready(name)
        serving = asyncio.create_task(serve_cluster(settings, home, stop), name=name)
        try:
            await eventually_async(lambda: serving.done() or self._times_ready(name) > before, LONG_S)
            yield
        finally:
            stop.set()
            assert await serving == {"restarts": 0}

    def _times_ready(self, name: str) -> int:
        mqtt = f"{LOOPBACK}:{self.mqtt[name]}"
        return sum(each["event"] == "broker ready" and each["mqtt"] == mqtt for each in self.said)

    def client(self, name: str, context: ssl.SSLContext, patience_s: float = 30.0) -> aiomqtt.Client:
        """An MQTT client of one of the servers."""
        return aiomqtt.Client(LOOPBACK, self.mqtt[name], tls_context=context, timeout=patience_s)

    async def lets_in(self, name: str, context: ssl.SSLContext) -> bool:
        """Whether a server lets in who shows this."""
        try:
            # Who is refused is not told so, and would wait all the time.
            async with self.client(name, context, patience_s=2.0):
                return True
        except (aiomqtt.MqttError, TimeoutError):
            return False

    def context(self, made: Made) -> ssl.SSLContext:
        """With what the owner of a certificate connects."""
        path = self.folder / f"{made.serial}.pem"
        path.write_bytes(made.certificate + made.key)
        context = ssl.create_default_context(cafile=str(self.folder / AUTHORITY / "ca.pem"))
        context.load_cert_chain(str(path))
        return context


@asynccontextmanager
async def connected(client: aiomqtt.Client) -> AsyncIterator[aiomqtt.Client]:
    """Be connected, whether the server ends that or we do."""
    with suppress(aiomqtt.MqttError):
        async with client:
            yield client


async def stays(cluster: Cluster, name: str, context: ssl.SSLContext, stack: AsyncExitStack) -> aiomqtt.Client:
    """A connection that stands until the stack's end."""
    await eventually_async(lambda: cluster.lets_in(name, context), LONG_S)
    return await stack.enter_async_context(connected(cluster.client(name, context)))


async def only_asks(url: str, files: Path) -> None:
    """See that what a server asks with is good for nothing else."""
    told: list[str] = []

    async def on_error(error: Exception) -> None:
        told.append(str(error))

    client = await nats.connect(url, tls=broker_context(files), inbox_prefix=BROKER_INBOX, error_cb=on_error)
    for subject in (LIST_SUBJECT, "tocsin.command.s"):
        await client.publish(subject, b"x")
    for subject in (">", "tocsin.>"):
        await client.subscribe(subject)
    await eventually_async(lambda: sum("permissions violation" in each.lower() for each in told) == 4)
    await client.close()


async def ends(client: aiomqtt.Client) -> None:
    """Wait until the server ends this connection."""
    with suppress(aiomqtt.MqttError):
        async with asyncio.timeout(LONG_S):
            async for _ in client.messages:
                pass


@pytest.mark.timeout(900)
def test_a_revoked_gateway_is_let_in_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections to two servers end, no other's do; the third server was down then, and never lets it in."""
    for name in NAMES:
        words = ("--host", "localhost", "--data", str(tmp_path), "--out", str(tmp_path / name))
        assert tocsin(monkeypatch, "broker", "certificate", *words) == 0
    enrolment, now = Enrolment(tmp_path / AUTHORITY), moment(CLOCK.now_ns())
    made = {gateway: enrolment.enroll(SITE, gateway, now, YEAR) for gateway in (OURS, THEIRS)}

    async def story(cluster: Cluster) -> None:
        ours, theirs = (cluster.context(each) for each in made.values())
        url = f"tls://{LOOPBACK}:{cluster.nats['n2']}"
        async with cluster.command("n1"), cluster.server("n2"), AsyncExitStack() as stack:
            client = await connect(url, "test", cloud_context(enrolment.path.parent, CLOCK))
            stack.push_async_callback(client.close)
            telling = asyncio.create_task(keep_telling(client, enrolment.path))
            async with cluster.server("n3"):
                await eventually_async(lambda: cluster.lets_in("n3", ours), LONG_S)
            places = (("n1", ours), ("n2", ours), ("n1", theirs))
            here, there, neighbour = [await stays(cluster, name, who, stack) for name, who in places]
            enrolment.revoke(SITE, OURS, None, now)
            await asyncio.gather(ends(here), ends(there))
            for name in ("n1", "n2"):
                assert not await cluster.lets_in(name, ours)
            await neighbour.publish(f"spBv1.0/{SITE}/NDATA/{THEIRS}", b"x", qos=1)
            # Nobody tells the third server of it any more but the cluster itself.
            telling.cancel()
            async with cluster.server("n3"):
                while not await cluster.lets_in("n3", theirs):
                    assert not await cluster.lets_in("n3", ours)
                assert not await cluster.lets_in("n3", ours)
            await only_asks(url, tmp_path / "n1")

    with capture_logs() as said:
        asyncio.run(story(Cluster(tmp_path, said)))
