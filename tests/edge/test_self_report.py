"""A running gateway's figures and status, as Prometheus and `tocsin status` get them."""

import asyncio
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import aiomqtt
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.command import started
from tests.edge.rig import Gateway, Host, Link, Slave, modbus_device, plant
from tests.support.nats import nats_broker
from tests.support.need import ROOT, need_program
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_edge.loops.self_report import nearly_full

Figures = dict[tuple[str, ...], float]


class OpenGateway(Gateway):
    """A real gateway process with its figures on a port."""

    def __init__(self, folder: Path, data: Path) -> None:
        """Start nothing yet."""
        super().__init__(folder, data)
        self.port = free_port()
        self.data = data
        self._command += ["--metrics", str(self.port)]

    def get(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        """Ask for a page: its code, content type and text."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
        finally:
            connection.close()

    def figures(self) -> Figures:
        """Read `/metrics` with Prometheus's own parser: value by name and the values of labels."""
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[2])
            for sample in family.samples
        }

    async def seen(self, *key: str) -> float:
        """Read one figure, 0 while there is none or nobody answers."""
        try:
            return (await asyncio.to_thread(self.figures)).get(key, 0.0)
        except OSError:
            return 0.0


@dataclass
class Told:
    """What `tocsin status` came to."""

    code: int
    text: str

    @property
    def data(self) -> dict[str, Any]:
        """The JSON object."""
        found: dict[str, Any] = json.loads(self.text)
        return found


async def status(*arguments: str) -> Told:
    """Run the real command."""
    done = await asyncio.to_thread(started, "status", *arguments)
    return Told(done.returncode, done.stdout + done.stderr)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[OpenGateway]:
    """Give a gateway that is not started, and end it."""
    process = OpenGateway(tmp_path / "plant", tmp_path / "data")
    yield process
    process.stop()


def test_what_is_watched_and_what_is_not_is_told(gateway: OpenGateway, tmp_path: Path) -> None:
    """A good device, a dead one, a cut link and a gateway that has ended: each in the figures and on the screen."""

    async def story() -> None:
        with nats_broker(tmp_path) as broker:
            async with (
                Slave({1: 1.5, 2: 2.5}).serve() as slave,
                Link(broker.mqtt).open() as link,
                Host(broker.mqtt).listen(),
            ):
                devices = {name: modbus_device(name, slave.port, unit) for unit, name in ((1, "A"), (2, "B"))}
                plant(tmp_path / "plant", link.port, devices)
                gateway.start()
                folder = ("--data", str(gateway.data))
                await eventually_async(lambda: gateway.seen("tocsin_edge_device_watched", "A"))
                await eventually_async(lambda: gateway.seen("tocsin_edge_device_watched", "B"))
                await eventually_async(lambda: gateway.seen("tocsin_edge_uplink_connected"))
                told = await status(*folder)
                assert told.code == 0, told.text
                assert "gateway gw: watches its plant" in told.text
                assert "devices: 2 of 2 watched" in told.text
                assert re.search(r"^clock: .+, since \d+ s ago$", told.text, re.MULTILINE)

                slave.silent.add(2)
                await eventually_async(lambda: gateway.seen("tocsin_edge_device_dead", line(slave), "B", "false"))
                figures = await asyncio.to_thread(gateway.figures)
                assert figures["tocsin_edge_device_watched", "A"] == 1
                assert figures["tocsin_edge_device_watched", "B"] == 0
                assert figures["tocsin_edge_readings_total", "A", "good"] > 0
                assert figures["tocsin_edge_readings_total", "B", "bad: comm failure"] >= 3
                assert figures["tocsin_edge_device_points", "B", "bad"] == 1
                told = await status(*folder)
                assert told.code == 1
                assert "gateway gw: DOES NOT WATCH ALL OF ITS PLANT" in told.text
                assert "! B  0/1 points good" in told.text
                assert "DEAD, bad: comm failure: no answer" in told.text

                slave.silent.clear()
                await eventually_async(lambda: gateway.seen("tocsin_edge_device_watched", "B"))
                await link.cut()
                await eventually_async(lambda: not_connected(gateway))
                asked = await status("--at", f"127.0.0.1:{gateway.port}", "--json")
                assert asked.code == 1
                assert asked.data["link"]["connected"] is False
                assert [device["watched"] for device in asked.data["devices"]] == [True, True]
                assert f"no connection to 127.0.0.1:{link.port}" in asked.data["faults"][0]

                assert await asyncio.to_thread(gateway.end, signal.SIGTERM) == 0
                told = await status(*folder)
                assert told.code == 2
                assert "gateway gw: DOES NOT RUN" in told.text
                left = await status(*folder, "--json")
                assert left.code == 2
                assert {device["id"] for device in left.data["devices"]} == {"A", "B"}
                assert sum(left.data["spool"]["lanes"][lane]["rows"] for lane in ("live", "history")) > 0
                nobody = await status("--at", str(gateway.port))
                assert nobody.code == 2

    asyncio.run(story())


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"status": "ok"}', b"\xff"])
def test_what_answers_and_is_no_gateway_is_told_so(body: bytes) -> None:
    """The port of another program's page, say: no gateway runs there, in words."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_parts: object) -> None:
            """Stay silent."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        answering = Thread(target=server.serve_forever, daemon=True)
        answering.start()
        told = asyncio.run(status("--at", f"127.0.0.1:{server.server_port}"))
        server.shutdown()
        answering.join()
    assert (told.code, "no gateway answers at" in told.text) == (2, True), told.text


def line(slave: Slave) -> str:
    """Name the slave's line."""
    return f"127.0.0.1:{slave.port}"


async def not_connected(gateway: OpenGateway) -> bool:
    """Whether the figures say that the uplink is down."""
    figures = await asyncio.to_thread(gateway.figures)
    return figures["tocsin_edge_uplink_connected",] == 0


SENSOR = """period_ms: 300
mqtt: {topic: plant/s}
points:
  - {id: S, name: S, kind: generic, field: v, unit: bar, range: [0, 1000]}"""


def test_a_sensor_that_publishes_by_itself_is_told_too(gateway: OpenGateway, tmp_path: Path) -> None:
    """While it speaks it is watched; what it says wrong is counted; its silence is told with the reason."""

    async def story() -> None:
        with nats_broker(tmp_path) as broker:
            plant(tmp_path / "plant", broker.mqtt, {"S": SENSOR})
            gateway.start()
            async with aiomqtt.Client("127.0.0.1", broker.mqtt) as client:

                async def watched() -> bool:
                    await client.publish("plant/s", '{"v": 1.5}')
                    return await gateway.seen("tocsin_edge_device_watched", "S") == 1

                await eventually_async(watched)
                await client.publish("plant/s", "nonsense")
                await eventually_async(lambda: gateway.seen("tocsin_edge_sensor_events_total", "S", "not-json"))
                await eventually_async(lambda: gateway.seen("tocsin_edge_sensors_events_total", "connects"))
                await eventually_async(lambda: gateway.seen("tocsin_edge_readings_total", "S", "bad: not connected"))
            told = await status("--data", str(gateway.data))
            assert told.code == 1
            assert re.search(r"! S  0/1 points good, good \d+ s ago  \(plant/s\).*no message for 2 periods", told.text)
            broker.stop()
            await eventually_async(lambda: warned(gateway, "no connection to the sensors' broker"))

    asyncio.run(story())


async def warned(gateway: OpenGateway, text: str) -> bool:
    """Whether the status has this warning."""
    found = json.loads((await asyncio.to_thread(gateway.get, "/status"))[2])
    return any(text in warning for warning in found["warnings"])


def test_a_line_that_cannot_keep_its_periods_is_shown(gateway: OpenGateway, tmp_path: Path) -> None:
    """Two units that take longer than a period together: the status says which are late until none is."""

    async def story() -> None:
        slave = Slave({1: 1.5, 2: 2.5}, late_s={1: 0.15, 2: 0.15})
        async with slave.serve():
            devices = {name: modbus_device(name, slave.port, unit, 200, 500) for unit, name in ((1, "A"), (2, "B"))}
            plant(tmp_path / "plant", 1, devices)
            gateway.start()
            await eventually_async(lambda: gateway.seen("tocsin_edge_device_watched", "A"))
            late = f"line {line(slave)} cannot keep the periods of A, B"
            await eventually_async(lambda: warned(gateway, late))
            assert await gateway.seen("tocsin_edge_poll_stretch", line(slave), "A", "false") > 1.2
            assert late in (await status("--data", str(gateway.data))).text
            slave.late_s.clear()
            await eventually_async(lambda: not_warned(gateway, late))

    asyncio.run(story())


async def not_warned(gateway: OpenGateway, text: str) -> bool:
    """Whether the status has this warning no more."""
    return not await warned(gateway, text)


def test_every_promised_figure_is_there_and_promtool_accepts_them(gateway: OpenGateway, tmp_path: Path) -> None:
    """Spool by lane and class, clock, lines, processor and memory; only GET is answered; the port is this machine's."""

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave:
            plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port)})
            gateway.start()
            await eventually_async(lambda: gateway.seen("tocsin_edge_spool_lane_rows", "live"), timeout_s=60)
            figures = await asyncio.to_thread(gateway.figures)
            names = {key[0] for key in figures}
            assert names >= {
                "tocsin_edge_line_utilisation",
                "tocsin_edge_clock_synchronised",
                "tocsin_edge_spool_bytes",
                "tocsin_edge_spool_oldest_unsent_seconds",
                "process_cpu_seconds_total",
                "process_start_time_seconds",
            }
            assert {key[1] for key in figures if key[0] == "tocsin_edge_spool_lane_bytes"} == {
                "journal",
                "live",
                "history",
                "committed",
            }
            dropped = {key[1] for key in figures if key[0] == "tocsin_edge_spool_dropped_total"}
            assert dropped == {"history", "live", "damaged"}
            assert figures["process_resident_memory_bytes",] > 1e7
            page = (ROOT / "docs" / "gateway.md").read_text("utf-8")
            assert {name for name in names if f"`{name}`" not in page} == set()
            assert figures["tocsin_edge_idle_seconds", f"line {line(slave)}"] < 5
            code, kind, text = await asyncio.to_thread(gateway.get, "/metrics")
            assert (code, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
            promtool = [need_program("promtool"), "check", "metrics"]
            run = await asyncio.to_thread(
                subprocess.run, promtool, input=text, capture_output=True, text=True, check=False
            )
            assert run.returncode == 0, run.stdout + run.stderr
            assert (await asyncio.to_thread(gateway.get, "/metrics", "POST"))[0] == 405
            assert (await asyncio.to_thread(gateway.get, "/elsewhere"))[0] == 404
            assert (await asyncio.to_thread(gateway.get, "/healthz"))[2].startswith("1 of 1 devices watched; link down")

    asyncio.run(story())


def test_a_client_that_says_nothing_or_too_much_does_no_harm(gateway: OpenGateway, tmp_path: Path) -> None:
    """Many that wait for ever, and one that never stops talking, are let go; others are answered meanwhile."""

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave:
            plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port)})
            gateway.start()
            await eventually_async(lambda: gateway.seen("tocsin_edge_device_watched", "A"))
            silent = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(50)]
            talker = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
            try:
                talker.sendall(b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 1400)
                assert b"431" in await asyncio.to_thread(talker.recv, 100)
                assert await gateway.seen("tocsin_edge_device_watched", "A") == 1
                silent[0].settimeout(20)
                assert await asyncio.to_thread(silent[0].recv, 1) == b""
            finally:
                for each in (*silent, talker):
                    each.close()

    asyncio.run(story())


def test_a_status_of_nothing_is_one_line(tmp_path: Path) -> None:
    """A folder that is none, and several gateways of which none is named, are told in one line."""

    async def story() -> None:
        told = await status("--data", str(tmp_path))
        assert told.code == 2
        assert len(told.text.strip().splitlines()) == 1
        for name in ("gw1", "gw2"):
            (tmp_path / "gateways" / name).mkdir(parents=True)
        told = await status("--data", str(tmp_path))
        assert "gw1, gw2" in told.text
        told = await status("--data", str(tmp_path), "--gateway", "gw1")
        assert told.code == 2
        assert "its spool cannot be read" in told.text

    asyncio.run(story())


def test_a_spool_that_is_nearly_full_is_a_warning_from_where_the_alert_rule_says_so() -> None:
    """Beyond 80 % of what the file may use; not at it."""
    assert nearly_full(800, 1000) == []
    assert nearly_full(801, 1000) == ["the spool is 80% full: beyond its bound the oldest readings go"]
    rules = (ROOT / "dashboards" / "alerts" / "tocsin.yaml").read_text(encoding="utf-8")
    assert "tocsin_edge_spool_bytes / tocsin_edge_spool_bound_bytes > 0.8" in rules
