"""What Sparkplug B 3.0 asks of an edge node and a host, packet by packet, as docs/sparkplug-conformance.md tells it."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any, Final

import aiomqtt
import nats
import pytest

from tests.cloud.rig import broker
from tests.contract.sparkplug_recorder import Connect, Disconnect, Publish, Recorder, Subscribe
from tests.edge.rig import Gateway, Host, Slave, modbus_device, plant
from tests.support.nats import nats_broker
from tests.support.wait import PATIENCE_S, eventually_async
from tocsin_cloud.adapters.gateways import ask_rebirth
from tocsin_cloud.adapters.host_state import announce
from tocsin_cloud.settings import Address
from tocsin_core.clock import SystemClock
from tocsin_core.plant import PlantError, load_plant
from tocsin_core.plant.capitals import told_apart_by_capitals
from tocsin_core.readings import BAD_COMM_FAILURE, GOOD
from tocsin_core.sparkplug import (
    EdgeDevice,
    EdgeMetric,
    EdgeSession,
    HostSession,
    committed,
    journal_committed,
    rebirth,
)
from tocsin_core.sparkplug.edge import JournalNumbers, unknown_columns
from tocsin_core.sparkplug.payload import DataType, orders, parse, slice_part

MS: Final = 1_790_000_000_000
NCMD: Final = "spBv1.0/site/NCMD/gw"
ANOTHER: Final = "    devices: []\n  - id: GW\n    devices:"


@asynccontextmanager
async def recorded(folder: Path, gateway: Gateway, recorder: Recorder) -> AsyncIterator[Slave]:
    """Run the real gateway of two devices, the second of which can fall silent, against the recorder."""
    async with recorder.serve(), Slave({1: 1.5, 2: 2.5}).serve() as slave:
        devices = {"A": modbus_device("A", slave.port, 1), "B": modbus_device("B", slave.port, 2)}
        plant(folder / "plant", recorder.port, devices)
        gateway.start()
        await eventually_async(lambda: len(recorder.of("DDATA")) > 3)
        yield slave


def told(folder: Path) -> Recorder:
    """Run a gateway through a session: data, a silent device that dies and returns, a rebirth, a cut, and the end."""
    gateway, recorder = Gateway(folder / "plant", folder / "data"), Recorder()

    async def story() -> None:
        async with recorded(folder, gateway, recorder) as slave:
            slave.silent.add(2)
            await eventually_async(lambda: recorder.of("DDEATH"))
            slave.silent.clear()
            await eventually_async(lambda: len([p for p in recorder.of("DBIRTH") if p.topic.endswith("/B")]) > 1)
            recorder.say(NCMD, rebirth(MS))
            await eventually_async(lambda: len(recorder.of("NBIRTH")) > 1)
            seen = len(recorder.of("DDATA"))
            await eventually_async(lambda: len(recorder.of("DDATA")) > seen + 3)
            before = gateway.counters()["batch_committed"]
            recorder.say(NCMD, committed(before + 3, MS))
            await eventually_async(lambda: gateway.counters()["batch_committed"] == before + 3)
            # A host that went back is told anew which batch is the oldest: the one message of the node's own data.
            recorder.say(NCMD, committed(before + 1, MS))
            await eventually_async(lambda: recorder.of("NDATA"))
            recorder.drop()
            await eventually_async(lambda: len(recorder.of("NBIRTH")) > 2)
            seen = len(recorder.of("DDATA"))
            await eventually_async(lambda: len(recorder.of("DDATA")) > seen + 3)
            assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0
            await eventually_async(lambda: isinstance(recorder.packets[-1], Disconnect))

    try:
        asyncio.run(story())
    finally:
        gateway.stop()
    return recorder


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """Give the packets of one gateway's life; all tests of the wire look at the same."""
    return told(tmp_path_factory.mktemp("conformance"))


def bd_seq(payload: bytes) -> int:
    """Read the bdSeq of a birth or death; it is an Int64."""
    (metric,) = (metric for metric in parse(payload).metrics if metric.name == "bdSeq")
    assert metric.datatype == DataType.INT64
    return metric.long_value


def sessions(recorder: Recorder) -> list[list[Connect | Publish | Subscribe | Disconnect]]:
    """Cut the packets at each CONNECT."""
    found: list[list[Connect | Publish | Subscribe | Disconnect]] = []
    for packet in recorder.packets:
        if isinstance(packet, Connect):
            found.append([])
        found[-1].append(packet)
    return found


def test_every_connect_carries_the_death_as_its_will(session: Recorder) -> None:
    """MQTT 3.1.1, a clean session, and an NDEATH with QoS 1, not retained, with bdSeq alone and no seq."""
    connects = [packet for packet in session.packets if isinstance(packet, Connect)]
    assert len(connects) == 2
    for connect in connects:
        assert (connect.protocol, connect.clean_session, connect.will) == (4, True, True)
        assert (connect.will_qos, connect.will_retain) == (1, False)
        assert connect.will_topic == "spBv1.0/site/NDEATH/gw"
        death = parse(connect.will_payload)
        assert [metric.name for metric in death.metrics] == ["bdSeq"]
        assert not death.HasField("seq")


def test_bdseq_begins_at_zero_and_counts_connects(session: Recorder) -> None:
    """0 and 1 for the two CONNECTs, and each birth of a connection carries the number of its will."""
    numbers = []
    for packets in sessions(session):
        connect, births = packets[0], [p for p in packets if isinstance(p, Publish) and p.kind == "NBIRTH"]
        assert isinstance(connect, Connect)
        numbers.append(bd_seq(connect.will_payload))
        assert {bd_seq(birth.payload) for birth in births} == {numbers[-1]}
    assert numbers == [0, 1]


def test_commands_are_subscribed_before_the_first_birth(session: Recorder) -> None:
    """NCMD with QoS 1, and the primary host's STATE; then the NBIRTH as the first message, then the DBIRTHs."""
    for packets in sessions(session):
        asked, first = packets[1], packets[2]
        assert isinstance(asked, Subscribe)
        assert asked.filters == ((NCMD, 1), ("spBv1.0/STATE/tocsin", 1))
        assert isinstance(first, Publish)
        assert first.topic == "spBv1.0/site/NBIRTH/gw"
    last = [packet.kind for packet in sessions(session)[-1] if isinstance(packet, Publish)]
    assert last[:3] == ["NBIRTH", "DBIRTH", "DBIRTH"]
    # The alarm journal goes before data.
    assert last[3] in ("NDATA", "DDATA")


def test_births_data_and_deaths_have_qos_0_and_are_not_retained(session: Recorder) -> None:
    """Everything that the node publishes, on the topics of its own group and name."""
    kinds = {packet.kind for packet in session.published()}
    assert kinds == {"NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH", "NDEATH"}
    for packet in session.published():
        assert (packet.qos, packet.retain) == (0, False)
        device = r"/[AB]" if packet.kind.startswith("D") else ""
        assert re.fullmatch(rf"spBv1\.0/site/{packet.kind}/gw{device}", packet.topic)


def test_seq_counts_every_message_but_the_death(session: Recorder) -> None:
    """From 0 at each NBIRTH up by one with every message of node and devices; NDEATH has none."""
    due = 0
    for packet in session.published():
        payload = parse(packet.payload)
        if packet.kind == "NDEATH":
            assert not payload.HasField("seq")
            continue
        due = 0 if packet.kind == "NBIRTH" else due
        assert payload.seq == due
        due = (due + 1) % 256


def test_seq_and_bdseq_wrap_after_255() -> None:
    """After 255 comes 0, over births as over data."""
    device = EdgeDevice("dev", (EdgeMetric("a"),))
    edge = EdgeSession("site", "gw", [device])
    last = unknown_columns(device, MS, GOOD)
    edge.will(255, MS)
    seqs = [parse(edge.nbirth(1, 1, MS).payload).seq]
    seqs += [parse(edge.dbirth("dev", last, 1, MS).payload).seq]
    seqs += [parse(edge.ddata("dev", last, n, MS, historical=False).payload).seq for n in range(300)]
    seqs += [parse(edge.ndata(1, MS).payload).seq, parse(edge.ddeath("dev", MS).payload).seq]
    assert seqs == [n % 256 for n in range(304)]


def test_every_message_and_metric_has_its_time(session: Recorder) -> None:
    """UTC in milliseconds on the payload of each message and on each metric of births and data."""
    now_ms = SystemClock().now_ns() // 1_000_000
    for packet in session.published():
        payload = parse(packet.payload)
        times = [payload.timestamp, *(metric.timestamp for metric in payload.metrics)]
        assert all(now_ms - 600_000 < time_ms <= now_ms for time_ms in times), packet.topic


def test_a_nodes_birth_tells_all_that_it_will_ever_say(session: Recorder) -> None:
    """Name, type and value of each node metric; Rebirth is a Boolean, false, and has no alias."""
    ever = {metric.name for packet in session.of("NDATA") for metric in parse(packet.payload).metrics}
    for packet in session.of("NBIRTH"):
        metrics = {metric.name: metric for metric in parse(packet.payload).metrics}
        assert ever <= set(metrics)
        assert all(metric.datatype for metric in metrics.values())
        assert all((metric.WhichOneof("value") is None) == metric.is_null for metric in metrics.values())
        control = metrics["Node Control/Rebirth"]
        assert (control.datatype, control.boolean_value) == (DataType.BOOLEAN, False)
        assert control.WhichOneof("value") == "boolean_value"
        assert not control.HasField("alias")


def test_a_nodes_birth_declares_what_our_host_writes_to_it(session: Recorder) -> None:
    """Each metric of our commands, null and without an alias, as far as the node takes them."""
    for packet in session.of("NBIRTH"):
        assert {"Tocsin/Committed", "Tocsin/JournalCommitted", "Tocsin/Order", "Tocsin/KnownAs"} <= declared(
            packet.payload
        )
    whole = EdgeSession("site", "gw", []).nbirth(0, 1, MS, None, JournalNumbers(0, 1, b""), "{}").payload
    commands = committed(1, MS), journal_committed(1, MS, [b"{}"]), orders([b"{}"], MS), slice_part(b"", MS)
    assert {metric.name for data in commands for metric in parse(data).metrics} <= declared(whole)


def declared(birth: bytes) -> set[str]:
    """The names of the metrics of a birth that say nothing and have no alias."""
    return {metric.name for metric in parse(birth).metrics if metric.is_null and not metric.HasField("alias")}


def test_what_has_an_alias_goes_by_it_alone_and_all_else_by_name(session: Recorder) -> None:
    """In births each alias has its name; data and deaths have one of both; Tocsin's own metrics have no aliases."""
    for packet in session.published():
        for metric in parse(packet.payload).metrics:
            assert metric.HasField("name") or not packet.kind.endswith("BIRTH")
            assert metric.HasField("name") != metric.HasField("alias") or packet.kind == "DBIRTH"
            assert not (metric.HasField("alias") and metric.name.startswith("Tocsin/"))


def test_a_device_that_is_read_late_is_born_before_its_own_data(tmp_path: Path) -> None:
    """One that is read at once is born with the node; a sensor that was silent until now is born then."""
    gateway = Gateway(tmp_path / "plant", tmp_path / "data")

    async def story(port: int) -> None:
        async with (
            Slave({1: 1.5}).serve() as slave,
            Host(port).listen() as host,
            aiomqtt.Client("127.0.0.1", port) as sensor,
        ):
            late = (
                "mqtt: {topic: plant/s}\npoints: [{id: S, name: S, kind: generic, field: v, unit: bar, range: [0, 9]}]"
            )
            plant(tmp_path / "plant", port, {"A": modbus_device("A", slave.port), "S": late})
            gateway.start()
            await eventually_async(lambda: len(host.of("A")) > 3)
            assert not [fed for fed in host.fed if fed.device == "S"]
            await eventually_async(lambda: "DDATA" in host.kinds())

            async def heard() -> bool:
                await sensor.publish("plant/s", '{"v": 4.5}')
                return bool(host.of("S"))

            await eventually_async(heard)
            assert [fed.kind for fed in host.fed if fed.device == "S"][:2] == ["DBIRTH", "DDATA"]
            assert {fault.reason for fed in host.fed for fault in fed.faults} <= {"stale-death"}

    try:
        with nats_broker(tmp_path) as running:
            asyncio.run(story(running.mqtt))
    finally:
        gateway.stop()


def test_a_devices_birth_tells_all_that_it_will_ever_say(session: Recorder) -> None:
    """Name, type, value or null of each metric, an alias that is unique in the node; data use what it told."""
    told_by: dict[str, set[str]] = {}
    names: dict[int, str] = {}
    for packet in session.of("DBIRTH"):
        for metric in parse(packet.payload).metrics:
            assert metric.name
            assert metric.datatype
            assert (metric.WhichOneof("value") is None) == metric.is_null
            told_by.setdefault(packet.topic[-1], set()).add(metric.name)
            if metric.HasField("alias"):
                assert names.setdefault(metric.alias, f"{packet.topic[-1]}/{metric.name}").endswith(metric.name)
    assert len(set(names.values())) == len(names) == 2
    for packet in session.of("DDATA"):
        for metric in parse(packet.payload).metrics:
            # A metric goes by the alias of its birth where it has one, and never by both.
            assert metric.HasField("alias") != metric.HasField("name")
            if metric.HasField("alias"):
                assert names[metric.alias].startswith(packet.topic[-1])
            else:
                assert metric.name in told_by[packet.topic[-1]]


def test_properties_pair_and_quality_is_one_of_three_codes() -> None:
    """As many keys as values, a type on each, Quality an Int32 of 0, 192 or 500, a bad value null without one."""
    device = EdgeDevice("dev", (EdgeMetric("a", "bar", 0.0, 10.0), EdgeMetric("b"), EdgeMetric("c")))
    edge = EdgeSession("site", "gw", [device])
    columns = unknown_columns(device, MS, GOOD)
    columns.value[:] = [1.0, 2.0, 3.0]
    columns.quality[:] = [GOOD, BAD_COMM_FAILURE, 0x54]
    found = []
    for message in (edge.dbirth("dev", columns, 1, MS), edge.ddata("dev", columns, 1, MS, historical=False)):
        for metric in parse(message.payload).metrics[1:]:
            keys, values = list(metric.properties.keys), list(metric.properties.values)
            assert len(keys) == len(values)
            assert all(value.type in set(DataType) for value in values)
            quality = [value for key, value in zip(keys, values, strict=True) if key == "Quality"]
            assert all(value.type == DataType.INT32 and value.WhichOneof("value") == "int_value" for value in quality)
            found += [value.int_value for value in quality]
            assert metric.is_null == (metric.WhichOneof("value") is None)
    assert found == [0, 500, 0, 500]


def test_live_values_of_a_message_are_in_the_order_of_time(session: Recorder) -> None:
    """All that births and data of node and devices say, and so does what was read in another order."""
    for packet in session.published():
        assert in_order(packet.payload), packet.topic
    device = EdgeDevice("dev", (EdgeMetric("a"), EdgeMetric("b"), EdgeMetric("c")))
    edge = EdgeSession("site", "gw", [device])
    columns = unknown_columns(device, MS, GOOD)
    columns.time_ms[:] = [MS + 7, MS - 2, MS + 3]
    columns.value[:] = [1.0, 2.0, 3.0]
    unset = replace(columns, unsynchronised_ms=MS - 5000)
    birth = edge.dbirth("dev", unset, 1, MS).payload
    assert [metric.name for metric in parse(birth).metrics if metric.HasField("alias")] == ["b", "c", "a"]
    data = edge.ddata("dev", unset, 1, MS, historical=False).payload
    said = [metric.double_value for metric in parse(data).metrics if metric.HasField("alias")]
    assert said == [2.0, 3.0, 1.0]
    assert in_order(birth)
    assert in_order(data)


def in_order(payload: bytes) -> bool:
    """Whether no metric of a message, but for late ones, is older than the one before it."""
    times = [metric.timestamp for metric in parse(payload).metrics if not metric.is_historical]
    return times == sorted(times)


def test_a_rebirth_comes_at_once_and_whole(session: Recorder) -> None:
    """After the request NBIRTH with seq 0 and the same bdSeq, then every device's birth, and only then data."""
    packets = [packet for packet in sessions(session)[0] if isinstance(packet, Publish)]
    first, second = (n for n, packet in enumerate(packets) if packet.kind == "NBIRTH")
    assert bd_seq(packets[first].payload) == bd_seq(packets[second].payload)
    assert parse(packets[second].payload).seq == 0
    assert [packet.topic.split("/", 2)[2] for packet in packets[second : second + 3]] == [
        "NBIRTH/gw",
        "DBIRTH/gw/A",
        "DBIRTH/gw/B",
    ]
    assert packets[second + 3].kind in ("NDATA", "DDATA")


def test_a_device_that_is_lost_dies_and_is_born_again(session: Recorder) -> None:
    """DDEATH for a silent device, no data of it until its next DBIRTH."""
    of_b = [packet.kind for packet in session.published() if packet.topic.endswith("/B")]
    death = of_b.index("DDEATH")
    assert of_b[0] == "DBIRTH"
    assert of_b[death + 1] == "DBIRTH"


def test_an_end_that_is_meant_says_ndeath_before_disconnect(session: Recorder) -> None:
    """The last two packets: NDEATH with the session's bdSeq, then DISCONNECT."""
    death, end = session.packets[-2:]
    assert isinstance(end, Disconnect)
    assert isinstance(death, Publish)
    assert death.kind == "NDEATH"
    connect = sessions(session)[-1][0]
    assert isinstance(connect, Connect)
    assert bd_seq(death.payload) == bd_seq(connect.will_payload)
    assert [metric.name for metric in parse(death.payload).metrics] == ["bdSeq"]


def test_a_hosts_commands_have_a_time_and_no_seq() -> None:
    """A rebirth request is the Boolean true under its name; an acknowledgement is a number; neither counts."""
    for data, name in ((rebirth(MS), "Node Control/Rebirth"), (committed(7, MS), "Tocsin/Committed")):
        payload = parse(data)
        assert payload.timestamp == MS
        assert not payload.HasField("seq")
        assert [metric.name for metric in payload.metrics] == [name]
    (metric,) = parse(rebirth(MS)).metrics
    assert (metric.datatype, metric.boolean_value) == (DataType.BOOLEAN, True)


def test_a_hosts_commands_arrive_with_qos_0_and_are_not_retained(tmp_path: Path) -> None:
    """A rebirth request that the cloud side sends into the broker's stream comes out on NCMD as Sparkplug wants it."""

    async def story() -> None:
        async with (
            broker(tmp_path) as (_, settings),
            aiomqtt.Client(settings.mqtt.host, settings.mqtt.port) as node,
        ):
            await node.subscribe(NCMD, qos=1)
            client = await nats.connect(f"nats://{settings.nats}")
            await ask_rebirth(client, "site", "gw", MS * 1_000_000)
            await client.drain()
            async with asyncio.timeout(PATIENCE_S):
                message = await anext(aiter(node.messages))
            assert (str(message.topic), message.qos, message.retain) == (NCMD, 0, False)
            assert message.payload == rebirth(MS)

    asyncio.run(story())


@pytest.mark.parametrize("name", ["", "a/b", "a+b", "a#b", "a\x00b"])
def test_identifiers_are_fit_for_topics_and_unique(tmp_path: Path, name: str) -> None:
    """A name that no MQTT topic may hold is refused with the plant file, wherever it stands; so is one given twice."""
    devices = {"A": modbus_device("A", 1), "B": modbus_device("B", 1, 2)}
    load_plant(plant(tmp_path, 1, devices))
    good = (tmp_path / "plant.yaml").read_text(encoding="utf-8")
    wrong = json.dumps(name)
    for old, new in (
        ("site: {id: site", f"site: {{id: {wrong}"),
        ("- id: gw", f"- id: {wrong}"),
        ("- id: B", f"- id: {wrong}"),
        ("- id: B", "- id: A"),
        ("    devices:", "    devices: []\n  - id: gw\n    devices:"),
    ):
        assert old in good
        (tmp_path / "plant.yaml").write_text(good.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(PlantError):
            load_plant(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("- id: B", "- id: a", ("device", "a", "A")),
        ("{id: B,", "{id: a,", ("point", "a", "A")),
        ("    devices:", ANOTHER, ("gateway", "GW", "gw")),
    ],
)
def test_names_differ_by_more_than_capitals(tmp_path: Path, old: str, new: str, told: tuple[str, str, str]) -> None:
    """A device, a point and a gateway that another one's name in capitals is: warned of, saying which; read on."""
    devices = {"A": modbus_device("A", 1), "B": modbus_device("B", 1, 2)}
    assert not list(told_apart_by_capitals(load_plant(plant(tmp_path, 1, devices))))
    good = (tmp_path / "plant.yaml").read_text(encoding="utf-8")
    assert old in good
    (tmp_path / "plant.yaml").write_text(good.replace(old, new, 1), encoding="utf-8")
    assert list(told_apart_by_capitals(load_plant(tmp_path))) == [told]


def test_nodes_may_have_devices_of_one_name(tmp_path: Path) -> None:
    """The plant file takes them, and the host tells their readings apart."""
    folder = plant(tmp_path, 1, {"A": modbus_device("A", 1)})
    with (folder / "plant.yaml").open("a", encoding="utf-8") as file:
        file.write("  - id: other\n    devices:\n      - id: A\n" + indent(modbus_device("Z", 2), " " * 8))
    assert [device.id for gateway in load_plant(folder).file.gateways for device in gateway.devices] == ["A", "A"]
    device = EdgeDevice("A", (EdgeMetric("m"),))
    nodes = {name: EdgeSession("site", name, [device]) for name in ("gw", "other")}
    host = HostSession(lambda _group, node, _device, _metric: list(nodes).index(node))
    for edge in nodes.values():
        for message in (edge.nbirth(0, 1, MS), edge.dbirth("A", unknown_columns(device, MS, GOOD), 0, MS)):
            host.feed(message.topic, message.payload, MS * 1_000_000)
    heard = []
    for edge in nodes.values():
        data = edge.ddata("A", unknown_columns(device, MS, GOOD), 1, MS, historical=False)
        heard += host.feed(data.topic, data.payload, MS * 1_000_000).frame.point.tolist()
    assert heard == [0, 1]


def test_a_host_is_online_from_its_subscription_to_its_end() -> None:
    """CONNECT with offline as retained will of QoS 1, then a subscription, then online with the will's time.

    An offline is answered with that time; where a younger word was said, which would stand against it, with that one's.
    """
    recorder, late_ms = Recorder(), SystemClock().now_ns() // 1_000_000 + 3_600_000

    async def story() -> None:
        async with recorder.serve():
            host = asyncio.create_task(announce([Address("127.0.0.1", recorder.port)], SystemClock()))
            await eventually_async(lambda: len(recorder.packets) == 3)
            for number, words in enumerate(([(False, 1)], [(True, late_ms), (False, 1)], [(False, late_ms + 1)])):
                for online, time_ms in words:
                    said = json.dumps({"online": online, "timestamp": time_ms}).encode()
                    recorder.say("spBv1.0/STATE/tocsin", said)
                await eventually_async(lambda: len(recorder.packets) == 4 + number)  # noqa: B023 - awaited at once
            host.cancel()
            with suppress(asyncio.CancelledError):
                await host
            await eventually_async(lambda: isinstance(recorder.packets[-1], Disconnect))

    asyncio.run(story())
    connect, asked, online, again, *younger, offline, _ = recorder.packets
    assert isinstance(connect, Connect)
    assert isinstance(asked, Subscribe)
    assert (connect.protocol, connect.clean_session, connect.will_qos, connect.will_retain) == (4, True, 1, True)
    assert connect.will_topic == "spBv1.0/STATE/tocsin"
    assert asked.filters == (("spBv1.0/STATE/tocsin", 1),)
    will = json.loads(connect.will_payload)
    said = [word(packet) for packet in (online, again, *younger, offline)]
    assert will["online"] is False
    assert said[:2] == [{"online": True, "timestamp": will["timestamp"]}] * 2
    assert said[2:4] == [{"online": True, "timestamp": time_ms} for time_ms in (late_ms, late_ms + 1)]
    assert said[4]["online"] is False
    assert said[4]["timestamp"] >= will["timestamp"]
    assert abs(will["timestamp"] - SystemClock().now_ns() / 1e6) < 60_000


def word(packet: object) -> dict[str, Any]:
    """Read a host's STATE as it was published: QoS 1, retained, on its topic."""
    assert isinstance(packet, Publish)
    assert (packet.topic, packet.qos, packet.retain) == ("spBv1.0/STATE/tocsin", 1, True)
    read: dict[str, Any] = json.loads(packet.payload)
    return read


def test_a_host_keeps_a_time_for_each_server() -> None:
    """On two servers, and on the first once more: each birth is the first word there and has its will's time."""
    first, second = Recorder(), Recorder()

    async def story() -> None:
        async with first.serve(), second.serve():
            hosts = []
            for server in (first, second):
                address = Address("127.0.0.1", server.port)
                hosts.append(asyncio.create_task(announce([address], SystemClock())))
                await eventually_async(lambda: len(server.packets) == 3)  # noqa: B023 - awaited at once
            first.drop()
            await eventually_async(lambda: len(first.packets) == 6)
            for host in hosts:
                host.cancel()
            await asyncio.gather(*hosts, return_exceptions=True)

    asyncio.run(story())
    times = []
    for connect, asked, born in (first.packets[:3], second.packets[:3], first.packets[3:6]):
        assert isinstance(connect, Connect)
        assert isinstance(asked, Subscribe)
        will = json.loads(connect.will_payload)
        assert word(born) == {"online": True, "timestamp": will["timestamp"]}
        times.append(will["timestamp"])
    assert times == sorted(set(times))
