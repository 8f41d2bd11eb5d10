"""The console's page on the system's health says why nothing comes, when nothing comes."""

import asyncio
import re
import signal
from pathlib import Path

from playwright.async_api import Page, expect

from tests.cloud.rig import CloudProcess, broker, plant_folder
from tests.cloud.test_console_alarms import PATIENCE_MS, page_of
from tests.support.need import ROOT
from tests.support.wait import eventually_async

READY_S = 60.0


def test_health_is_told_while_the_connection_for_updates_is_lost(tmp_path: Path) -> None:
    """Nothing is left of the worker that judges the alarms: the page says so, also opened anew; no old one stays."""
    problems: list[str] = []

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            plant, data = plant_folder(tmp_path / "plant"), tmp_path / "data"
            alarms, rest = (
                CloudProcess(plant, data, server.url, settings.mqtt, role=role)
                for role in ("alarms", "historian,notify,api")
            )
            try:
                alarms.start()
                rest.start()
                await eventually_async(rest.ready, READY_S)
                async with page_of(rest, problems) as page:
                    await page.get_by_test_id("tab-health").click()
                    judging = page.locator(".part").filter(has_text="报警判断")
                    await expect(judging).to_contain_text("正常", timeout=PATIENCE_MS)
                    alarms.end(signal.SIGKILL)
                    await nobody_judges(page)
                    await page.reload()
                    await page.get_by_test_id("tab-health").click()
                    await nobody_judges(page)
                    rest.end(signal.SIGKILL)
                    await expect(page.get_by_test_id("health-unknown")).to_contain_text("服务器", timeout=PATIENCE_MS)
                    await expect(page.get_by_test_id("health")).to_have_count(0)
            finally:
                alarms.end(signal.SIGKILL)
                rest.end(signal.SIGKILL)

    asyncio.run(story())
    assert not problems


def test_every_browser_that_shows_the_page_knows_what_dims_old_values() -> None:
    """One that does not know a selector drops its whole rule: old values would pass for new ones on all the screen."""
    styles = (ROOT / "cloud/console/src/styles/screen.css").read_text(encoding="utf-8")
    (dimmed,) = re.findall(r"\n((?:[^{}]*,\n)*[^{},]*)\{\n  filter: grayscale", styles)
    assert {".sources", ".alarms"} <= set(dimmed.replace(",", " ").split())
    # Firefox knows it since its version 121 only.
    assert ":has(" not in dimmed


async def nobody_judges(page: Page) -> None:
    """The connection is lost, and the report says what is the matter, in full light."""
    await expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "lost", timeout=PATIENCE_MS)
    await expect(page.locator(".part.wrong").filter(has_text="报警判断")).to_be_visible(timeout=PATIENCE_MS)
    await expect(page.get_by_test_id("health")).to_have_attribute("data-watching", "false")
    assert await page.locator(".centre").evaluate("centre => getComputedStyle(centre).filter") == "none"
