"""The demo plant behind every panel: a cloud side with an ammonia leak, its readings, figures and tables."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiomqtt
import numpy as np
from sqlalchemy.engine import URL

from tests.cloud.rig import CloudProcess, broker, now_ms
from tests.contract.history_stores import FLAGS, Victoria, victoria
from tests.dashboards.alerting import vmalert
from tests.support.figures import DEMO_PLANT
from tests.support.need import ROOT
from tests.support.wait import eventually_async
from tocsin_cli.bench.lead import draw, shipped
from tocsin_cli.bench.lead_readings import read
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.settings import Address
from tocsin_core.clock import SystemClock
from tocsin_core.managed import Standing
from tocsin_core.plant import Plant, PlantPoint, load_plant
from tocsin_core.readings import BAD_SENSOR_FAILURE, F64, GOOD
from tocsin_core.rules import NS
from tocsin_core.sparkplug import ClockState, EdgeDevice, EdgeMetric, EdgeSession
from tocsin_core.sparkplug.edge import Columns

LEAKING: Final = "NH3-103"
SCRAPE: Final = ROOT / "dashboards" / "scrape.yml"
EVERY_S: Final = 0.25
SEEN: Final = (
    "SELECT 1 FROM occurrence WHERE alarm = 'NH3-103/HH'",
    "SELECT 1 FROM message WHERE state = 'delivered'",
)
# When VictoriaMetrics has all of this, the leak has been through all figures, also those that are made of two scrapes.
TOLD: Final = (
    "max(tocsin_source_worst) == 4",
    "max(tocsin_tickets_open) > 0",
    # At any moment so far, as a panel asks for one a second: the rate is 0 again before a slow machine comes to ask.
    "max_over_time(sum(rate(tocsin_alarm_latency_seconds_count[30s]))[10m:1s] offset 2s) > 0",
    'max(tocsin_messages_total{outcome="delivered"}) > 0',
    "sum(rate(tocsin_http_requests_total[8s])) > 0",
    "max(tocsin_gateway_batches_waiting) >= 0",
    # The history goes its own way, and on a loaded machine it is the last.
    f'max_over_time(tocsin_value{{point="{LEAKING}"}}[10m]) > 56',
    'ALERTS{alertname="TocsinGatewayAway",alertstate="firing"}',
)


@dataclass(frozen=True)
class DemoPlant:
    """What the panels ask: VictoriaMetrics, the tables on PostgreSQL, and the time that there is something of (s)."""

    victoria: Victoria
    tables: URL
    start_s: float
    end_s: float

    def sql(self, query: str) -> list[dict[str, Any]]:
        """The rows that the tables answer."""
        return asyncio.run(asked(self.tables, query))

    def figures(self, resource: str, **asked: str) -> list[dict[str, Any]]:
        """What VictoriaMetrics answers to `query` or `query_range`."""
        question = "&".join(f"{name}={quote(text)}" for name, text in asked.items())
        answer = json.loads(self.victoria.get(f"/api/v1/{resource}?{question}"))
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found


def readings(plant: Plant) -> F64:
    """What the simulated instruments of the demo plant show in a quarter of an hour, f64[seconds, points]."""
    _, simulation = shipped(plant.name)
    course, begun = draw(plant, simulation, 900, 0, 7)
    return read(plant, begun, course, 7).value


def _session(plant: Plant, gateway: str) -> tuple[EdgeSession, dict[str, list[PlantPoint]]]:
    devices: dict[str, list[PlantPoint]] = {}
    for point in plant.measured:
        if point.gateway.id == gateway:
            devices.setdefault(point.device.id, []).append(point)
    made = [
        EdgeDevice(device, tuple(EdgeMetric(point.metric, point.unit, point.low, point.high) for point in points))
        for device, points in devices.items()
    ]
    return EdgeSession(plant.site.id, gateway, made), devices


class Gateway:
    """A gateway of the demo plant that sends what the simulated instruments show, and the leak on top."""

    def __init__(self, plant: Plant, gateway: str, mqtt: Address, shown: F64) -> None:
        """Be `gateway`."""
        self._session, self._devices = _session(plant, gateway)
        self._group, self._gateway, self._mqtt, self._shown = plant.site.id, gateway, mqtt, shown
        self._client: aiomqtt.Client | None = None
        self.batch = 0
        self.leak_ppm = 0.0

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send a row of readings every quarter of a second; at the end it is gone without a word."""
        will = self._session.will(1, now_ms())
        told = aiomqtt.Will(will.topic, will.payload, qos=1)
        async with aiomqtt.Client(self._mqtt.host, self._mqtt.port, identifier=self._gateway, will=told) as client:
            self._client = client
            clock, standing = ClockState(synchronised=True, since_ms=now_ms()), Standing(0, "none").to_text()
            birth = self._session.nbirth(0, 1, now_ms(), clock, standing=standing)
            await client.publish(birth.topic, birth.payload)
            for device, points in self._devices.items():
                born = self._session.dbirth(device, self._row(points, 0), 0, now_ms())
                await client.publish(born.topic, born.payload)
            await client.publish(f"spBv1.0/{self._group}/DDATA/{self._gateway}/nonsense", b"\xff\xff")
            task = asyncio.create_task(self._send())
            try:
                yield
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        # An orderly end says nothing by itself: the will is sent by hand.
        async with aiomqtt.Client(self._mqtt.host, self._mqtt.port, identifier=f"{self._gateway}-will") as client:
            await client.publish(will.topic, will.payload, qos=1)

    async def _send(self) -> None:
        assert self._client is not None
        for second in range(1, len(self._shown)):
            for device, points in self._devices.items():
                self.batch += 1
                message = self._session.ddata(device, self._row(points, second), self.batch, now_ms(), historical=False)
                await self._client.publish(message.topic, message.payload)
            await asyncio.sleep(EVERY_S)

    def _row(self, points: list[PlantPoint], second: int) -> Columns:
        value = self._shown[second, [point.index for point in points]].copy()
        quality = np.where(np.isnan(value), BAD_SENSOR_FAILURE, GOOD).astype(np.uint8)
        for place, point in enumerate(points):
            if point.id == LEAKING:
                value[place] = min(self.leak_ppm, point.high)
                # Now and then the detector itself says that what it shows is wrong.
                quality[place] = BAD_SENSOR_FAILURE if second % 8 == 7 else GOOD
        n = len(points)
        return Columns(np.arange(n), np.full(n, now_ms()), value, quality)


def scraping(folder: Path, victoria: Victoria, cloud: CloudProcess, token: str) -> None:
    """Have VictoriaMetrics scrape the cloud side as dashboards/scrape.yml says, only more often."""
    (folder / "token").write_text(token, encoding="utf-8")
    text = SCRAPE.read_text(encoding="utf-8").replace("120s", "2s").replace("15s", "1s")
    places = {"TOKEN_FILE": str(folder / "token"), "GATEWAYS": str(folder / "none.yml")}
    for name, value in {"CLOUD": str(cloud.http), **places}.items():
        assert f"%{{TOCSIN_{name}}}" in text
        text = text.replace(f"%{{TOCSIN_{name}}}", value)
    (folder / "scrape.yml").write_text(text, encoding="utf-8")
    victoria.get("/-/reload")


async def asked(url: URL, query: str) -> list[dict[str, Any]]:
    """The rows that the tables at `url` answer."""
    database = Database.as_it_is(url)
    try:
        async with database.read() as session:
            rows = await (await session.connection()).exec_driver_sql(query)
            return [dict(row) for row in rows.mappings()]
    finally:
        await database.close()


async def _story(folder: Path, victoria: Victoria, url: URL) -> tuple[float, float]:
    plant = load_plant(DEMO_PLANT)
    shown = readings(plant)
    began = SystemClock().now_ns() / NS
    async with broker(folder / "nats") as (server, settings):
        sql = ("--sql", url.set(drivername="postgresql").render_as_string())
        cloud = CloudProcess(DEMO_PLANT, folder / "data", server.url, settings.mqtt, history=victoria.address, more=sql)
        cloud.start()
        try:
            await cloud.until_ready()
            made = await cloud.post("users/admin/tokens", {"label": "scrape", "role": "regulator"})
            scraping(folder, victoria, cloud, made["token"])
            tank_farm = Gateway(plant, "gw-tank-farm", settings.mqtt, shown)
            compressor = Gateway(plant, "gw-compressor", settings.mqtt, shown)
            async with tank_farm.sending():
                async with compressor.sending():
                    await eventually_async(lambda: tank_farm.batch > 30 and compressor.batch > 30, 60)
                tank_farm.leak_ppm = 80.0
                for seen in SEEN:
                    await eventually_async(partial(asked, url, seen), 60)
                for told in TOLD:
                    await eventually_async(partial(shows, victoria, told), 60)
                ended = SystemClock().now_ns() / NS
        finally:
            cloud.end()
    victoria.show()
    return began, ended


def shows(victoria: Victoria, query: str) -> list[dict[str, Any]]:
    """What VictoriaMetrics answers to an instant query now."""
    found: list[dict[str, Any]] = json.loads(victoria.get(f"/api/v1/query?query={quote(query)}"))["data"]["result"]
    return found


@contextmanager
def demo_plant(folder: Path, url: URL) -> Iterator[DemoPlant]:
    """Run the demo plant through an ammonia leak, with its tables at `url`; what is left of it is there to be asked."""
    config = folder / "scrape.yml"
    config.write_text("{}", encoding="utf-8")
    # Else what is younger than half a minute is not shown yet.
    flags = (*FLAGS, f"-promscrape.config={config}", "-search.latencyOffset=0s")
    with victoria(folder / "vm", *flags) as store:
        with vmalert(folder, store):
            began, ended = asyncio.run(_story(folder, store, url))
        yield DemoPlant(store, url, began, ended)
