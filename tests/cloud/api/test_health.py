"""The health report and `tocsin status --cloud`: watched or not, what is not, and since when."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import typer
from prometheus_client import Gauge
from typer.testing import CliRunner, Result

from tests.cloud.api.conftest import Bench
from tests.cloud.api.stand_ins import START_NS, occurrence
from tests.support.database import failing
from tests.support.ports import free_port
from tocsin_cli.status import status as status_verb
from tocsin_cloud.api.model import rfc3339
from tocsin_cloud.api.ports import ClockStatus, GatewayStatus, SliceStatus
from tocsin_cloud.api.server import serving
from tocsin_core.readings import BAD_COMM_FAILURE
from tocsin_core.rules import NS

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


async def test_who_may_not_ask_and_who_does_not_answer(bench: Bench) -> None:
    """No token, a wrong one and no address are usage errors; nobody there is exit 2 and a fault like any other."""
    async with serving(bench.app, "127.0.0.1", 0) as (host, port):
        for address, token, said in (
            (f"http://{host}:{port}", "wrong", "does not take the token"),
            (f"http://{host}:{port}", None, "needs an API token"),
            ("cloud:8080", "t", "is no address"),
        ):
            refused = await status(address, token=token)
            assert refused.exit_code == 2
            assert said in refused.stderr
    gone = await status(f"http://127.0.0.1:{free_port()}", "--json", token="t")
    assert gone.exit_code == 2
    told = json.loads(gone.stdout)
    assert (told["running"], told["watching"]) == (False, False)
    assert "nobody answers" in told["troubles"][0]["text"]["en"]
