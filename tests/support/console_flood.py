"""The console page in a real browser through a plant trip, timed: 10,000 alarms in one second, the real cloud side."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playwright.async_api import Page, Request, expect

from tests.cloud.rig import CloudProcess, SpoolingGateway, broker
from tests.cloud.test_console_alarms import page_of
from tests.support.wait import eventually_async
from tocsin_core.clock import Clock, SystemClock
from tocsin_core.sparkplug import EdgeMetric

POINTS: Final = 5000
ALARMS: Final = 2 * POINTS
CALM, TRIPPED = 10.0, 95.0
PATIENCE_MS: Final = 60_000
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
WATCH_STANDSTILL: Final = """
window.longest = 0;
let before = performance.now();
(function look(now) {
  window.longest = Math.max(window.longest, now - before);
  before = now;
  requestAnimationFrame(look);
})(before);
"""
LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Figures:
    """How the page came through; times in s.

    From the reading that trips the plant on: `committed_s` until the last alarm was in the database, `counted_s` until
    the page counted all. `longest_standstill_s` lies between two of its pictures, `slowest_tab_s` between the press of
    a tab and its opening; `acknowledged_s` between the press and the page's showing it. `opened_anew_s`: until a page
    that is loaded then counts all. `streams_ended`: streams of events that were begun again, and states of the
    connection other than connected. `elements` of the document there were in the end.
    """

    committed_s: float
    counted_s: float
    longest_standstill_s: float
    slowest_tab_s: float
    acknowledged_s: float
    opened_anew_s: float
    streams_ended: int
    elements: int
    problems: tuple[str, ...]


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


async def flood(folder: Path) -> Figures:
    """Let the plant trip before an open page; its files go into `folder`.

    Raises:
        AssertionError: the page counted other alarms than those of the trip, or did not within a minute.
    """
    problems: list[str] = []
    async with broker(folder / "nats") as (server, settings):
        cloud = CloudProcess(a_large_plant(folder / "plant"), folder / "data", server.url, settings.mqtt)
        cloud.start()
        metrics = tuple(EdgeMetric(f"P{n:04}", "kPa", 0.0, 100.0) for n in range(POINTS))
        trip, clock = Trip(), SystemClock()
        try:
            await cloud.until_ready()
            gateway = SpoolingGateway(settings.mqtt, metrics=metrics)
            async with gateway.connected(), trip.read(gateway), page_of(cloud, problems) as page:
                value = page.get_by_test_id("point-value-P0000")
                await expect(value).to_have_attribute("data-quality", "good", timeout=PATIENCE_MS)
                streams = await watched(page)
                times = await the_flood_comes(page, trip, folder / "data" / "tocsin.sqlite", clock)
                ended = len(streams) + len(await page.evaluate("window.states"))
                standstill_ms = await page.evaluate("window.longest")
                elements = await page.evaluate("document.querySelectorAll('*').length")
                acknowledged_s = await the_first_is_acknowledged(page, clock)
                begun = clock.monotonic()
                await page.reload()
                opened_s = await counted(page, ALARMS - 1, clock) - begun
        finally:
            cloud.end(signal.SIGTERM)
    committed_s, counted_s, slowest_tab_s = times
    return Figures(
        committed_s, counted_s, standstill_ms / 1000, slowest_tab_s, acknowledged_s, opened_s, ended, elements,
        tuple(problems),
    )  # fmt: skip


async def watched(page: Page) -> list[str]:
    """Watch the page's connection and how long it stands still; streams of events that it begins come into the list."""
    streams: list[str] = []

    def note(request: Request) -> None:
        if request.url.endswith("/events"):
            streams.append(request.url)

    page.on("request", note)
    await page.evaluate(WATCH_CONNECTION)
    await page.evaluate(WATCH_STANDSTILL)
    return streams


async def the_flood_comes(page: Page, trip: Trip, database: Path, clock: Clock) -> tuple[float, float, float]:
    """While every alarm is raised the tabs are pressed one after the other.

    Seconds until all are committed, until the page has counted them, and of the tab that was slowest to open.
    """
    tripped = clock.monotonic()
    trip.level = TRIPPED
    committing = asyncio.create_task(committed(database, clock))
    counting = asyncio.create_task(counted(page, ALARMS, clock))
    slowest, pressed = 0.0, 0
    while not counting.done() or pressed < len(TABS):
        tab = page.get_by_test_id(f"tab-{TABS[pressed % len(TABS)]}")
        begun = clock.monotonic()
        await tab.click(timeout=PATIENCE_MS)
        await expect(tab).to_have_attribute("aria-selected", "true", timeout=PATIENCE_MS)
        slowest = max(slowest, clock.monotonic() - begun)
        pressed += 1
    return await committing - tripped, await counting - tripped, slowest


async def committed(database: Path, clock: Clock) -> float:
    """When (monotonic s) all alarms were in the database."""

    def rows() -> int:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as looked:
            (number,) = looked.execute("SELECT count(*) FROM occurrence").fetchone()
        return int(number)

    await eventually_async(lambda: rows() >= ALARMS, PATIENCE_MS / 1000, LOOK_S)
    return clock.monotonic()


async def counted(page: Page, alarms: int, clock: Clock) -> float:
    """When (monotonic s) the page counted `alarms`, all of them unanswered but for those that were acknowledged."""
    total = page.get_by_test_id("unacknowledged-total")
    await expect(total).to_have_attribute("data-count", str(alarms), timeout=PATIENCE_MS)
    await expect(page.get_by_test_id("alarms-active")).to_contain_text(str(ALARMS))
    await expect(page.get_by_test_id("source-all")).to_contain_text(str(alarms))
    return clock.monotonic()


async def the_first_is_acknowledged(page: Page, clock: Clock) -> float:
    """By the button of the row on top; the seconds until the page shows it."""
    row = page.get_by_test_id("alarm-list").locator("[data-alarm]").first
    name = str(await row.get_attribute("data-testid"))
    alarm = page.get_by_test_id(name)
    begun = clock.monotonic()
    await alarm.locator(".ack").click()
    shown = await counted(page, ALARMS - 1, clock)
    # It goes behind those that nobody has answered, and so from the rows that are shown: at once, or a little later.
    await expect(page.locator(f"[data-testid={name}][data-phase=unacknowledged]")).to_have_count(0)
    return shown - begun
