"""A session that waits for its primary host: nothing is said before it is online, and the session ends with it."""

import asyncio
import json
from pathlib import Path

import aiomqtt
import pytest

from tests.edge.rig import Gateway, Host, Slave, modbus_device, plant
from tests.edge.send_rig import ForgetfulLink, gateway_here
from tests.support.nats import nats_broker
from tests.support.wait import eventually_async
from tocsin_core.sparkplug import HostState
from tocsin_edge.adapters.metrics import ask
from tocsin_edge.loops import send
from tocsin_edge.loops.primary import AWAY, OUTDATED, PrimaryHost


def test_a_word_older_than_the_last_does_not_count() -> None:
    """Online counts, an offline that is older does not, one of the same time does; a new connection begins anew."""
    primary = PrimaryHost(required=True)
    primary.connected("one")
    assert primary.is_missing()
    assert primary.hear(HostState(online=True, time_ms=1000))
    assert not primary.is_missing()
    assert not primary.hear(HostState(online=False, time_ms=999))
    assert not primary.is_missing()
    assert primary.hear(HostState(online=False, time_ms=1000))
    assert primary.is_missing()
    assert primary.hear(HostState(online=True, time_ms=1001))
    assert primary.trouble == ""
    primary.connected("one")
    assert primary.is_missing()
    assert primary.trouble == AWAY
    assert not primary.hear(HostState(online=True, time_ms=1000))
    assert primary.trouble == OUTDATED
    assert primary.hear(HostState(online=True, time_ms=1001))
    assert primary.trouble == ""
    assert not PrimaryHost(required=False).is_missing()
    assert PrimaryHost(required=False).trouble == ""


def faults(gateway: Gateway) -> list[str]:
    """What keeps the plant from being watched, as the gateway says."""
    found: list[str] = json.loads(ask(gateway.spool.parent, "/status"))["faults"]
    return found


async def say(port: int, host: str, *, online: bool, time_ms: int) -> None:
    """Publish a host's STATE as the host does."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        payload = json.dumps({"online": online, "timestamp": time_ms})
        await client.publish(f"spBv1.0/STATE/{host}", payload, qos=1, retain=True)


def test_births_wait_for_the_primary_host_and_the_session_ends_with_it(tmp_path: Path) -> None:
    """No birth while it is offline or another host is online; then births; with its offline NDEATH; then born anew.

    What was read meanwhile comes as history.
    """
    gateway = Gateway(tmp_path / "plant", tmp_path / "data")
    (tmp_path / "data" / "gateways" / "gw").mkdir(parents=True)
    (tmp_path / "data" / "gateways" / "gw" / "uplink.yaml").write_text("primary_host: scada\n", encoding="utf-8")

    async def story(port: int) -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(port).listen() as host:
            plant(tmp_path / "plant", port, {"A": modbus_device("A", slave.port)})
            await say(port, "scada", online=False, time_ms=1000)
            gateway.start()
            await eventually_async(lambda: "primary host" in gateway.log.read_text(encoding="utf-8"))
            await say(port, "other", online=True, time_ms=5000)
            await eventually_async(lambda: len(gateway.kept()) > 5)
            assert sparkplug(host) == []
            assert faults(gateway) == [f"{AWAY}: nothing that is read goes up"]
            await say(port, "scada", online=True, time_ms=2000)
            await eventually_async(lambda: len(host.batches) > 8)
            assert faults(gateway) == []
            assert sparkplug(host)[:2] == ["NBIRTH", "DBIRTH"]
            assert host.fed[[fed.kind for fed in host.fed].index("DDATA")].historical
            await say(port, "scada", online=False, time_ms=1500)
            floor = host.floor
            await eventually_async(lambda: host.floor > floor + 3)
            assert "NDEATH" not in host.kinds()
            await say(port, "scada", online=False, time_ms=2000)
            await eventually_async(lambda: sparkplug(host)[-1] == "NDEATH")
            last = gateway.counters()["batch_last"]
            await eventually_async(lambda: gateway.counters()["batch_last"] > last + 3)
            assert sparkplug(host)[-1] == "NDEATH"
            await say(port, "scada", online=True, time_ms=3000)
            await eventually_async(lambda: host.floor > last + 3)
            assert host.kinds().count("NBIRTH") == 2
            assert not [fault for fed in host.fed if fed.kind for fault in fed.faults if fault.reason != "stale-death"]

    try:
        with nats_broker(tmp_path) as broker:
            asyncio.run(story(broker.mqtt))
    finally:
        gateway.stop()


@pytest.mark.parametrize("often", [1, 2 + len(send.ASK_STATES_S)])
def test_a_state_that_the_broker_did_not_tell_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, often: int
) -> None:
    """To who subscribes just as it is published nats-server tells neither it nor what it keeps, however often."""
    monkeypatch.setattr(send, "ASK_STATES_S", [0.1] * len(send.ASK_STATES_S))
    monkeypatch.setattr(send, "ASK_AGAIN_S", 0.2)

    async def story(port: int) -> None:
        async with Slave({1: 1.5}).serve() as slave, Host(port).listen() as host:
            folder = plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port)})
            data = tmp_path / "data"
            (data / "gateways" / "gw").mkdir(parents=True)
            (data / "gateways" / "gw" / "uplink.yaml").write_text("primary_host: scada\n", encoding="utf-8")
            await say(port, "scada", online=True, time_ms=1000)
            link = ForgetfulLink(port, bytes_per_s=10**9)
            link.most = often
            async with link.open(), gateway_here(folder, data, link.port):
                await eventually_async(lambda: len(host.batches) > 3)
            assert link.lost == often

    with nats_broker(tmp_path) as broker:
        asyncio.run(story(broker.mqtt))


def sparkplug(host: Host) -> list[str]:
    """Give the kinds of the gateway's messages, without STATE."""
    return [kind for kind in host.kinds() if kind]
