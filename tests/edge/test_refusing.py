"""A broker that does not let a gateway hear something: it is said and asked for again, and all is sent meanwhile."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.edge.rig import Host, Slave, modbus_device, plant
from tests.edge.send_rig import gateway_here
from tests.edge.test_peers_faults import counters
from tests.support.nats import Broker as Running
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.stream import to_subject
from tocsin_core.plant.model import Broker
from tocsin_core.sparkplug import Message
from tocsin_edge.adapters.local_broker import program
from tocsin_edge.adapters.metrics import ask
from tocsin_edge.adapters.uplink import Uplink
from tocsin_edge.loops import send

STATE = "spBv1.0/STATE/tocsin"
COMMANDS = "spBv1.0/site/NCMD/gw"


class Guarded(Running):
    """A nats-server that lets the user `gw` hear all but what it is told to deny; who names nobody may do anything."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet."""
        self._config, self._client, self._store = folder / "nats.conf", free_port(), str(folder / "store")
        super().__init__([program(), "-c", str(self._config)], free_port())

    def deny(self, *topics: str) -> None:
        """Do so from the next start, or reload, on."""
        denied = json.dumps([to_subject(topic) for topic in topics])
        self._config.write_text(
            f"server_name: test\nlisten: 127.0.0.1:{self._client}\njetstream {{ store_dir: {self._store!r} }}\n"
            f"mqtt {{ listen: 127.0.0.1:{self.mqtt}, no_auth_user: host }}\n"
            "authorization { users: [{ user: host, password: pw },"
            f' {{ user: gw, password: pw, permissions: {{ publish: ">", subscribe: {{ deny: {denied} }} }} }}] }}\n',
            encoding="utf-8",
        )


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    """Give one that is not started, and end it."""
    broker = Guarded(tmp_path)
    yield broker
    broker.stop()


def test_a_refused_subscription_is_known_and_asked_for_again(guarded: Guarded) -> None:
    """Of our host's STATE it tells that the server keeps nothing any more, unless it was never granted."""

    def connected() -> AbstractAsyncContextManager[Uplink]:
        broker = Broker(port=guarded.mqtt, username="gw", password="pw")
        return Uplink.connect(broker, ("site", "gw"), Message("will", b""), COMMANDS)

    async def asked_until(uplink: Uplink, *refused: str) -> None:
        async def is_so() -> bool:
            await uplink.ask()
            return uplink.refused == refused

        await eventually_async(is_so)

    async def story() -> None:
        async with connected() as uplink:
            assert uplink.refused == (COMMANDS,)
            assert await uplink.keeps()
            guarded.deny(STATE)
            guarded.reload()
            await asked_until(uplink)
            await eventually_async(lambda: refuses(uplink))
        async with connected() as uplink:
            assert uplink.refused == (STATE,)
            assert await uplink.keeps()

    async def refuses(uplink: Uplink) -> bool:
        return not await uplink.keeps()

    guarded.deny(COMMANDS)
    guarded.start()
    asyncio.run(story())


def test_a_gateway_that_hears_nobody_says_so_and_hears_once_it_may(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the connection that it has: what it sends arrives, and is acknowledged once it hears the host."""
    monkeypatch.setattr(send, "ASK_AGAIN_S", 0.1)

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(guarded.mqtt).listen() as host:
            folder = plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port)})
            text = (folder / "plant.yaml").read_text(encoding="utf-8")
            as_user = "uplink: {username: gw, password: pw, host:"
            (folder / "plant.yaml").write_text(text.replace("uplink: {host:", as_user), encoding="utf-8")
            async with gateway_here(folder, tmp_path / "data", guarded.mqtt) as settings:

                async def warned() -> bool:
                    told = json.loads(await asyncio.to_thread(ask, settings.spool.parent, "/status"))
                    return f"the broker does not let the gateway hear {COMMANDS}" in told["warnings"]

                await eventually_async(lambda: len(host.batches) > 3)
                assert await warned()
                assert not counters(settings)["host_acknowledges"]
                guarded.deny()
                guarded.reload()
                await eventually_async(lambda: counters(settings)["batch_committed"] > host.first)
                assert counters(settings)["host_acknowledges"]
                assert not await warned()
                assert host.kinds().count("NBIRTH") == 1

    guarded.deny(COMMANDS)
    guarded.start()
    asyncio.run(story())
