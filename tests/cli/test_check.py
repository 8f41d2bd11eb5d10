"""`tocsin check` and how the command line refuses: as a user runs it, in a process of its own."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import started, tocsin
from tocsin_core.normal import learn, model_to_bytes

GOOD = """\
tocsin: 1
site: {id: s1, name: 测试厂}
gateways:
  - id: gw
    external: true
    devices:
      - id: d1
        points:
          - {id: T-1, name: 温度, kind: temperature, alarms: {H: {setpoint: 40}}}
"""


def plant(folder: Path, text: str) -> str:
    """A plant folder with this plant.yaml."""
    (folder / "plant.yaml").write_text(text, encoding="utf-8")
    return str(folder)


def test_a_sound_plant_passes(tmp_path: Path) -> None:
    """A plant without problems exits 0 and says what it holds."""
    done = started("check", plant(tmp_path, GOOD), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "ok": True, "site": "s1", "hazard_sources": 0, "gateways": 1, "devices": 1, "points": 1, "alarms": 4,
        "untold": 3, "computed": [], "warnings": [],
    }  # fmt: skip


def test_alarms_of_which_nobody_gets_a_message_are_counted(tmp_path: Path) -> None:
    """One line before the last: those below the least priority that is told; none where all are."""
    for notify, line in (
        ("", "3 of 4 alarm definitions are below notify.min_priority (high): shown, but told to nobody by message"),
        (
            "notify: {min_priority: critical}\n",
            "4 of 4 alarm definitions are below notify.min_priority (critical): shown, but told to nobody by message",
        ),
    ):
        assert tocsin("check", plant(tmp_path, GOOD + notify)).stdout.splitlines()[:-1] == [line]
    assert "told to nobody" not in tocsin("check", plant(tmp_path, GOOD + "notify: {min_priority: low}\n")).stdout


def test_names_that_only_capitals_tell_apart_are_warned_of(tmp_path: Path) -> None:
    """Here they are two, and an upgrade silences no plant that has them; other hosts may take them for one."""
    folder = plant(tmp_path, f"{GOOD}      - id: D1\n")
    done = tocsin("check", folder)
    told = "warning: device 'D1' differs from 'd1' in capitals alone: many a Sparkplug host takes them for one"
    assert (done.returncode, told in done.stdout.splitlines()) == (0, True)


def test_a_point_that_reads_a_text_is_warned_of(tmp_path: Path) -> None:
    """A register's text is no measurement, whatever kind of point it is given."""
    read = GOOD.replace("    external: true\n", "").replace(
        "id: d1\n", "id: d1\n        profile: honeywell-sensepoint-xcd\n        modbus: {host: 127.0.0.1}\n"
    )
    warned = "warning: point T-1 reads gas_name, which is a text and never a measurement: it is always bad"
    for register, warns in (("gas_name", True), ("temperature", False)):
        text = read.replace("name: 温度, kind", f"name: 温度, register: {register}, kind")
        done = tocsin("check", plant(tmp_path, text))
        assert (done.returncode, warned in done.stdout.splitlines()) == (0, warns), done


@pytest.mark.parametrize(
    ("kind", "unit", "known", "warns"),
    [
        ("mine-co", "%", "ppm", "H 24"),
        ("mine-co", "µmol/mol", "ppm", ""),
        ("combustible-gas", "ppm", "%LEL", "HH 50, H 25"),
        ("combustible-gas", "% LEL", "%LEL", ""),
        ("combustible-gas", "ppm", "", ""),
        ("temperature", "K", "", ""),
    ],
)
def test_a_gas_in_a_unit_that_its_set_points_are_not_in_is_warned_of(
    tmp_path: Path, kind: str, unit: str, known: str, warns: str
) -> None:
    """24 ppm of carbon monoxide are 0.0024 %: by its kind's set point a point in % would never raise it."""
    own = "" if known else ", alarms: {H: {setpoint: 40}, HH: {setpoint: 50}}"
    text = GOOD.replace("kind: temperature, alarms: {H: {setpoint: 40}}", f"kind: {kind}, unit: '{unit}'{own}")
    lines = tocsin("check", plant(tmp_path, text)).stdout.splitlines()
    about = f"warning: point T-1 is in '{unit}', and its kind's set points ({warns}) are in {known}: give it its own"
    assert [line for line in lines if line.startswith("warning: ")] == ([about] if warns else [])
    assert "nothing" in lines[-1]


@pytest.mark.parametrize(("unit", "warns"), [("MPa", True), ("bar", False), ("Bar", False), ("", False)])
def test_a_point_in_another_unit_than_its_register_is_warned_of(tmp_path: Path, unit: str, *, warns: bool) -> None:
    """15 bar would be shown, and judged, as 15 MPa: what a unit says converts nothing."""
    read = GOOD.replace("    external: true\n", "").replace(
        "id: d1\n", "id: d1\n        profile: keller-33x\n        modbus: {host: 127.0.0.1}\n"
    )
    own = f"unit: {unit}, " if unit else ""
    point = f"register: pressure, {own}kind: pressure, range: [0, 60]"
    lines = tocsin("check", plant(tmp_path, read.replace("kind: temperature", point))).stdout.splitlines()
    about = f"warning: point T-1 is in '{unit}', and its register pressure in 'bar': no number is converted"
    assert [line for line in lines if line.startswith("warning: ")] == ([about] if warns else [])


@pytest.mark.parametrize(
    ("point", "told"),
    [
        ("kind: combustible-gas, alarms: {H: {setpoint: 30}}", "T-1/H at 30 is laxer than the standard's 25"),
        ("kind: combustible-gas, alarms: {H: {setpoint: 20}}", None),
        ("kind: oxygen, alarms: {L: {setpoint: 18}}", "T-1/L at 18 is laxer than the standard's 19.5"),
        ("kind: mine-methane, place: intake, alarms: {HH: {setpoint: 1.5}}", "T-1/HH at 1.5 is laxer"),
        ("kind: toxic-gas, cas: 7664-41-7, unit: mg/m3, alarms: {stel: {setpoint: 40}}", "T-1/stel at 40 is laxer"),
        ("kind: toxic-gas, cas: 7783-06-4", None),
        ("kind: temperature, alarms: {H: {setpoint: 140}}", None),
    ],
)
def test_a_set_point_laxer_than_the_standard_is_warned_of(tmp_path: Path, point: str, told: str | None) -> None:
    """With the clause, and never refused: a plant may have its reasons."""
    text = GOOD.replace("kind: temperature, alarms: {H: {setpoint: 40}}", point)
    done = tocsin("check", plant(tmp_path, text))
    warned = [line for line in done.stdout.splitlines() if "is laxer than" in line]
    assert (done.returncode, len(warned)) == (0, int(told is not None)), done.stdout
    assert told is None or f"warning: {told}" in warned[0]


def test_an_address_that_nothing_can_be_sent_to_is_warned_of(tmp_path: Path) -> None:
    """A slip in it would be seen when somebody was to be called; the address itself may hold a password."""
    people = 'people: [{id: li, name: 李娜, channels: ["mailtoo://u:secret@example.com", "json://localhost", "outbox://li"]}]\n'
    done = tocsin("check", plant(tmp_path, GOOD + people))
    told = "li: nothing can be sent to an address of mailtoo://: a slip in it, or a part of it is missing"
    assert [line for line in done.stdout.splitlines() if line.startswith("warning: ")] == [f"warning: {told}"]
    assert (done.returncode, "secret" in done.stdout) == (0, False)


@pytest.mark.parametrize(
    ("host", "warns"),
    [
        ("127.0.0.999", True),
        ("10.0.0.5:502", True),
        ("10.0.0", True),
        ("10.0.0.5", False),
        ("fe80::1", False),
        ("plc-1", False),
        ("rtu7.site.5g", False),
    ],
)
def test_a_host_that_is_no_address_is_warned_of(tmp_path: Path, host: str, *, warns: bool) -> None:
    """It passes as a name that may be known one day; a plant that ran with it does not stop at the next start."""
    read = GOOD.replace("    external: true\n", "").replace(
        "kind: temperature", "register: temperature, kind: temperature"
    )
    device = f'id: d1\n        profile: keller-33x\n        modbus: {{host: "{host}"}}\n'
    done = tocsin("check", plant(tmp_path, read.replace("id: d1\n", device)))
    about = f"warning: gateway gw: host '{host}' looks like an address and is none: nobody is reached there"
    assert [line for line in done.stdout.splitlines() if line.startswith("warning: ")] == ([about] if warns else [])
    assert done.returncode == 0


def test_an_output_that_nothing_switches_on_is_warned_of(tmp_path: Path) -> None:
    """Its gateway decides no alarm of its priority; a plant in which that is so runs all the same."""
    outputs = """
    outputs:
      - {id: S-1, kind: siren, modbus: {}, address: 0, min_priority: %s}
      - {id: S-2, kind: beacon, modbus: {}, address: 1, min_priority: low}
"""
    read = GOOD.replace("    external: true\n", "").replace("id: d1\n", "id: d1\n        mqtt: {topic: t}\n")
    read = read.replace("name: 温度, kind", "name: 温度, field: t, kind")
    for priority, warnings in (
        ("critical", ["gateway gw: siren S-1 follows no alarm that is decided there: nothing switches it on"]),
        ("low", []),
    ):
        folder = plant(tmp_path, read + outputs.lstrip("\n") % priority)
        done = tocsin("check", folder, "--json")
        assert (done.returncode, json.loads(done.stdout.splitlines()[-1])["warnings"]) == (0, warnings)
        lines = tocsin("check", folder).stdout.splitlines()
        assert [line for line in lines if line.startswith("warning: ")] == [f"warning: {each}" for each in warnings]
        assert lines[-1].endswith("nothing else is wrong" if warnings else "nothing is wrong")


def test_computed_points_are_listed_with_what_they_are_computed_of(tmp_path: Path) -> None:
    """One line each, and the model of a unit with what it was learned from."""
    rows = np.random.default_rng(1).normal(size=(300, 2))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "unit.normal").write_bytes(model_to_bytes(learn(rows, ("T-1", "T-2"), 2.0)))
    text = (
        GOOD
        + "          - {id: T-2, name: 温度, kind: temperature}\n"
        + (
            "computed:\n"
            "  - {id: V, name: V, from: {rule: vote, of: [T-1, T-2], need: 1}}\n"
            "  - {id: N, name: N, from: {rule: normal, model: unit}}\n"
        )
    )
    folder = plant(tmp_path, text)
    assert tocsin("check", folder).stdout.splitlines()[:2] == [
        "computed V, rule vote, need 1, of T-1 T-2",
        "computed N, rule normal, model unit, of T-1 T-2, learned rows 300, period s 2.0",
    ]
    assert json.loads(tocsin("check", folder, "--json").stdout.splitlines()[-1])["computed"][1] == {
        "computed": "N", "rule": "normal", "model": "unit", "of": ["T-1", "T-2"], "learned_rows": 300, "period_s": 2.0,
    }  # fmt: skip


def test_every_problem_is_listed_with_its_line(tmp_path: Path) -> None:
    """All problems come at once, each with file, line and path, and the exit code is 1."""
    broken = GOOD.replace("external: true", "extern: 1").replace("kind: temperature", "kind: heat")
    done = tocsin("check", plant(tmp_path, broken))
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[0] == "plant.yaml:5: gateways[0].extern: unknown key"
    assert lines[1].startswith("plant.yaml:9: gateways[0].devices[0].points[0].kind: ")
    assert len(lines) == 2


def test_a_broken_plant_starts_nothing(tmp_path: Path) -> None:
    """Verbs that run a plant refuse a broken one with one line and exit 2, and leave no data behind."""
    data = tmp_path / "data"
    folder = plant(tmp_path, GOOD.replace("setpoint: 40", "setpoint: 4000"))
    for verb in (["demo"], ["cloud"], ["edge", "--gateway", "gw"]):
        done = started(verb[0], folder, "--data", str(data), *verb[1:])
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        assert (
            "plant.yaml:9: gateways[0].devices[0].points[0].alarms.H: setpoint 4000 lies outside the range"
            in done.stderr
        )
        assert not data.exists()


def test_wrong_words_get_one_line(tmp_path: Path) -> None:
    """An unknown verb, a missing folder and a missing argument each get one line on stderr and exit 2."""
    for words in (["bogus"], ["check", str(tmp_path / "nowhere")], ["check"], ["demo", "--seconds", "soon"]):
        done = tocsin(*words)
        assert done.returncode == 2
        assert done.stderr.startswith("tocsin: ")
        assert done.stderr.count("\n") == 1
