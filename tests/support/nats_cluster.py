"""A real cluster of three nats-servers on the loopback, of which each can be killed, stopped and brought back."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nats.errors import Error as NatsError
from nats.js.api import ClusterInfo
from nats.js.errors import ServiceUnavailableError

from tests.support.machines import Machines
from tests.support.nats import listens
from tests.support.ports import free_port
from tests.support.wait import eventually
from tocsin_cloud.adapters.host_password import VARIABLE
from tocsin_cloud.adapters.nats_config import config_text
from tocsin_cloud.adapters.nats_server import program
from tocsin_cloud.adapters.stream import STREAM, connect
from tocsin_cloud.settings import LOOPBACK, Address, BrokerSettings, ClusterSettings

SERVERS: Final = 3


class NatsCluster:
    """Three servers, by their numbers from 0."""

    def __init__(self, folder: Path, machines: Machines | None = None) -> None:
        """Write their configurations into `folder`; each is on one of the `machines`, if there are any."""
        self._machines = machines
        hosts = [(LOOPBACK, LOOPBACK)] * SERVERS
        if machines is not None:
            hosts = [(machines.address(number), machines.peer(number)) for number in range(SERVERS)]
        routes = tuple(Address(peer, free_port()) for _, peer in hosts)
        self.servers: list[BrokerSettings] = []
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        for number, listen in enumerate(routes):
            home = folder / f"n{number}"
            home.mkdir(parents=True)
            settings = BrokerSettings(
                folder=home,
                nats=Address(hosts[number][0], free_port()),
                mqtt=Address(hosts[number][0], free_port()),
                server_name=f"n{number}",
                log_file=home / "server.log",
                cluster=ClusterSettings(name="test", listen=listen, routes=routes),
            )
            (home / "server.conf").write_text(config_text(settings), encoding="utf-8")
            self.servers.append(settings)

    @property
    def url(self) -> str:
        """The addresses of all servers, as `--nats` takes them."""
        return ",".join(f"nats://{server.nats}" for server in self.servers)

    def start(self, number: int) -> None:
        """Start a server; it is not ready yet."""
        command = [program(), "-c", str(self.servers[number].folder / "server.conf")]
        if self._machines is not None:
            command = self._machines.command(number, command)
        self._running[number] = subprocess.Popen(
            command, env=os.environ | {VARIABLE: "test"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self, number: int) -> None:
        """End a server at once."""
        process = self._running.pop(number)
        process.kill()
        process.wait()

    def hold(self, number: int) -> None:
        """Stop a server's process: its connections stand, and nothing answers on them, as behind a cut cable."""
        self._running[number].send_signal(signal.SIGSTOP)

    def release(self, number: int) -> None:
        """Let a stopped server go on."""
        self._running[number].send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End all."""
        for number in list(self._running):
            self.kill(number)

    async def leader(self) -> int:
        """The number of the server that leads the stream."""
        cluster = await self._stream()
        assert cluster.leader is not None
        return int(cluster.leader.removeprefix("n"))

    async def whole(self) -> bool:
        """Whether the cluster has a leader, and every server all of the stream."""
        try:
            copies = (await self._stream()).replicas or []
        except (NatsError, TimeoutError):
            return False
        return len(copies) == SERVERS - 1 and all(copy.current and not copy.offline for copy in copies)

    async def alone(self, number: int) -> bool:
        """Whether a server knows no leader of the cluster."""
        client = await connect(f"nats://{self.servers[number].nats}", "test")
        try:
            await client.jsm().account_info()
        except ServiceUnavailableError:
            return True
        except (NatsError, TimeoutError):
            return False
        finally:
            await client.close()
        return False

    async def _stream(self) -> ClusterInfo:
        client = await connect(self.url, "test")
        try:
            # Only the leader of the cluster answers this; of the stream each server may tell what it knows.
            await client.jsm().account_info()
            found = await client.jsm().stream_info(STREAM)
        finally:
            await client.close()
        assert found.cluster is not None
        return found.cluster


@contextmanager
def nats_cluster(folder: Path, machines: Machines | None = None) -> Iterator[NatsCluster]:
    """Run a cluster with its files in `folder`, on `machines` of its own if there are any."""
    cluster = NatsCluster(folder, machines)
    try:
        for number in range(SERVERS):
            cluster.start(number)
        eventually(lambda: all(listens(server.mqtt.port, server.mqtt.host) for server in cluster.servers))
        yield cluster
    finally:
        cluster.end()
