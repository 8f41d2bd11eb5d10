"""The whole chain as users start it: the incident in figures, under kill -9, over two runs, on recorded data."""

import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

from tests.support.demo import Demo, report_of, running_demo
from tests.support.need import need_data
from tests.support.wait import eventually

INCIDENT_S = 75


def finish(demo: Demo, limit_s: float) -> dict[str, Any]:
    """Wait for the demo's own end and read its report."""
    demo.process.wait(limit_s)
    assert demo.process.returncode == 0, (demo.data.parent / "demo.err").read_text() + demo.log()
    return report_of(demo.data)


def assert_no_alarm_twice(report: dict[str, Any]) -> None:
    """No alarm may stand in the report twice with the same onset."""
    alarms = report["alarms"]
    twice = [key for key, count in Counter((row["alarm"], row["raised_at"]) for row in alarms).items() if count > 1]
    assert not twice


def kill_and_await(demo: Demo, name: str) -> None:
    """Kill a process with -9 and wait until the supervisor has started another in its place."""
    before = demo.children()[name].pid
    demo.kill(name)

    def again() -> bool:
        now = demo.children().get(name)
        return now is not None and now.pid != before

    eventually(again)


@pytest.mark.timeout(240)
def test_the_incident_from_calm_to_message(tmp_path: Path) -> None:
    """A leak leads to an early warning, level 1, level 2, one ticket and a message; nothing else alarms or is lost."""
    with running_demo(tmp_path / "data", "--headless", "--seconds", str(INCIDENT_S), "--json") as demo:
        report = finish(demo, INCIDENT_S + 90)
    assert report["points"] >= 60
    assert report["gateways"] == 2
    assert report["readings_polled"] > 60 * INCIDENT_S * 0.5
    assert report["readings_lost"] == 0
    assert report["readings_stored"] == report["readings_polled"]
    assert report["early_warning_lead_s"] > 0
    assert report["tickets_opened"] == 1
    assert report["messages_delivered"] >= 1
    assert report["restarts"] == 0
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    by_point: dict[str, list[str]] = {}
    for row in sorted(report["alarms"], key=lambda row: row["raised_at"]):
        assert row["point"].startswith("NH3-"), f"a quiet plant alarmed: {row}"
        by_point.setdefault(row["point"], []).append(row["kind"])
    assert any(kinds[:3] == ["time-to-limit", "H", "HH"] for kinds in by_point.values()), by_point
    assert_no_alarm_twice(report)


@pytest.mark.timeout(300)
def test_kill_9_in_the_middle_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Gateway, cloud side and broker are killed in the incident; every reading and alarm is there, and once."""
    with running_demo(tmp_path / "data", "--headless", "--seconds", "90", "--json") as demo:
        demo.sign_in()
        eventually(lambda: (demo.try_get("kpi") or {}).get("alarms_raised"), timeout_s=70)
        for name in ("gw-tank-farm", "cloud", "broker", "page", "cloud"):
            kill_and_await(demo, name)
            eventually(demo.ready, timeout_s=30)
        report = finish(demo, 150)
        log = demo.log()
    assert report["restarts"] >= 5
    assert report["readings_lost"] == 0, log
    assert report["readings_waiting"] == 0, log
    assert_no_alarm_twice(report)
    raised = [row["alarm"] for row in report["alarms"] if row["kind"] in ("H", "HH")]
    assert raised, log
    assert len(raised) == len(set(raised)), f"an alarm was raised twice in one incident: {raised}"
    assert report["tickets_opened"] == 1
    with duckdb.connect(str(tmp_path / "data" / "history.duckdb"), read_only=True) as history:
        computed = history.execute(
            "SELECT count(*), count(DISTINCT time_ns) FROM readings JOIN points ON key = point WHERE id = 'NH3-TANK-2'"
        ).fetchone()
    assert computed is not None
    assert computed[0] == computed[1] > INCIDENT_S, "what was computed is stored, and once"


@pytest.mark.timeout(180)
def test_ctrl_c_ends_everything_and_a_second_start_goes_on(tmp_path: Path) -> None:
    """Ctrl-C ends every process within 5 seconds; the next start on the same data has the readings of the first."""
    with running_demo(tmp_path / "data", "--headless") as demo:
        demo.sign_in()
        first = str(eventually(lambda: (demo.try_get("points/NH3-101") or {}).get("time"), timeout_s=40))
        children = list(demo.children().values())
        assert len(children) == 6
        pressed = time.monotonic()
        demo.interrupt()
        demo.process.wait(60)
        # And what a busy machine adds.
        assert time.monotonic() - pressed < 5 + 10
        assert demo.process.returncode == 0
        assert not [child for child in children if psutil.pid_exists(child.pid)]
    with running_demo(tmp_path / "data", "--headless") as demo:
        demo.sign_in()
        at = datetime.fromisoformat(first)
        span = {"start": first, "end": at.replace(year=at.year + 1).isoformat()}
        # What was shown a moment before the end may be stored only now.
        eventually(lambda: first in demo.get("points/NH3-101/readings", **span)["time"])


@pytest.mark.timeout(180)
def test_two_demos_on_one_folder_are_refused(tmp_path: Path) -> None:
    """A second demo on the same data gets one clear line and exit 2, and the first goes on."""
    with running_demo(tmp_path / "data", "--headless") as demo:
        demo.sign_in()
        with running_demo(tmp_path / "data", "--headless") as second:
            assert second.process.wait(30) == 2
        assert "another demo is running on" in (tmp_path / "demo.err").read_text()
        assert demo.ready()


@pytest.mark.timeout(240)
def test_recorded_plant_data_runs_through_the_whole_chain(tmp_path: Path) -> None:
    """A recorded pump loop is served as Modbus registers, polled, stored as recorded, and alarmed."""
    recorded = need_data("skab") / "valve1" / "1.csv"
    with running_demo(
        tmp_path / "data", "--play", str(recorded), "--speed", "10", "--headless", "--seconds", "60", "--json"
    ) as demo:
        demo.sign_in()
        rows = recorded.read_text().splitlines()
        header, values = rows[0].split(";"), [row.split(";") for row in rows[1:]]
        column = header.index("Temperature")
        known = {round(float(row[column]), 3) for row in values}
        points = {point["name"]["en"]: point["id"] for point in demo.get("points")}
        pressure = next(id_ for name, id_ in points.items() if "temperature" in name.lower())
        eventually(lambda: (demo.try_get(f"points/{pressure}") or {}).get("value") is not None, timeout_s=40)
        now = demo.get(f"points/{pressure}")
        assert now["quality"] == 192
        assert any(abs(now["value"] - value) < 1e-2 for value in known)
        report = finish(demo, 150)
    assert report["readings_lost"] == 0
    assert report["readings_stored"] == report["readings_polled"] > 0
    assert report["alarms"], "the closing valve is to be noticed"


@pytest.mark.timeout(240)
def test_a_cut_link_loses_nothing(tmp_path: Path) -> None:
    """While its link is cut a gateway is shown as gone; afterwards everything it read has arrived."""
    options = ("--scenario", "link-cut", "--headless", "--seconds", "105", "--json")
    with running_demo(tmp_path / "data", *options) as demo:
        demo.sign_in()

        def state() -> str:
            gateways: list[dict[str, Any]] = demo.try_get("gateways") or []
            return next((row["state"] for row in gateways if row["id"] == "gw-compressor"), "unknown")

        eventually(lambda: state() == "online", timeout_s=40)
        eventually(lambda: state() == "offline", timeout_s=60)
        eventually(lambda: state() == "online", timeout_s=90)
        report = finish(demo, 150)
    assert report["readings_lost"] == 0, demo.data
    assert report["readings_waiting"] == 0
    assert report["readings_stored"] == report["readings_polled"]


@pytest.mark.timeout(200)
def test_another_plant_runs_with_its_own_scenario(tmp_path: Path) -> None:
    """A coal mine face: the gas surge that is its default is foreseen, then raised at the face."""
    plant = Path(__file__).resolve().parents[2] / "simulators" / "plants" / "coal-mine-face"
    with running_demo(tmp_path / "data", str(plant), "--headless", "--seconds", "60", "--json") as demo:
        report = finish(demo, 130)
    assert report["gateways"] == 1
    assert report["readings_lost"] == 0
    assert report["early_warning_lead_s"] > 0
    assert {"time-to-limit", "H"} <= {row["kind"] for row in report["alarms"]}
