"""`tocsin plan` as a user runs it: the requests of a gateway, what they cost, and how busy its lines are."""

import json
from pathlib import Path
from typing import Final

import pytest

from tests.cli.command import started, tocsin
from tests.cli.test_check import plant
from tests.support.need import ROOT

AMMONIA: Final = str(ROOT / "simulators" / "plants" / "ammonia-refrigeration")
HEAD: Final = "tocsin: 1\nsite: {id: s1, name: 测试厂}\n"
SERIAL: Final = (
    HEAD
    + """\
gateways:
  - id: gw
    devices:
      - id: d1
        profile: slow
        modbus: {serial: {port: /dev/ttyUSB0, baud: 9600}, unit: 1}
        period_ms: 500
        points:
          - {id: P-1, name: 压力, kind: pressure, unit: bar, range: [0, 10], register: a, alarms: {H: {setpoint: 5}}}
          - {id: P-2, name: 压力, kind: pressure, unit: bar, range: [0, 10], register: b, alarms: {H: {setpoint: 5}}}
      - id: d2
        profile: slow
        modbus: {serial: {port: /dev/ttyUSB0, baud: 9600}, unit: 2}
        points:
          - {id: P-3, name: 压力, kind: pressure, unit: bar, range: [0, 10], register: c, alarms: {HH: {setpoint: 8}}}
  - id: theirs
    external: true
  - id: idle
"""
)
SLOW: Final = """\
vendor: test
model: test
trust: documented
source: this test
limits: {pause_ms: 400}
values:
  a: {address: 0, type: f32}
  b: {address: 100, type: f32}
  c: {function: 4, address: 7, type: f32}
"""


@pytest.fixture
def serial(tmp_path: Path) -> str:
    """A plant with two units on one line of 9600 baud 8N1."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "slow.yaml").write_text(SLOW, encoding="utf-8")
    return plant(tmp_path, SERIAL)


def test_each_request_has_its_line(serial: str) -> None:
    """Connection, unit, function, addresses, what is wanted and wasted, cost, and how busy the line is."""
    done = started("plan", serial, "--gateway", "gw")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "connection    unit  device  for     fc  addresses  wanted  wasted  cost ms  every s  use %",
        "/dev/ttyUSB0     1  d1               3  0-101           4      98    253.3      0.5   50.7",
        "/dev/ttyUSB0     2  d2      safety   4  7-8             2       0     45.0        1    4.5",
        "/dev/ttyUSB0: units 2, requests 2, busy 55.2 % of the time (by its own bit rate)",
        "d1: one pass takes 0.7 s with the pauses that the device wants: longer than its period of 0.5 s",
    ]


def test_a_line_that_cannot_keep_up_is_named(serial: str) -> None:
    """More than all of a line's time is asked for: it is said, and the plan is still printed."""
    path = Path(serial) / "plant.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("period_ms: 500", "period_ms: 250"), encoding="utf-8")
    done = tocsin("plan", serial, "--gateway", "gw", "--json")
    assert done.returncode == 0
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["connections"] == [
        {"connection": "/dev/ttyUSB0", "serial": True, "units": 2, "requests": 2, "use_percent": 105.83}
    ]
    assert (
        result["warnings"][0] == "/dev/ttyUSB0: its devices ask for more than the line can give: periods will stretch"
    )


def test_the_requests_are_data_too() -> None:
    """With --json the last line holds every request of the shipped plant's gateway and its line's load."""
    done = tocsin("plan", AMMONIA, "--gateway", "gw-compressor", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert {row["device"] for row in result["requests"]} >= {"GC-310", "NH3-304"}
    for row in result["requests"]:
        assert row["wanted"] + row["wasted"] == row["last"] - row["first"] + 1
        assert row["cost_ms"] == pytest.approx(10 + (row["last"] - row["first"] + 1) / 2)
    for line in result["connections"]:
        rows = [row for row in result["requests"] if row["connection"] == line["connection"]]
        assert line["requests"] == len(rows)
        assert line["use_percent"] == pytest.approx(sum(row["use_percent"] for row in rows), abs=0.1)


def test_a_gateway_without_modbus_asks_nothing(serial: str) -> None:
    """An idle gateway has an empty plan."""
    done = tocsin("plan", serial, "--gateway", "idle")
    assert done.stdout == "gateway idle reads no Modbus device\n"


@pytest.mark.parametrize(("gateway", "said"), [("nobody", "no gateway 'nobody'"), ("theirs", "is external")])
def test_a_gateway_that_is_not_ours_is_a_wrong_argument(serial: str, gateway: str, said: str) -> None:
    """One line on stderr, exit 2."""
    done = tocsin("plan", serial, "--gateway", gateway)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_all_that_may_ever_be_written_is_listed() -> None:
    """Each output with its address, its two values and how many alarms it follows."""
    done = tocsin("plan", AMMONIA, "--gateway", "gw-tank-farm", "--json")
    assert done.returncode == 0
    siren, beacon = json.loads(done.stdout.splitlines()[-1])["writes"]
    assert {key: siren[key] for key in ("unit", "function", "address", "on", "off")} == {
        "unit": 1,
        "function": 5,
        "address": 0,
        "on": 1,
        "off": 0,
    }
    assert siren["alarms"] == beacon["alarms"] > 0
    assert f"siren tank-farm-siren: writes 1 or 0 to {siren['connection']}, unit 1, function 5" in done.stdout


def test_an_output_that_follows_nothing_is_told(tmp_path: Path) -> None:
    """No point of its gateway belongs to what it is for."""
    siren = "    outputs: [{id: S, kind: siren, modbus: {port: 503}, address: 0, sources: [yard]}]\n"
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "slow.yaml").write_text(SLOW, encoding="utf-8")
    text = SERIAL.replace(HEAD, f"{HEAD}hazard_sources: [{{id: yard, name: Yard}}]\n")
    folder = plant(tmp_path, text.replace("  - id: gw\n", f"  - id: gw\n{siren}"))
    done = tocsin("plan", folder, "--gateway", "gw")
    assert "siren S: follows no alarm that this gateway decides" in done.stdout
