"""The console page over the real cloud side: a flood, its figures, answers taken back, a shelf, a clock in doubt."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from playwright.async_api import Page, async_playwright, expect

from tests.cloud.rig import CloudProcess, SpoolingGateway, broker, now_ms, plant_folder
from tests.support.need import need_library, need_program
from tests.support.wait import eventually_async
from tocsin_core.sparkplug import ClockState

FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
PATIENCE_MS: Final = 30_000
# Two tones a round for a high alarm.
COUNT_TONES: Final = """
window.tones = 0;
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (...when) { window.tones += 1; return start.apply(this, when); };
"""


@asynccontextmanager
async def page_of(cloud: CloudProcess, problems: list[str]) -> AsyncIterator[Page]:
    """The page in Chinese, signed in; what the browser complains of is added to `problems`."""
    program = need_program("chromium", "chromium-browser")
    need_library("libatomic.so.1")  # of the node that playwright brings
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        page = await browser.new_page(locale="zh-CN", viewport={"width": 1920, "height": 1080})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        await page.add_init_script(COUNT_TONES)
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(f"http://{cloud.http}/")
        await page.get_by_test_id("login-user").fill("admin")
        await page.get_by_test_id("login-password").fill("a long test password")
        await page.get_by_test_id("login-submit").click()
        yield page
        await browser.close()


def test_an_operator_sees_the_flood_and_takes_an_answer_back(tmp_path: Path) -> None:
    """Twelve alarms in a moment: banner, figures, bars, and a sound until it is answered; then the buttons."""
    problems: list[str] = []

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            cloud = CloudProcess(plant_folder(tmp_path / "plant"), tmp_path / "data", server.url, settings.mqtt)
            cloud.start()
            try:
                await cloud.until_ready()
                async with SpoolingGateway(settings.mqtt).connected() as gateway, page_of(cloud, problems) as page:
                    await expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")
                    await expect(page.get_by_test_id("flood-banner")).to_have_count(0)
                    await flood(gateway)
                    await the_flood_is_shown(page)
                    await eventually_async(lambda: sounded(page))
                    await an_answer_is_taken_back(page)
                    await a_shelf_ends_with_the_return(page, gateway)
                    await a_clock_that_nobody_sets_is_shown(page, gateway)
            finally:
                cloud.end(signal.SIGTERM)

    asyncio.run(story())
    assert not problems


async def a_clock_that_nobody_sets_is_shown(page: Page, gateway: SpoolingGateway) -> None:
    """With the gateway, and with the trend of what was read meanwhile."""
    await page.get_by_test_id("tab-gateways").click()
    clock = page.get_by_test_id("clock-gw")
    await expect(clock).to_contain_text("—")
    await gateway.tell_clock(ClockState(synchronised=False, since_ms=now_ms()))
    await gateway.send({1: 3.0})
    await expect(clock).to_contain_text("未同步", timeout=PATIENCE_MS)
    # The clock is told before the reading, and may be stored before it.
    await eventually_async(lambda: gateway.committed == gateway.newest)
    await page.get_by_test_id("tab-points").click()
    await page.get_by_test_id("point-P2").click()
    await expect(page.get_by_test_id("times-in-doubt")).to_contain_text("读数时间可能不准")


async def sounded(page: Page) -> bool:
    """Whether the sound came three times."""
    return int(await page.evaluate("window.tones")) >= 6


async def flood(gateway: SpoolingGateway) -> None:
    """Raise P1/H twelve times; it stays raised."""
    begin = now_ms()
    for step in range(23):
        await gateway.send({0: 1.0 if step % 2 else 60.0}, time_ms=begin + step)


async def the_flood_is_shown(page: Page) -> None:
    """In both languages at once above everything; among the figures with its alarm, and as a bar of this hour."""
    banner = page.get_by_test_id("flood-banner")
    await expect(banner).to_have_attribute("data-count", "12", timeout=PATIENCE_MS)
    await expect(banner).to_contain_text("报警泛滥：12 条报警")
    await expect(banner).to_contain_text(re.compile(r"Alarm flood: 12 alarms since \d\d:\d\d:\d\d, first P1/H"))
    await page.get_by_test_id("tab-kpi").click()
    await expect(page.get_by_test_id("kpi-top").locator("li")).to_have_count(1)
    await expect(page.get_by_test_id("kpi-top")).to_contain_text("P1")
    await expect(page.get_by_test_id("kpi-chattering")).to_contain_text("12")
    await expect(page.get_by_test_id("kpi-floods")).to_contain_text("仍在持续")
    bars = page.get_by_test_id("kpi-hours").locator(".bar")
    counts = [int(await bar.get_attribute("data-count") or 0) for bar in await bars.all()]
    assert (len(counts), sum(counts)) == (24, 12)
    await page.get_by_test_id("lang-switch").click()
    await expect(page.get_by_test_id("kpi-floods")).to_contain_text("still on")
    await page.get_by_test_id("lang-switch").click()


async def an_answer_is_taken_back(page: Page) -> None:
    """Acknowledged, the alarm can be unacknowledged; it asks again and tells who did what."""
    row = page.get_by_test_id("alarm-list").locator('[data-alarm="P1/H"]').first
    await row.locator(".alarm-main").click()
    await row.get_by_role("button", name="确认报警 P1/H").click()
    await expect(row).to_have_attribute("data-phase", "acknowledged")
    await row.get_by_role("button", name="撤销报警 P1/H 的确认").click()
    await expect(row).to_have_attribute("data-phase", "unacknowledged")
    steps = row.locator("[data-event]")
    await expect(steps).to_have_count(3)
    assert [await step.get_attribute("data-event") for step in await steps.all()] == [
        "raise",
        "acknowledge",
        "unacknowledge",
    ]
    await expect(steps.nth(2)).to_contain_text("撤销确认")
    await expect(steps.nth(2)).to_contain_text("admin")


async def a_shelf_ends_with_the_return(page: Page, gateway: SpoolingGateway) -> None:
    """Shelved until it returns, it is listed as such, blinks nowhere, and is back among the others with the return."""
    blinking = page.get_by_test_id("point-state-P1").locator(".blink")
    await expect(blinking).to_have_count(1)
    row = page.get_by_test_id("alarm-list").locator('[data-alarm="P1/H"]').first
    await row.get_by_role("button", name="搁置…").click()
    await page.get_by_test_id("shelve-once").check()
    await page.get_by_test_id("suppress-reason").fill("检修")
    await page.get_by_test_id("suppress-submit").click()
    await expect(page.get_by_test_id("suppress-dialog")).to_have_count(0)
    await page.get_by_test_id("alarms-shelved").click()
    await expect(row).to_contain_text("搁置至恢复")
    await expect(page.get_by_test_id("point-state-P1")).to_contain_text("高报")
    await expect(blinking).to_have_count(0)
    await gateway.send({0: 1.0})
    await page.get_by_test_id("alarms-active").click()
    await expect(row).to_have_attribute("data-phase", "returned-unacknowledged")
