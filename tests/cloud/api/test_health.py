"""The health report and `tocsin status --cloud`: watched or not, what is not, and since when."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import typer
from prometheus_client import Gauge
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from tests.cloud.api.conftest import Bench
from tests.cloud.api.stand_ins import START_NS, occurrence
from tests.support.database import failing
from tests.support.need import ROOT
from tests.support.ports import free_port
from tocsin_cli.status import status as status_verb
from tocsin_cloud.api.model import rfc3339
from tocsin_cloud.api.model_health import TroubleKind
from tocsin_cloud.api.ports import ClockStatus, GatewayStatus, SliceStatus
from tocsin_cloud.api.server import serving
from tocsin_core.readings import BAD_COMM_FAILURE
from tocsin_core.rules import NS
from tocsin_edge.loops import self_report

pytestmark = pytest.mark.anyio

Set = Callable[..., None]
MINUTE = 60 * NS


@pytest.fixture
def figure(bench: Bench) -> Set:
    """Sets a figure of ours: `figure("stream_lag_messages", 3, role="alarms")`."""
    made: dict[str, Gauge] = {}

    def show(name: str, value: float, **labels: str) -> None:
        if name not in made:
            made[name] = Gauge(f"tocsin_{name}", name, tuple(labels), registry=bench.ports.metrics)
        (made[name].labels(**labels) if labels else made[name]).set(value)

    return show


def all_is_well(bench: Bench, figure: Set) -> None:
    """The gateway is there, both points are read, both roles keep up."""
    now = bench.clock.now_ns()
    bench.live.known[:] = [GatewayStatus("gw-1", "online", START_NS, now)]
    for index in (0, 1):
        bench.live.read(index, now, 1.0)
    for role in ("alarms", "historian"):
        figure("stream_position_timestamp_seconds", now / NS - 1, role=role)
        figure("stream_lag_messages", 3, role=role)
    for name, value in (("broker_connected", 1), ("messages_overdue_seconds", 0), ("messages_failed_last_hour", 0)):
        figure(name, value)


async def asked(bench: Bench) -> dict[str, Any]:
    """The report as a regulator gets it."""
    async with bench.client("regulator") as client:
        report: dict[str, Any] = (await client.get("/health")).raise_for_status().json()
    return report


def told(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Severity, kind and subject of each trouble."""
    return [(each["severity"], each["kind"], each["subject"]) for each in report["troubles"]]


async def test_a_plant_that_is_watched(bench: Bench, figure: Set) -> None:
    """No trouble, and the figures of one screen."""
    all_is_well(bench, figure)
    report = await asked(bench)
    assert report["watching"] is True
    assert report["troubles"] == []
    assert (report["gateways_online"], report["gateways"]) == (1, 1)
    assert (report["points_dark"], report["points"]) == (0, 2)
    assert report["roles"][0] == {"role": "alarms", "works": True, "behind_s": pytest.approx(1, abs=0.1), "waiting": 3}
    assert {source["id"]: source["dark"] for source in report["sources"]} == {"tanks": 0, "hall": 0}


async def test_nothing_works_and_each_part_of_it_is_named(bench: Bench, figure: Set) -> None:
    """A gateway away since then, nobody who judges or stores, a broker that is lost, people who are not told."""
    bench.missing.append("the alarms worker is catching up")
    bench.live.known[:] = [GatewayStatus("gw-1", "offline", START_NS - 5 * MINUTE)]
    figure("broker_connected", 0)
    figure("messages_overdue_seconds", 300)
    figure("messages_failed_last_hour", 2)
    figure("data_disk_free_bytes", 5)
    figure("data_disk_bytes", 100)
    figure("orders_oldest_seconds", 600)
    report = await asked(bench)
    assert report["watching"] is False
    assert told(report) == [
        ("fault", "not-ready", ""),
        ("fault", "broker", ""),
        ("fault", "role", "alarms"),
        ("fault", "gateway-away", "gw-1"),
        ("fault", "messages-overdue", ""),
        ("fault", "messages-failed", ""),
        ("warning", "history-behind", "historian"),
        ("warning", "orders-waiting", ""),
        ("warning", "disk", ""),
    ]
    away = report["troubles"][3]
    assert away["since"] == rfc3339(START_NS - 5 * MINUTE)
    assert away["text"] == {
        "zh": "网关 一号网关 不在线，2 个测点无人监视",
        "en": "Gateway Gateway 1 is away: 2 points unwatched",
    }
    assert report["troubles"][4]["since"] == rfc3339(START_NS - 5 * MINUTE)


async def test_a_full_stream_is_no_trouble_and_what_a_role_has_yet_to_read_of_it_is(bench: Bench, figure: Set) -> None:
    """Full is how it rests. More than half of its bound unread is a warning, and so is what went unread."""
    all_is_well(bench, figure)
    figure("stream_bytes", 1000)
    figure("stream_bytes_limit", 1000)
    figure("stream_messages", 100)
    figure("stream_last", 5000)
    figure("stream_position", 5000, role="alarms")
    figure("stream_position", 4951, role="historian")
    assert (await asked(bench))["troubles"] == []
    figure("stream_position", 4940, role="historian")
    figure("stream_unread_dropped_total", 7, role="alarms")
    report = await asked(bench)
    assert told(report) == [("warning", "stream", "alarms"), ("warning", "stream", "historian")]
    assert [each["text"]["en"] for each in report["troubles"]] == [
        "The stream dropped 7 messages before the alarms worker had read them",
        "What the historian has yet to read is 60% of what the stream may hold: beyond that the oldest goes",
    ]
    figure("stream_bytes", 800)
    assert told(await asked(bench)) == [("warning", "stream", "alarms")]


async def test_messages_that_the_stream_dropped_are_told_for_as_long_as_their_rule_looks_back(
    bench: Bench, figure: Set
) -> None:
    """Those too that a role counted as it began, before anybody had looked; then it is over."""
    all_is_well(bench, figure)
    figure("stream_unread_dropped_total", 7, role="historian")
    for passed_s in (0, 880):
        bench.clock.move(passed_s)
        all_is_well(bench, figure)
        assert told(await asked(bench)) == [("warning", "stream", "historian")]
    bench.clock.move(40)
    all_is_well(bench, figure)
    assert (await asked(bench))["troubles"] == []
    figure("stream_unread_dropped_total", 9, role="historian")
    (trouble,) = (await asked(bench))["troubles"]
    assert trouble["text"]["en"] == "The stream dropped 2 messages before the historian had read them"


async def test_alarms_that_stand_as_recorded_are_told(bench: Bench, figure: Set) -> None:
    """For an hour after the engine's state was lost, and for as long as an alarm of then was not read of."""
    all_is_well(bench, figure)
    figure("engine_rebuilt_timestamp_seconds", START_NS / NS - 3601)
    assert (await asked(bench))["troubles"] == []
    figure("alarms_unconfirmed", 2)
    (trouble,) = (await asked(bench))["troubles"]
    assert (trouble["severity"], trouble["kind"]) == ("warning", "alarms-rebuilt")
    assert trouble["since"] == rfc3339(START_NS - 3601 * NS)
    assert trouble["text"]["en"].endswith("alarms stand as recorded, 2 of them unconfirmed by a reading")
    figure("alarms_unconfirmed", 0)
    figure("engine_rebuilt_timestamp_seconds", START_NS / NS - 3599)
    assert told(await asked(bench)) == [("warning", "alarms-rebuilt", "alarms")]


async def test_points_in_the_dark_are_told_by_device_since_their_alarm(bench: Bench, figure: Set) -> None:
    """A bad reading and one that is too old, with the time at which the instrument's own alarm was raised."""
    all_is_well(bench, figure)
    bench.live.read(0, START_NS, float("nan"), BAD_COMM_FAILURE)
    raised = START_NS - 7 * MINUTE
    await bench.put(occurrence(1, alarm="NH3-101/bad", kind="bad", raised_ns=raised, setpoint=None))
    report = await asked(bench)
    (trouble,) = report["troubles"]
    assert (trouble["severity"], trouble["kind"], trouble["subject"]) == ("fault", "points-dark", "gas")
    assert trouble["since"] == rfc3339(raised)
    assert trouble["text"]["en"] == "Device gas: 1/2 points in the dark (NH3-101)"
    assert report["points_dark"] == 1


async def test_what_is_behind_is_told_since_when(bench: Bench, figure: Set) -> None:
    """Alarms that stand still are a fault, a history that lags a warning."""
    all_is_well(bench, figure)
    figure("stream_position_timestamp_seconds", START_NS / NS - 90, role="alarms")
    figure("stream_position_timestamp_seconds", START_NS / NS - 1200, role="historian")
    report = await asked(bench)
    assert told(report) == [("fault", "role", "alarms"), ("warning", "history-behind", "historian")]
    assert [each["since"] for each in report["troubles"]] == [
        rfc3339(START_NS - 90 * NS),
        rfc3339(START_NS - 1200 * NS),
    ]
    assert [role["works"] for role in report["roles"]] == [False, False]
    # Who waits for its database has not heard of what came since.
    figure("stream_last", 5000)
    figure("stream_position", 4910, role="alarms")
    figure("stream_position", 100, role="historian")
    assert [role["waiting"] for role in (await asked(bench))["roles"]] == [90, 4900]


async def test_a_page_whose_clock_is_behind_says_what_it_cannot_see(bench: Bench, figure: Set) -> None:
    """By its clock alarms that stand still would not be late before it had come to where the stream's was."""
    all_is_well(bench, figure)
    figure("stream_position_timestamp_seconds", START_NS / NS + 29, role="alarms")
    assert (await asked(bench))["troubles"] == []
    figure("stream_position_timestamp_seconds", START_NS / NS + 3600, role="alarms")
    report = await asked(bench)
    assert told(report) == [("warning", "clock", "")]
    assert "(3600 s)" in report["troubles"][0]["text"]["en"]


async def test_that_nobody_sends_messages_is_told_before_one_is_overdue(bench: Bench, figure: Set) -> None:
    """A page of its own hears who does each role's work: without a notifier the next alarm would reach nobody."""
    all_is_well(bench, figure)
    figure("role_answers", 1, role="notify")
    assert (await asked(bench))["troubles"] == []
    figure("role_answers", 0, role="notify")
    report = await asked(bench)
    assert report["watching"] is False
    assert told(report) == [("fault", "role", "notify")]
    assert report["troubles"][0]["text"]["en"] == "Nobody is heard who sends messages to people"


async def test_a_gateway_that_is_there_but_not_in_order(bench: Bench, figure: Set) -> None:
    """Silence is a fault; clock, certificate, plant file and disagreement are warnings."""
    all_is_well(bench, figure)
    figure("disagreements", 2, gateway="gw-1")
    bench.live.known[:] = [
        GatewayStatus(
            "gw-1",
            "online",
            START_NS,
            START_NS,
            clock=ClockStatus(synchronised=False, since_ns=START_NS - MINUTE, error_ms=None, step_s=None),
            slice=SliceStatus(3, current=False),
            skew_s=-95.0,
            certificate_ends_ns=START_NS + 3 * 86_400 * NS,
        )
    ]
    report = await asked(bench)
    assert report["watching"] is True
    kinds = ["clock", "clock", "certificate", "plant-file", "disagreement"]
    assert told(report) == [("warning", kind, "gw-1") for kind in kinds]
    bench.live.known[:] = [GatewayStatus("gw-1", "online", START_NS, START_NS - 3 * MINUTE)]
    assert told(await asked(bench)) == [("fault", "gateway-silent", "gw-1")]


NOT_TOLD: Final = {
    "TocsinDown": "nobody answers: exit 2",
    "TocsinAbsent": "nobody answers: exit 2",
    "TocsinUnscraped": "only who scrapes knows",
    "TocsinRestartsOften": "a page that restarts with it remembers nothing",
}
TOLD: Final = {
    "TocsinAlarmsBehind": "role",
    "TocsinRoleUnfilled": "role",
    "TocsinNobodyJudges": "role",
    "TocsinBrokerLost": "broker",
    "TocsinAlarmsLate": "alarms-late",
    "TocsinGatewayAway": "gateway-away",
    "TocsinGatewaySilent": "gateway-silent",
    "TocsinDevicesAway": "points-dark",
    "TocsinPointsDark": "points-dark",
    "TocsinPointsSilent": "points-dark",
    "TocsinGatewayClock": "clock",
    "TocsinGatewaySkew": "clock",
    "TocsinCertificateEnds": "certificate",
    "TocsinBrokerRefuses": "broker-refuses",
    "TocsinReadingsAhead": "clock",
    "TocsinClockStepped": "clock",
    "TocsinDisagreement": "disagreement",
    "TocsinJournalLost": "journal-lost",
    "TocsinJournalUnheeded": "journal-unheeded",
    "TocsinSpoolsAnew": "spool-anew",
    "TocsinOrdersWait": "orders-waiting",
    "TocsinOldPlantFile": "plant-file",
    "TocsinMessagesOverdue": "messages-overdue",
    "TocsinMessagesTriedInVain": "messages-failing",
    "TocsinMessagesFail": "messages-failed",
    "TocsinWayDead": "way-dead",
    "TocsinTicketsOverdue": "tickets-overdue",
    "TocsinHistoryBehind": "history-behind",
    "TocsinNobodyStores": "history-behind",
    "TocsinHistoryDrops": "history-drops",
    "TocsinCommitsRefused": "commits-refused",
    "TocsinHistoryRefuses": "commits-refused",
    "TocsinQuarantineGrows": "quarantine",
    "TocsinGatewayTooFast": "too-fast",
    "TocsinComputedWaits": "computed-waiting",
    "TocsinStreamUnread": "stream",
    "TocsinStreamDropped": "stream",
    "TocsinAlarmsRebuilt": "alarms-rebuilt",
    "TocsinDiskFills": "disk",
    "TocsinLooksFail": "looks-fail",
}
OF_NO_RULE: Final = {"not-ready"}
"""What a cloud side that cannot make its figures says of itself."""


OF_GATEWAYS: Final = {
    "TocsinEdgeUplinkDown": "no connection to {self.uplink()}",
    "TocsinEdgeDeviceUnwatched": "all(device.watched for device in devices)",
    "TocsinEdgeSpoolDrops": "readings lost: ",
    "TocsinEdgeSpoolFills": "full: beyond its bound the oldest readings go",
    "TocsinEdgeSpoolDown": "the disk takes nothing",
}
"""What a gateway's own status says of what each rule on its figures tells, as its report has it."""


def test_whatever_an_alert_rule_tells_the_report_tells_too() -> None:
    """A new rule needs its line in the report, and a new line its rule; a gateway has a status of its own."""
    rules = YAML(typ="safe").load((ROOT / "dashboards" / "alerts" / "tocsin.yaml").read_text(encoding="utf-8"))
    names = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    assert sorted(names) == sorted([*TOLD, *NOT_TOLD, *OF_GATEWAYS])
    gateways_own = Path(str(self_report.__file__)).read_text(encoding="utf-8")
    assert [words for words in OF_GATEWAYS.values() if words not in gateways_own] == []
    assert {*TOLD.values(), *OF_NO_RULE} == set(get_args(TroubleKind))


Grown = tuple[str, float, dict[str, str]]
GROWN: Final[dict[str, tuple[str, str, str, float, list[Grown]]]] = {
    # Severity, kind, subject; for how long (s); by how much which counters grow, the last of them at least.
    "journal lost": ("fault", "journal-lost", "gw-1", 900, [("journal_lost_total", 1, {"gateway": "gw-1"})]),
    "too fast": ("fault", "too-fast", "", 300, [("quarantined_total", 1, {"reason": "too-fast"})]),
    "commits": ("warning", "commits-refused", "alarms", 300, [("commit_failures_total", 6, {"role": "alarms"})]),
    "history": ("warning", "commits-refused", "historian", 300, [("commit_failures_total", 6, {"role": "historian"})]),
    "late": (
        *("warning", "alarms-late", "alarms", 300),
        [("alarm_latency_seconds_bucket", n, {"le": le}) for n, le in ((99, "5.0"), (101, "+Inf"))],
    ),
    "broker": ("warning", "broker-refuses", "tls", 900, [("broker_refused_total", 21, {"reason": "tls"})]),
    "ahead": ("warning", "clock", "", 600, [("readings_ahead_total", 11, {})]),
    "stepped": ("warning", "clock", "", 600, [("clock_steps_back_total", 1, {})]),
    "unheeded": ("warning", "journal-unheeded", "gw-1", 900, [("journal_unheeded_total", 1, {"gateway": "gw-1"})]),
    "anew": ("warning", "spool-anew", "", 900, [("spools_anew_total", 1, {})]),
    "dropped": ("warning", "history-drops", "", 900, [("history_dropped_values_total", 1, {})]),
    "refused": ("warning", "quarantine", "undecodable", 900, [("quarantined_total", 101, {"reason": "undecodable"})]),
    "looks": ("warning", "looks-fail", "database", 600, [("look_failures_total", 31, {"what": "database"})]),
}  # fmt: skip


@pytest.mark.parametrize("what", GROWN)
async def test_what_happened_of_late_is_told_for_as_long_as_its_rule_looks_back(
    bench: Bench, figure: Set, what: str
) -> None:
    """What was counted before the first look is of before; one less than it takes is nothing; then it is over."""
    severity, kind, subject, seconds, counters = GROWN[what]
    all_is_well(bench, figure)
    *others, (last, by, labels) = counters
    for name, _, theirs in counters:
        figure(name, 1000.0, **theirs)
    assert (await asked(bench))["troubles"] == []
    for name, n, theirs in others:
        figure(name, 1000.0 + n, **theirs)
    figure(last, 1000.0 + by - 1, **labels)
    assert (await asked(bench))["troubles"] == []
    figure(last, 1000.0 + by, **labels)
    assert told(await asked(bench)) == [(severity, kind, subject)]
    bench.clock.move(seconds - 20)
    all_is_well(bench, figure)
    assert told(await asked(bench)) == [(severity, kind, subject)]
    bench.clock.move(40)
    all_is_well(bench, figure)
    assert (await asked(bench))["troubles"] == []


async def test_commits_of_alarms_that_are_refused_are_a_fault_for_as_long_as_alarms_stand_still(
    bench: Bench, figure: Set
) -> None:
    """A database that was restarted is no reason to say for five minutes that nothing is watched."""
    all_is_well(bench, figure)
    figure("commit_failures_total", 0, role="alarms")
    await asked(bench)
    figure("commit_failures_total", 6, role="alarms")
    figure("stream_position_timestamp_seconds", START_NS / NS - 6, role="alarms")
    assert told(await asked(bench)) == [("fault", "commits-refused", "alarms")]
    figure("stream_position_timestamp_seconds", START_NS / NS - 4, role="alarms")
    assert told(await asked(bench)) == [("warning", "commits-refused", "alarms")]


async def test_a_counter_that_begins_anew_has_grown_by_what_it_shows(bench: Bench, figure: Set) -> None:
    """A worker that was restarted counts from 0; who is not heard for a moment goes on where it was."""
    all_is_well(bench, figure)
    figure("journal_lost_total", 5, gateway="gw-1")
    await asked(bench)
    figure("journal_lost_total", 0, gateway="gw-1")
    assert (await asked(bench))["troubles"] == []
    figure("journal_lost_total", 2, gateway="gw-1")
    report = await asked(bench)
    assert told(report) == [("fault", "journal-lost", "gw-1")]
    assert report["watching"] is False
    assert report["troubles"][0]["text"]["zh"] == "网关 gw-1：2 处报警日志有缺失"


async def test_a_way_to_people_that_does_not_work_is_told_at_once(bench: Bench, figure: Set) -> None:
    """Not only when a message is given up, minutes later."""
    all_is_well(bench, figure)
    figure("messages_failing", 3, channel="mailto")
    figure("computed_waiting", 10_001)
    report = await asked(bench)
    assert told(report) == [("fault", "messages-failing", "mailto"), ("warning", "computed-waiting", "")]
    assert report["troubles"][0]["text"]["en"] == "3 messages did not get out by mailto:// and are tried again"
    figure("messages_failing", 0, channel="mailto")
    figure("computed_waiting", 10_000)
    assert (await asked(bench))["troubles"] == []


async def test_a_way_to_people_that_is_dead_is_told_before_anybody_is_called(bench: Bench, figure: Set) -> None:
    """As a fault: the plant is read and judged, and nobody would hear of it."""
    all_is_well(bench, figure)
    figure("ways_dead", 1, channel="mailto")
    figure("ways_dead", 0, channel="json")
    report = await asked(bench)
    assert (report["watching"], told(report)) == (False, [("fault", "way-dead", "mailto")])
    assert report["troubles"][0]["text"]["en"] == "1 services of mailto:// do not work: nobody would be told by them"


async def status(address: str, *options: str, token: str | None) -> Result:
    """Run `tocsin status --cloud` beside the server."""
    app = typer.Typer()
    app.command()(status_verb)
    environment = {"TOCSIN_TOKEN": token, "TOCSIN_TOKEN_FILE": None}
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, ["--cloud", address, *options], env=environment))


async def test_one_screen_says_what_is_not_watched_and_since_when(bench: Bench, figure: Set) -> None:
    """First all is well, then a gateway goes; the exit code says so, and with --json the whole report comes."""
    all_is_well(bench, figure)
    async with serving(bench.app, "127.0.0.1", 0) as (host, port):
        address, token = f"http://{host}:{port}", bench.tokens["regulator"]
        well = await status(address, token=token)
        assert well.exit_code == 0
        assert well.stdout.splitlines() == [
            f"cloud side {address}: the plant is watched",
            "alarms: works, 1 s behind, 3 messages waiting",
            "historian: works, 1 s behind, 3 messages waiting",
            "gateways: 1 of 1 there; points: 2 of 2 can be judged; 0 readings a second",
            "  tanks  2/2 points  (Tank farm)",
            "  hall  0/0 points  (Hall)",
            "messages to people: 0 waiting; failed in the last hour 0",
        ]
        bench.live.known[:] = [GatewayStatus("gw-1", "offline", START_NS - 5 * MINUTE)]
        lost = await status(address, token=token)
        assert lost.exit_code == 1
        head, trouble, *_ = lost.stdout.splitlines()
        assert head == f"cloud side {address}: THE PLANT IS NOT WATCHED AS IT SHOULD BE"
        assert trouble.startswith("  fault: Gateway Gateway 1 is away: 2 points unwatched, since ")
        assert trouble.endswith(" UTC (5 min)")
        whole = await status(address, "--json", token=token)
        assert json.loads(whole.stdout)["troubles"][0]["kind"] == "gateway-away"


async def test_a_cloud_side_whose_database_is_away_runs_and_does_not_watch(bench: Bench) -> None:
    """It makes no report then, and says why: exit 1, not the 2 of one where nobody answers."""
    async with serving(bench.app, "127.0.0.1", 0) as (host, port):
        with failing(bench.database):
            away = await status(f"http://{host}:{port}", token=bench.tokens["regulator"])
    # What the server in this process logs comes before.
    head, trouble = away.stdout.splitlines()[-2:]
    assert away.exit_code == 1
    assert head.endswith("THE PLANT IS NOT WATCHED AS IT SHOULD BE")
    assert "The cloud side is not ready: " in trouble
    assert "The database is away" in trouble


@pytest.mark.parametrize(
    "answered", ['404 Not Found|{"detail": "Not Found"}', "503 Away|<html>away</html>", "503 Away|[]", "503 Away|{}"]
)
async def test_somebody_else_who_answers_there_is_no_cloud_side(answered: str) -> None:
    """A proxy before one that is gone, or another service at that port: nothing is told of ours, which may not run."""
    said, body = answered.split("|")

    async def answer(asked: asyncio.StreamReader, answering: asyncio.StreamWriter) -> None:
        await asked.readuntil(b"\r\n\r\n")
        answering.write(f"HTTP/1.1 {said}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        answering.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = "http://{}:{}".format(*server.sockets[0].getsockname())
        found = await status(address, "--json", token="t")
    assert found.exit_code == 2
    told = json.loads(found.stdout)
    assert (told["running"], told["watching"]) == (False, False)
    assert f"it answers with {said[:3]}" in told["troubles"][0]["text"]["en"]


async def test_who_may_not_ask_and_who_does_not_answer(bench: Bench) -> None:
    """No token, a wrong one and no address are usage errors; nobody there is exit 2 and a fault like any other."""
    async with serving(bench.app, "127.0.0.1", 0) as (host, port):
        for address, token, said in (
            (f"http://{host}:{port}", "wrong", "does not take the token"),
            (f"http://{host}:{port}", None, "needs an API token"),
            ("cloud:8080", "t", "is no address"),
            ("http://[::1", "t", "Invalid IPv6 URL"),
            (f"http://{host}:{port}", "two\nlines", "holds no API token"),
            (f"http://{host}:{port}", " \n", "needs an API token"),
        ):
            refused = await status(address, token=token)
            assert refused.exit_code == 2
            assert said in refused.stderr
    gone = await status(f"http://127.0.0.1:{free_port()}", "--json", token="t")
    assert gone.exit_code == 2
    told = json.loads(gone.stdout)
    assert (told["running"], told["watching"]) == (False, False)
    assert "nobody answers" in told["troubles"][0]["text"]["en"]
