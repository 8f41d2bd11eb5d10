"""Sparkplug with clients that are not ours, both ways: npm's sparkplug-client and -payload, pysparkplug's codec."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from math import isnan, nan
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any, Final

import pysparkplug
import pytest

from tests.edge.rig import Gateway, Host, Slave, modbus_device, plant
from tests.support.nats import nats_broker
from tests.support.node_peer import NODE, SPARKPLUG, install
from tests.support.wait import eventually_async
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_NOT_CONNECTED, GOOD
from tocsin_core.sparkplug import ClockState, EdgeDevice, EdgeMetric, EdgeSession, HostSession
from tocsin_core.sparkplug.edge import Columns, unknown_columns
from tocsin_core.sparkplug.payload import parse
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload

MS: Final = 1_790_000_000_000


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    """Have the locked packages installed beside the scripts."""
    install(SPARKPLUG)


class Script:
    """A node script that runs: lines out, lines in."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Read its lines as they come."""
        self._process = process
        self._lines: Queue[str] = Queue()
        self.heard: list[dict[str, Any]] = []
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def messages(self) -> list[dict[str, Any]]:
        """Give all JSON lines so far."""
        while not self._lines.empty():
            self.heard.append(json.loads(self._lines.get()))
        return self.heard

    def go_on(self) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """End it and its reader."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def script(name: str, port: int) -> Iterator[Script]:
    """Run a script of the folder against the broker on `port`."""
    command = [str(NODE), str(SPARKPLUG / name), f"mqtt://127.0.0.1:{port}"]
    running = Script(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    try:
        yield running
    finally:
        running.end()


def test_sparkplug_client_reads_right_in_our_host(tmp_path: Path) -> None:
    """Births, data, types and the death of npm's sparkplug-client come out of our host as readings."""

    async def story(port: int) -> None:
        async with Host(port, node="peer").listen() as host:
            with script("edge.js", port) as edge:
                await eventually_async(lambda: "DBIRTH" in host.kinds())
                edge.go_on()
                await eventually_async(lambda: "NDEATH" in host.kinds())
        births = {declared.metric: declared for fed in host.fed for declared in fed.births}
        assert (births["level"].device, births["level"].unit) == ("tank", "m")
        assert births["uptime"].device is None
        said: dict[str, list[tuple[float, int]]] = {}
        names = {index: name for name, index in host.points.items()}
        for fed in host.fed:
            for point, value, quality in zip(fed.frame.point, fed.frame.value, fed.frame.quality, strict=True):
                if quality == GOOD:
                    said.setdefault(names[int(point)], []).append((float(value), int(quality)))
        assert said == {
            "uptime": [(-7.0, GOOD)],
            "level": [(1.25, GOOD), (2.5, GOOD)],
            "pump": [(1.0, GOOD), (0.0, GOOD)],
        }
        assert {int(q) for q in host.fed[-1].frame.quality} == {BAD_NOT_CONNECTED}
        assert {fault.reason for fed in host.fed for fault in fed.faults} <= {"not-numeric"}

    with nats_broker(tmp_path) as broker:
        asyncio.run(story(broker.mqtt))


def test_sparkplug_client_is_read_as_a_sensor_of_our_gateway(tmp_path: Path) -> None:
    """The gateway comes later and asks for births; values by name, changes and the death become its own readings."""
    gateway = Gateway(tmp_path / "plant", tmp_path / "data")
    sensor = "mqtt: {topic: spBv1.0/site/+/peer/tank}\nperiod_ms: 60000\npoints:\n" + "\n".join(
        f"  - {{id: our-{name}, name: {name}, kind: generic, field: {name}, range: [0, 9]}}"
        for name in ("level", "pump")
    )

    async def story(port: int) -> None:
        async with Host(port).listen() as host:
            with script("edge.js", port) as edge:
                await eventually_async(lambda: "DBIRTH" in host.kinds())
                plant(tmp_path / "plant", port, {"T": sensor})
                gateway.start()
                await eventually_async(lambda: values(host, "our-pump") == [(1.0, GOOD)])
                edge.go_on()
                await eventually_async(lambda: values(host, "our-pump")[-1] == (nan, BAD_NOT_CONNECTED))
        assert values(host, "our-level") == [(1.25, GOOD), (2.5, GOOD), (nan, BAD_NOT_CONNECTED)]
        assert values(host, "our-pump") == [(1.0, GOOD), (0.0, GOOD), (nan, BAD_NOT_CONNECTED)]

    try:
        with nats_broker(tmp_path) as broker:
            asyncio.run(story(broker.mqtt))
    finally:
        gateway.stop()


def values(host: Host, metric: str) -> list[tuple[float, int]]:
    """What a host heard of a metric in the order of time; a value that is none is the one `nan`."""
    return [(nan if isnan(value) else value, quality) for _, value, quality in host.of(metric)]


def test_sparkplug_payload_takes_data_without_types_for_nulls() -> None:
    """Why our data repeat the types of their births: its decoder, that many hosts stand on, knows no birth."""
    device = EdgeDevice("dev", (EdgeMetric("a"),))
    columns = unknown_columns(device, MS, GOOD)
    columns.value[:] = [1.5]
    typed = parse(EdgeSession("site", "gw", [device]).ddata("dev", columns, 1, MS, historical=False).payload)
    bare = Payload.FromString(typed.SerializeToString())
    for metric in bare.metrics:
        metric.ClearField("datatype")
    read = 'require("sparkplug-payload").get("spBv1.0").decodePayload(Buffer.from(process.argv[1], "hex"))'
    decoded = []
    for payload in (typed, bare):
        command = [str(NODE), "-e", f"console.log(String({read}.metrics[1].value))", payload.SerializeToString().hex()]
        decoded.append(
            subprocess.run(command, cwd=SPARKPLUG, capture_output=True, text=True, check=True).stdout.strip()
        )
    assert decoded == ["1.5", "null"]


def test_our_gateway_reads_right_in_sparkplug_payload(tmp_path: Path) -> None:
    """A host of npm's packages sees our births in order, unit and range, aliases, values, a dead device's quality."""

    async def story(port: int) -> None:
        gateway = Gateway(tmp_path / "plant", tmp_path / "data")
        with script("host.js", port) as host:
            await eventually_async(host.messages)
            async with Slave({1: 1.5, 2: 2.5}, silent={2}).serve() as slave:
                devices = {"A": modbus_device("A", slave.port, 1), "B": modbus_device("B", slave.port, 2)}
                plant(tmp_path / "plant", port, devices)
                gateway.start()
                try:
                    await eventually_async(lambda: any("/DDEATH/gw/B" in m["topic"] for m in host.messages()))
                finally:
                    gateway.stop()
            check_our_messages(host.messages()[1:])

    with nats_broker(tmp_path) as broker:
        asyncio.run(story(broker.mqtt))


def check_our_messages(messages: list[dict[str, Any]]) -> None:
    """Compare what the foreign host decoded with what the gateway had to say."""
    assert messages[0]["topic"] == "spBv1.0/site/NBIRTH/gw"
    numbers = [m["seq"] for m in messages if not m["topic"].endswith("NDEATH/gw")]
    assert numbers == list(range(len(numbers)))
    node_metrics = {metric["name"]: metric for metric in messages[0]["metrics"]}
    assert {name for name in node_metrics if not name.startswith("Tocsin/")} == {"bdSeq", "Node Control/Rebirth"}
    assert {"Tocsin/Batch", "Tocsin/Oldest", "Tocsin/Clock/Since", "Tocsin/Journal/Entry"} <= set(node_metrics)
    birth = next(m for m in messages if m["topic"].endswith("DBIRTH/gw/A"))
    point = next(metric for metric in birth["metrics"] if metric["name"] == "A")
    assert (point["type"], point["value"]) == ("Double", 1.5)
    assert {key: held["value"] for key, held in point["properties"].items()} == {
        "engUnit": "bar",
        "engLow": 0,
        "engHigh": 1000,
    }
    for data in (m for m in messages if m["topic"].endswith("DDATA/gw/A")):
        # Where nobody sets this machine's clock a mark follows.
        batch, reading = data["metrics"][:2]
        assert batch["name"] == "Tocsin/Batch"
        assert (reading["alias"], reading["value"]) == (point["alias"], 1.5)
    dead = next(m for m in messages if m["topic"].endswith("DDATA/gw/B"))["metrics"][1]
    assert dead.get("value") is None
    assert dead["properties"]["Quality"]["value"] == 0
    assert dead["properties"]["OpcQuality"]["value"] == BAD_COMM_FAILURE


def test_pysparkplug_reads_our_births_and_data() -> None:
    """Names by alias, types from the birth, values and null, as pysparkplug's codec decodes them."""
    device = EdgeDevice("dev", (EdgeMetric("a", "bar", 0, 10), EdgeMetric("b")))
    edge = EdgeSession("site", "gw", [device])
    last = unknown_columns(device, MS, GOOD)
    last.value[:] = 1.0
    node = pysparkplug.NBirth.decode(edge.nbirth(7, 1, MS, ClockState(synchronised=False, since_ms=MS)).payload)
    since = next(metric for metric in node.metrics if metric.name == "Tocsin/Clock/Since")
    assert since.value == MS
    birth = pysparkplug.DBirth.decode(edge.dbirth("dev", last, 7, MS).payload)
    assert [(m.name, m.value) for m in birth.metrics][1:] == [
        ("a", 1.0),
        ("b", 1.0),
        ("Tocsin/Clock/Unsynchronised", None),
    ]
    columns = Columns(last.metric, last.time_ms + 5, last.value * [2.5, float("nan")], last.quality)
    data = pysparkplug.DData.decode(edge.ddata("dev", columns, 8, MS, historical=True).payload, birth=birth)
    assert data.seq == 2
    read = [(m.name, m.timestamp, m.value, m.is_null, m.is_historical) for m in list(data.metrics)[1:]]
    assert read == [("a", MS + 5, 2.5, False, True), ("b", MS + 5, None, True, True)]
    death = pysparkplug.NDeath.decode(edge.ndeath(MS).payload)
    assert death.bd_seq_metric.value == 0


def test_pysparkplug_is_read_by_our_host() -> None:
    """Every numeric type that pysparkplug encodes comes out as its number, with the birth and by name alone."""
    values = {
        "INT8": -8,
        "INT16": -16,
        "INT32": -32,
        "INT64": -64,
        "UINT8": 8,
        "UINT16": 16,
        "UINT32": 2**32 - 1,
        "UINT64": 2**60,
        "FLOAT": 1.5,
        "DOUBLE": 0.1,
        "BOOLEAN": True,
    }
    metrics = tuple(pysparkplug.Metric(MS, name, pysparkplug.DataType[name], value) for name, value in values.items())
    bd_seq = pysparkplug.Metric(MS, "bdSeq", pysparkplug.DataType.INT64, 3)
    birth = pysparkplug.NBirth(timestamp=MS, seq=0, metrics=(*metrics, bd_seq))
    data = pysparkplug.NData(timestamp=MS, seq=1, metrics=metrics)
    names = list(values)
    host = HostSession(lambda _g, _n, _d, metric: names.index(metric))
    for kind, payload in (("NBIRTH", birth), ("NDATA", data)):
        fed = host.feed(f"spBv1.0/g/{kind}/n", payload.encode(include_dtypes=True), MS * 1_000_000)
        assert not fed.faults
        assert fed.frame.value.tolist() == [float(value) for value in values.values()]
    death = pysparkplug.NDeath(timestamp=MS, bd_seq_metric=bd_seq)
    assert len(host.feed("spBv1.0/g/NDEATH/n", death.encode(), MS * 1_000_000).frame) == len(values)


def test_the_scripts_are_locked() -> None:
    """The lock names no place to download from."""
    assert "resolved" not in (SPARKPLUG / "package-lock.json").read_text(encoding="utf-8")
