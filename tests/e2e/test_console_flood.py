"""The console page in a real browser through a plant trip: 10,000 alarms in one second, over the real cloud side."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from playwright.async_api import Page, Request, expect

from tests.cloud.rig import CloudProcess, SpoolingGateway, broker
from tests.cloud.test_console_alarms import page_of
from tests.support.wait import eventually_async
from tocsin_core.clock import SystemClock
from tocsin_core.sparkplug import EdgeMetric

POINTS: Final = 5000
ALARMS: Final = 2 * POINTS
CALM, TRIPPED = 10.0, 95.0
PATIENCE_MS: Final = 60_000
# A person at a page that has not answered for so long presses again. Alone it takes 0.2 s.
CLICK_MOST_S: Final = 8.0
# Far fewer than two rows for every alarm.
MOST_ELEMENTS: Final = ALARMS
TABS: Final = ("gateways", "tickets", "points", "health", "notifications", "kpi")
PLANT: Final = """
tocsin: 1
site: {id: site, name: Site}
hazard_sources: [{id: tank, name: Tank}, {id: hall, name: Hall}]
people: [{id: anna, name: Anna, channels: ["outbox://anna"]}]
rosters: [{id: duty, name: Duty, shifts: [{from: "00:00", to: "00:00", people: [anna]}]}]
notify: {min_priority: high, steps: [{after_s: 0, to: [duty]}]}
gateways: [{id: gw, devices: [{id: D1, mqtt: {topic: d1}}]}]
"""
HEAD: Final = "gateway,device,id,kind,name_zh,name_en,unit,low,high,field,source,H,HH\n"
WATCH_CONNECTION: Final = """
window.states = [];
new MutationObserver((seen) => seen.forEach(({ target }) => window.states.push(target.dataset.state)))
  .observe(document.querySelector('[data-testid="connection"]'), { attributeFilter: ["data-state"] });
"""


def a_large_plant(folder: Path) -> Path:
    """Points that each have a high and a highest limit, of two sources."""
    folder.mkdir()
    (folder / "plant.yaml").write_text(PLANT, encoding="utf-8")
    rows = (
        f"gw,D1,P{n:04},generic,压力{n},Pressure {n},kPa,0,100,v{n},{('tank', 'hall')[n % 2]},50,90\n"
        for n in range(POINTS)
    )
    (folder / "points.csv").write_text(HEAD + "".join(rows), encoding="utf-8")
    return folder


class Trip:
    """A plant whose points all read one level, each second anew."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.level = CALM

    @asynccontextmanager
    async def read(self, gateway: SpoolingGateway) -> AsyncIterator[None]:
        """Have `gateway` send what is read while the context lasts."""
        sending = asyncio.create_task(self._send(gateway))
        yield
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending

    async def _send(self, gateway: SpoolingGateway) -> None:
        while True:
            await gateway.send(dict.fromkeys(range(POINTS), self.level))
            await asyncio.sleep(1)


def test_the_page_stays_live_in_a_flood_and_counts_every_alarm(tmp_path: Path) -> None:
    """Its stream does not end, its tabs answer, it counts 10,000, one is acknowledged; so does a page opened then."""
    problems: list[str] = []

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            cloud = CloudProcess(a_large_plant(tmp_path / "plant"), tmp_path / "data", server.url, settings.mqtt)
            cloud.start()
            metrics = tuple(EdgeMetric(f"P{n:04}", "kPa", 0.0, 100.0) for n in range(POINTS))
            trip = Trip()
            try:
                await eventually_async(cloud.ready, 120)
                gateway = SpoolingGateway(settings.mqtt, metrics=metrics)
                async with gateway.connected(), trip.read(gateway), page_of(cloud, problems) as page:
                    value = page.get_by_test_id("point-value-P0000")
                    await expect(value).to_have_attribute("data-quality", "good", timeout=PATIENCE_MS)
                    await the_flood_comes(page, trip)
                    await the_first_is_acknowledged(page)
                    await page.reload()
                    await counted(page, ALARMS - 1)
            finally:
                cloud.end(signal.SIGTERM)

    asyncio.run(story())
    assert not problems


async def the_flood_comes(page: Page, trip: Trip) -> None:
    """While every alarm is raised the tabs are pressed one after the other."""
    streams: list[str] = []

    def note(request: Request) -> None:
        if request.url.endswith("/events"):
            streams.append(request.url)

    page.on("request", note)
    await page.evaluate(WATCH_CONNECTION)
    trip.level = TRIPPED
    counting = asyncio.create_task(counted(page, ALARMS))
    clock, slowest, pressed = SystemClock(), 0.0, 0
    while not counting.done() or pressed < len(TABS):
        tab = page.get_by_test_id(f"tab-{TABS[pressed % len(TABS)]}")
        begun = clock.monotonic()
        await tab.click(timeout=PATIENCE_MS)
        await expect(tab).to_have_attribute("aria-selected", "true", timeout=PATIENCE_MS)
        slowest = max(slowest, clock.monotonic() - begun)
        pressed += 1
    await counting
    assert (await page.evaluate("window.states"), streams) == ([], [])
    assert await page.evaluate("document.querySelectorAll('*').length") < MOST_ELEMENTS
    assert slowest < CLICK_MOST_S


async def counted(page: Page, alarms: int) -> None:
    """The number of alarms, all of them unanswered but for those that were acknowledged."""
    total = page.get_by_test_id("unacknowledged-total")
    await expect(total).to_have_attribute("data-count", str(alarms), timeout=PATIENCE_MS)
    await expect(page.get_by_test_id("alarms-active")).to_contain_text(str(ALARMS))
    await expect(page.get_by_test_id("source-all")).to_contain_text(str(alarms))


async def the_first_is_acknowledged(page: Page) -> None:
    """By the button of the row on top."""
    row = page.get_by_test_id("alarm-list").locator("[data-alarm]").first
    alarm = page.get_by_test_id(str(await row.get_attribute("data-testid")))
    await alarm.locator(".ack").click()
    await counted(page, ALARMS - 1)
    await expect(alarm).to_have_attribute("data-phase", "acknowledged")
