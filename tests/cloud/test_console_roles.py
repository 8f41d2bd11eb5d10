"""The console page offers each role what it may do and nothing else, the audit log to those who may read it."""

import asyncio
import signal
from pathlib import Path

import httpx
from playwright.async_api import Page, expect

from tests.cloud.rig import CloudProcess, SpoolingGateway, broker, plant_folder
from tests.cloud.test_console_alarms import PATIENCE_MS, page_of
from tests.cloud.test_roles import signed_in
from tests.support.http import plain_client

PASSWORD = "a password for tests"


def test_the_page_offers_what_the_role_may_do(tmp_path: Path) -> None:
    """A regulator sees the alarm and the log and can answer nothing; an operator answers and sees no log."""
    problems: list[str] = []

    async def story() -> None:
        async with broker(tmp_path / "nats") as (server, settings):
            cloud = CloudProcess(plant_folder(tmp_path / "plant"), tmp_path / "data", server.url, settings.mqtt)
            cloud.start()
            try:
                await cloud.until_ready()
                async with httpx.AsyncClient(base_url=f"http://{cloud.http}", trust_env=False, timeout=20) as client:
                    await signed_in(client)
                    for role in ("regulator", "operator"):
                        user = {"user": role, "name": role, "role": role, "password": PASSWORD}
                        (await client.post("/api/v1/users", json=user)).raise_for_status()
                async with SpoolingGateway(settings.mqtt).connected() as gateway, page_of(cloud, problems) as page:
                    await gateway.send({0: 90.0})
                    await an_administrator_manages(page, cloud)
                    await a_phone_shows_every_part(page)
                    await somebody_else(page, "regulator", "监管人员（只读）")
                    await a_regulator_reads(page)
                    await what_is_not_watched_is_on_one_screen(page)
                    await somebody_else(page, "operator", "值班员")
                    await an_operator_answers(page)
                    await one_s_own_password_is_changed(page)
            finally:
                cloud.end(signal.SIGTERM)

    asyncio.run(story())
    assert not problems


async def somebody_else(page: Page, user: str, role: str) -> None:
    """Sign out whoever is there, and `user` in; the page says who that is."""
    await page.get_by_test_id("sign-out").click()
    await sign_in(page, user, PASSWORD)
    await expect(page.get_by_test_id("user-name")).to_have_text(user, timeout=PATIENCE_MS)
    await expect(page.locator(".user")).to_contain_text(role)


async def sign_in(page: Page, user: str, password: str) -> None:
    """Fill the form and press its button."""
    await page.get_by_test_id("login-user").fill(user)
    await page.get_by_test_id("login-password").fill(password)
    await page.get_by_test_id("login-submit").click()


async def a_regulator_reads(page: Page) -> None:
    """The alarm with its steps but without buttons, the ticket without its next step, and the log in both languages."""
    row = page.get_by_test_id("alarm-list").locator('[data-alarm="P1/H"]').first
    await row.locator(".alarm-main").click()
    await expect(row.locator("[data-event]")).to_have_count(1)
    await expect(row.get_by_role("button")).to_have_count(1)
    await page.get_by_test_id("tab-audit").click()
    opened = page.get_by_test_id("audit").locator('[data-action="session.open"]').first
    await expect(opened).to_contain_text("登录 regulator")
    await expect(opened).to_contain_text("监管人员（只读） · 127.0.0.1")
    await expect(page.get_by_test_id("audit").locator('[data-action="user.add"]').first).to_contain_text("新增用户")
    loaded = page.get_by_test_id("audit").locator('[data-action="plant.load"]')
    await expect(loaded).to_contain_text("启用工厂文件")
    await page.get_by_test_id("lang-switch").click()
    await expect(opened).to_contain_text("Sign in regulator")
    await page.get_by_test_id("lang-switch").click()


async def an_administrator_manages(page: Page, cloud: CloudProcess) -> None:
    """A user is added, given another role and disabled; a token is shown once, works, and is worthless once revoked."""
    await page.get_by_test_id("tab-users").click()
    form = page.get_by_test_id("new-user")
    await form.locator('[name="user"]').fill("wang")
    await form.locator('[name="password"]').fill(PASSWORD)
    await form.locator('[name="role"]').select_option("shift-leader")
    await form.get_by_role("button").click()
    wang = page.get_by_test_id("user-wang")
    await expect(wang.locator("select")).to_have_value("shift-leader", timeout=PATIENCE_MS)
    await expect(form.locator('[name="password"]')).to_have_value("")
    await expect(page.get_by_test_id("user-admin").locator("select")).to_be_disabled()
    await wang.locator("select").select_option("operator")
    await page.get_by_test_id("switch-wang").click()
    await expect(wang).to_have_attribute("data-disabled", "true", timeout=PATIENCE_MS)
    form = page.get_by_test_id("new-token")
    await form.locator('[name="label"]').fill("scrape")
    await form.locator('[name="role"]').select_option("regulator")
    await form.get_by_role("button").click()
    token = await page.get_by_test_id("made-token").text_content(timeout=PATIENCE_MS)
    assert await answer_to(cloud, token) == httpx.codes.OK
    await page.get_by_test_id("revoke-scrape").click()
    await expect(page.get_by_test_id("token-scrape")).to_have_attribute("data-over", "true", timeout=PATIENCE_MS)
    assert await answer_to(cloud, token) == httpx.codes.UNAUTHORIZED
    await page.get_by_test_id("tab-points").click()
    await expect(page.get_by_test_id("made-token")).to_have_count(0)


async def a_phone_shows_every_part(page: Page) -> None:
    """On a narrow screen each tab can be reached, in both languages, and nothing stands beside the screen."""
    await page.set_viewport_size({"width": 390, "height": 844})
    for tab in await page.get_by_role("tab").all():
        await page.get_by_test_id("lang-switch").click()
        await tab.click(timeout=PATIENCE_MS)
        await expect(tab).to_have_attribute("aria-selected", "true")
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
    await page.get_by_test_id("tab-audit").click()
    entry = page.get_by_test_id("audit").locator('[data-action="user.add"]').first
    what, outcome = await entry.locator(".message").bounding_box(), await entry.locator("td").last.bounding_box()
    assert what is not None
    assert outcome is not None
    assert what["width"] > 100
    assert outcome["x"] + outcome["width"] <= 390
    await page.get_by_test_id("tab-points").click()
    await page.set_viewport_size({"width": 1920, "height": 1080})


async def answer_to(cloud: CloudProcess, token: str | None) -> int:
    """What the interface answers to a program that shows `token`."""
    async with plain_client() as client:
        headers = {"Authorization": f"Bearer {token}"}
        return (await client.get(f"http://{cloud.http}/api/v1/plant/metrics", headers=headers)).status_code


async def what_is_not_watched_is_on_one_screen(page: Page) -> None:
    """A gateway that was never heard is a fault, in both languages; what works is shown as working."""
    await page.get_by_test_id("tab-health").click()
    verdict = page.get_by_test_id("health")
    await expect(verdict).to_have_attribute("data-watching", "false", timeout=PATIENCE_MS)
    away = page.get_by_test_id("trouble-gateway-away")
    await expect(away).to_have_attribute("data-severity", "fault")
    await expect(away).to_contain_text("网关 theirs 不在线，1 个测点无人监视")
    await expect(page.locator(".part").filter(has_text="报警判断")).to_contain_text("正常")
    await expect(page.get_by_test_id("coverage-tank")).to_have_attribute("data-dark", "0")
    await page.get_by_test_id("lang-switch").click()
    await expect(away).to_contain_text("Gateway theirs is away: 1 points unwatched")
    await expect(verdict).to_contain_text("The plant is not watched as it should be")
    await page.get_by_test_id("lang-switch").click()
    await page.get_by_test_id("tab-points").click()


async def an_operator_answers(page: Page) -> None:
    """In the row that is still open acknowledging and shelving are there, taking out of service is not; nor the log."""
    await expect(page.get_by_test_id("tab-points")).to_have_attribute("aria-selected", "true")
    await expect(page.get_by_test_id("tab-audit")).to_have_count(0)
    await expect(page.get_by_test_id("tab-users")).to_have_count(0)
    row = page.get_by_test_id("alarm-list").locator('[data-alarm="P1/H"]').first
    await row.get_by_role("button", name="确认报警 P1/H").click()
    await expect(row).to_have_attribute("data-phase", "acknowledged")
    await expect(row.locator('[data-testid^="shelve-"]')).to_have_count(1)
    await expect(row.locator('[data-testid^="out-of-service-"]')).to_have_count(0)


async def one_s_own_password_is_changed(page: Page) -> None:
    """Not with a wrong old one or two different new ones; then the page asks for the new one, and has it."""
    await page.get_by_test_id("account").click()
    problem, submit = page.get_by_test_id("account-problem"), page.get_by_test_id("password-submit")
    await page.get_by_test_id("password-old").fill("not the password")
    await page.get_by_test_id("password-new").fill("a newer password")
    await page.get_by_test_id("password-again").fill("another password")
    await expect(problem).to_have_text("两次输入的新密码不一致")
    await expect(submit).to_be_disabled()
    await page.get_by_test_id("password-again").fill("a newer password")
    await submit.click()
    await expect(problem).to_have_text("原密码不正确")
    await page.get_by_test_id("password-old").fill(PASSWORD)
    await submit.click()
    await sign_in(page, "operator", "a newer password")
    await expect(page.get_by_test_id("user-name")).to_have_text("operator", timeout=PATIENCE_MS)
    await page.get_by_test_id("account").click()
    await expect(page.get_by_test_id("password-old")).to_have_value("")
    await page.get_by_test_id("sign-out-everywhere").click()
    await expect(page.get_by_test_id("login-submit")).to_be_visible()
