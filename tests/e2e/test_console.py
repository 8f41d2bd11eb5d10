"""The console page in a real browser through a whole incident: what an operator sees, and what the buttons do."""

import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from tests.support.demo import Demo, running_demo
from tests.support.need import ROOT, need_library, need_program
from tests.support.wait import eventually
from tocsin_cloud.api.routes import alarms, points
from tocsin_cloud.loops import aside, delegation, journal, rebuilding, taking_over
from tocsin_core.engine import shelves
from tocsin_core.lifecycle import RefusalReason
from tocsin_core.routing import RoutingReason
from tocsin_core.tickets import TicketReason, TicketRefusal

INCIDENT_S: Final = 150
LEVEL_1_PPM: Final = 28
# Without these the browser looks for hosts that a closed network does not have.
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS: Final = 30_000
# What the browser itself says of a refused sign-in, and of a server that was killed on purpose.
EXPECTED: Final = re.compile(r"status of 401|net::ERR_")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium from the system's packages."""
    program = need_program("chromium", "chromium-browser")
    need_library("libatomic.so.1")  # of the node that playwright brings
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE_MS)
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


def row(page: Page, alarm: str) -> Locator:
    """The rows of an alarm such as `NH3-103/H` in the list that is shown."""
    return page.get_by_test_id("alarm-list").locator(f'[data-alarm="{alarm}"]')


def alarm_of(demo: Demo, point: str, kind: str) -> dict[str, Any] | None:
    """The alarm of this kind on this point as the interface gives it, None while there is none or no server."""
    rows = demo.try_get("alarms", state="active") or []
    return next((alarm for alarm in rows if alarm["point"] == point and alarm["kind"] == kind), None)


def occurrence(demo: Demo, alarm: str) -> dict[str, Any] | None:
    """The newest occurrence of an alarm, also one that is over."""
    rows = [found for found in demo.try_get("alarms", state="all") or [] if found["alarm"] == alarm]
    return max(rows, key=lambda found: str(found["raised_at"]), default=None)


def switch_to(page: Page, language: str) -> None:
    """Press the language switch until the page is in `language`."""
    if page.locator("html").get_attribute("lang") != language:
        page.get_by_test_id("lang-switch").click()
    expect(page.locator("html")).to_have_attribute("lang", language)


def sign_in(page: Page, password: str) -> None:
    """Fill the form and press its button."""
    page.get_by_test_id("login-user").fill("admin")
    page.get_by_test_id("login-password").fill(password)
    page.get_by_test_id("login-submit").click()


def a_wrong_password_is_refused_and_the_right_one_opens(page: Page, demo: Demo) -> None:
    """The form says what is wrong and keeps the page closed."""
    page.goto(demo.address)
    sign_in(page, "not the password")
    expect(page.get_by_test_id("login-problem")).to_have_text("用户名或密码不正确")
    expect(page.get_by_test_id("alarms-active")).to_have_count(0)
    sign_in(page, demo.password)
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")


def a_calm_plant_has_live_values_and_no_alarm(page: Page) -> None:
    """Nothing is announced, every source is normal, values stand with their units; both languages are whole.

    The page is there before the plant and its gateways are started: the first values are waited for.
    """
    gas = page.get_by_test_id("point-NH3-103")
    expect(gas.get_by_test_id("point-value-NH3-103")).to_have_attribute("data-quality", "good", timeout=60_000)
    expect(page.get_by_test_id("point-value-NH3-TANK-2")).to_have_attribute("data-quality", "good")
    expect(page.get_by_test_id("unacknowledged-total")).to_have_attribute("data-count", "0")
    expect(page.get_by_text("没有报警", exact=True)).to_be_visible()
    expect(page.get_by_test_id("source-tank-farm")).to_have_attribute("data-worst", "none")
    expect(gas).to_contain_text(re.compile(r"\d\.\d\s*ppm"))
    expect(page.get_by_role("heading", name="重大危险源")).to_be_visible()
    switch_to(page, "en")
    expect(page.get_by_role("heading", name="Hazard sources")).to_be_visible()
    expect(page.get_by_test_id("site-name")).to_have_text("Binjiang Cold Chain Park")
    switch_to(page, "zh-CN")
    expect(page.get_by_test_id("site-name")).to_have_text("滨江冷链物流园")


def an_early_warning_says_when_the_limit_is_reached(page: Page) -> str:
    """The badge is on the source, the trend follows the alarmed point and counts down; returns the point."""
    first = page.get_by_test_id("alarm-list").locator('[data-kind="time-to-limit"]').first
    first.wait_for(timeout=60_000)
    point = str(first.get_attribute("data-alarm")).partition("/")[0]
    expect(page.get_by_test_id("trend")).to_have_attribute("data-point", point)
    expect(page.get_by_test_id("early-warning-text")).to_have_text(re.compile(r"(预计|已超过).*28 ppm"))
    expect(page.get_by_test_id("source-tank-farm").get_by_text("早期预警")).to_be_visible()
    expect(page.get_by_test_id(f"point-state-{point}")).to_contain_text("早期预警")
    switch_to(page, "en")
    expect(page.get_by_test_id("early-warning-text")).to_have_text(re.compile(r"(reach|Above).*28 ppm"))
    switch_to(page, "zh-CN")
    return point


def rows_hold_still_under_the_pointer(page: Page, point: str) -> None:
    """Level 2 arrives while the pointer is on level 1: nothing moves until the pointer leaves, then it is on top."""
    high, highest = row(page, f"{point}/H"), row(page, f"{point}/HH")
    high.wait_for(timeout=60_000)
    assert page.get_by_test_id("alarm-list").locator("[data-alarm]").first.get_attribute("data-alarm") == f"{point}/H"
    box = high.bounding_box()
    assert box is not None

    steps = itertools.cycle(range(5))

    def arrived() -> bool:
        page.mouse.move(box["x"] + 40 + next(steps), box["y"] + 20)
        return highest.count() > 0

    eventually(arrived, timeout_s=60, interval_s=0.2)
    assert high.bounding_box() == box
    expect(page.get_by_test_id("alarms-added")).to_be_visible()
    expect(page.get_by_test_id("unacknowledged-total")).not_to_have_attribute("data-count", "0")
    page.mouse.move(5, 5)
    expect(page.get_by_test_id("alarm-list").locator("[data-alarm]").first).to_have_attribute(
        "data-alarm", f"{point}/HH"
    )
    expect(page.get_by_test_id("source-tank-farm")).to_have_attribute("data-worst", "critical")


def the_ticket_shows_its_evidence(page: Page, point: str) -> None:
    """One ticket of the place, with the drawn trend, the reason and the log in the chosen language."""
    page.get_by_test_id("tab-tickets").click()
    detail = page.get_by_test_id("ticket-detail")
    expect(detail).to_contain_text(f"{point}/H")
    expect(detail).to_contain_text("达到登记级别的报警")
    expect(detail.get_by_test_id("ticket-state")).to_have_text("整改中")
    chart = detail.get_by_test_id("ticket-evidence")
    expect(chart.locator("canvas")).to_be_visible()
    assert painted(chart, "#dfe6ec", "#dd9a3c") == [True, True], "the trend's line and the limit of level 1 are drawn"


def painted(chart: Locator, *colours: str) -> list[bool]:
    """Tell for each colour whether the canvas has pixels of it."""
    wanted = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours]
    found: list[bool] = chart.locator("canvas").evaluate(
        """(canvas, wanted) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const has = (colour) => {
            for (let i = 0; i < data.length; i += 4)
              if (data[i + 3] > 200 && colour.every((value, k) => Math.abs(data[i + k] - value) < 12)) return true;
            return false;
          };
          return wanted.map(has);
        }""",
        wanted,
    )
    return found


def the_message_went_out(page: Page, demo: Demo) -> None:
    """The first alarm's message is delivered and its escalation waits, on the page as in the interface."""
    page.get_by_test_id("tab-notifications").click()
    delivered = page.locator('[data-testid^="notification-"][data-state="delivered"]')
    expect(delivered.first).to_contain_text("已送达")
    expect(delivered.filter(has_text="该处的首个报警")).not_to_have_count(0)
    assert any(note["state"] == "pending" for note in demo.get("notifications")), "nobody has answered: more would come"
    page.get_by_test_id("tab-points").click()


def an_alarm_is_shelved_with_a_reason(page: Page, demo: Demo, point: str) -> str:
    """The early warning, which has served its purpose, goes to the shelf, not without a reason; returns the alarm."""
    alarm = f"{point}/time-to-limit"
    found = occurrence(demo, alarm)
    assert found is not None
    row(page, alarm).locator("button.alarm-main").click()
    page.get_by_test_id(f"shelve-{found['id']}").click()
    expect(page.get_by_test_id("suppress-submit")).to_be_disabled()
    page.get_by_test_id("suppress-reason").fill("动火作业期间旁路")
    page.get_by_test_id("suppress-submit").click()
    expect(page.get_by_test_id("suppress-dialog")).to_have_count(0)
    page.mouse.move(5, 5)
    expect(row(page, alarm)).to_have_count(0)
    page.get_by_test_id("alarms-shelved").click()
    expect(row(page, alarm)).to_contain_text("搁置至")
    page.get_by_test_id("alarms-active").click()
    assert (occurrence(demo, alarm) or {})["shelved_until"] is not None
    return alarm


def acknowledging_silences_and_cancels(page: Page, demo: Demo, point: str) -> None:
    """Each press acknowledges the alarm of its own row; with none left, what waits to be sent is cancelled."""
    for kind in ("HH", "H"):
        found = alarm_of(demo, point, kind)
        assert found is not None
        assert found["phase"] in {"unacknowledged", "returned-unacknowledged"}
        page.get_by_test_id(f"ack-{found['id']}").click()
        expect(page.get_by_test_id(f"ack-{found['id']}")).to_have_count(0)
        after = occurrence(demo, f"{point}/{kind}")
        assert after is not None
        assert after["phase"] in {"acknowledged", "normal"}, "normal when the gas has gone meanwhile"
        assert after["acknowledged_by"] == "admin"

    def answered() -> bool:
        waiting = page.locator('[data-testid^="ack-"]')
        if waiting.count() > 0:
            waiting.first.click()
        return all(note["state"] != "pending" for note in demo.get("notifications"))

    eventually(answered, interval_s=0.3)
    assert any(note["state"] == "cancelled" for note in demo.get("notifications"))
    page.get_by_test_id("tab-notifications").click()
    expect(page.locator('[data-testid^="notification-"][data-state="cancelled"]').first).to_contain_text("已取消")
    page.get_by_test_id("tab-points").click()


def a_killed_server_is_shown_and_comes_back(page: Page, demo: Demo) -> None:
    """Within 10 s the page says in both languages that it stands still; it recovers by itself."""
    newest = page.locator('[data-testid="point-NH3-103"] .when')
    demo.kill("page")
    banner = page.get_by_test_id("lost-banner")
    banner.wait_for()
    expect(banner).to_contain_text("与服务器失去连接")
    expect(banner).to_contain_text("Connection to the server lost")
    then = newest.text_content()
    expect(banner).to_have_count(0, timeout=40_000)
    expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "live")
    expect(newest).not_to_have_text(str(then))


def the_plant_returns_to_normal(page: Page, demo: Demo, point: str) -> None:
    """The leak has ended: the acknowledged alarms of the point leave the list and its value is low again."""
    for kind in ("HH", "H"):
        expect(row(page, f"{point}/{kind}")).to_have_count(0, timeout=90_000)
        assert (occurrence(demo, f"{point}/{kind}") or {})["phase"] == "normal"
    assert float(page.get_by_test_id(f"point-value-{point}").text_content() or "nan") < LEVEL_1_PPM
    page.get_by_test_id("alarms-history").click()
    expect(row(page, f"{point}/HH")).to_contain_text("已恢复")


def signing_out_closes_the_page(page: Page) -> None:
    """The form is back, and a reload does not get past it."""
    page.get_by_test_id("sign-out").click()
    expect(page.get_by_test_id("login-submit")).to_be_visible()
    page.reload()
    expect(page.get_by_test_id("login-submit")).to_be_visible()
    expect(page.get_by_test_id("alarms-active")).to_have_count(0)


@pytest.mark.timeout(300)
def test_an_operator_through_a_whole_incident(tmp_path: Path, browser: Browser) -> None:
    """Calm, early warning, both levels, ticket, messages, answers, a killed server, and calm again, on one page."""
    problems: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not EXPECTED.search(message.text):
            problems.append(message.text)

    with running_demo(tmp_path / "data", "--headless", "--seconds", str(INCIDENT_S), "--json") as demo:
        page = browser.new_page(locale="zh-CN", viewport={"width": 1920, "height": 1080})
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", heard)
        page.on("pageerror", lambda error: problems.append(str(error)))
        eventually(demo.ready, timeout_s=60)
        a_wrong_password_is_refused_and_the_right_one_opens(page, demo)
        a_calm_plant_has_live_values_and_no_alarm(page)
        demo.sign_in()
        point = an_early_warning_says_when_the_limit_is_reached(page)
        rows_hold_still_under_the_pointer(page, point)
        the_ticket_shows_its_evidence(page, point)
        the_message_went_out(page, demo)
        shelved = an_alarm_is_shelved_with_a_reason(page, demo, point)
        acknowledging_silences_and_cancels(page, demo, point)
        a_killed_server_is_shown_and_comes_back(page, demo)
        the_plant_returns_to_normal(page, demo, point)
        assert (occurrence(demo, shelved) or {})["shelved_until"] is not None
        signing_out_closes_the_page(page)
        page.close()
    assert not problems


def test_the_page_has_chinese_for_every_reason_of_the_server() -> None:
    """A reason that is given as an English sentence stands in the page's dictionary."""
    dictionary = (ROOT / "cloud" / "console" / "src" / "sentences.ts").read_text(encoding="utf-8")
    reasons = [*TicketReason, *TicketRefusal, *RoutingReason, *RefusalReason]
    reasons += [shelves.TIME_IS_UP, shelves.HAS_RETURNED, shelves.WORSE_RAISED]
    reasons += [aside.UNKNOWN, aside.PAST, aside.BESIDE, taking_over.STANDS, taking_over.ANSWERED]
    reasons += [delegation.FROM_BEFORE, delegation.ANSWERED, journal.NO_LONGER_WATCHED, rebuilding.KEPT]
    reasons += [alarms.UNANSWERED, alarms.NOT_HANDED, points.NO_HISTORY]
    assert not [reason for reason in reasons if f'"{reason}":' not in dictionary]


def test_the_page_has_words_for_every_action_of_the_audit_log() -> None:
    """What docs/users.md lists as an action is read in both languages, and not as the program names it."""
    words = (ROOT / "cloud" / "console" / "src" / "i18n.ts").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "users.md").read_text(encoding="utf-8").partition("| action | |")[2].partition("\n\n")[0]
    actions = []
    for row in page.splitlines()[2:]:
        first, *more = re.findall(r"`([a-z.-]+)`", row.split("|")[1])
        actions += [first, *(first.partition(".")[0] + each for each in more)]
    assert {"alarm.ack", "alarm.out-of-service", "gateway.revoke", "plant.load"} <= set(actions)
    keys = {action: f"action_{re.sub('[.-]', '_', action)}:" for action in actions}
    assert not [action for action, key in keys.items() if words.count(key) != len(("zh", "en"))]


@pytest.mark.parametrize("script", ["test", "check"])
def test_the_pages_own_tests_and_types(script: str) -> None:
    """The console's unit tests pass and its TypeScript has no type error."""
    done = subprocess.run(
        [ROOT / "scripts" / "npm", "run", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
