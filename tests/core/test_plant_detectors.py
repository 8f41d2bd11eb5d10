"""Holds what a plant file says beyond limits and trends: the mistakes named, the defaults of kinds, rules and norms."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import inf, isnan, nextafter, sqrt
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.core.test_plant import folder_of, load_or_refuse, mutants, point_of, problems_of
from tocsin_core.detectors.change import Calibration
from tocsin_core.normal import learn, model_from_bytes, model_to_bytes
from tocsin_core.plant import AlarmDefinition, AlarmKind, Plant, PlantPoint, Priority, load_plant
from tocsin_core.plant.calibrations import CalibrationsError, calibrations_from_json, calibrations_to_json
from tocsin_core.plant.computing import GATEWAY
from tocsin_core.plant.model import WHOLE_WORD
from tocsin_core.plant.standards import PRIORITY, STEL_MG_M3

RICH: Final = """\
tocsin: 1
site: {id: site, name: {zh: 厂区, en: Site}}
hazard_sources:
  - {id: farm, name: 罐区}
gateways:
  - id: gw
    devices:
      - id: unit
        mqtt: {topic: unit}
        points:
        - {id: FT-1, name: F, kind: flow, field: f, alarms: {L: {setpoint: 9, suppressed_by: {point: P-1, equals: 0}}}}
        - {id: FT-2, name: F, kind: flow, field: f2, alarms: {loop: {}, stuck: {}, spike: {}, cusum: {}, ewma: {}}}
        - {id: LT-1, name: L, kind: tank-level, field: l, alarms: {H: {setpoint: 80}, HH: {setpoint: 90}}}
        - {id: TT-1, name: T, kind: temperature, field: t}
        - {id: P-1, name: P, kind: status, field: p}
      - id: gas
        mqtt: {topic: gas}
        period_ms: 3000
        points:
          - id: GT-1
            name: G
            kind: toxic-gas
            cas: "7664-41-7"
            field: g1
            status: {point: GS-1, flags: {warm_up: [4]}}
          - {id: GT-2, name: G, kind: toxic-gas, cas: "7664-41-7", field: g2}
          - {id: GT-3, name: G, kind: toxic-gas, cas: "7664-41-7", field: g3, alarms: {stale: {after_s: 60}}}
          - {id: GS-1, name: S, kind: status, field: s}
      - id: pond
        mqtt: {topic: pond}
        period_ms: 600000
        points:
          - {id: WL-1, name: W, kind: pond-level, field: w1, alarms: {blue: {setpoint: 14}, red: {setpoint: 15}}}
          - {id: BL-1, name: B, kind: beach-length, field: b1, alarms: {blue: {setpoint: 90}, red: {setpoint: 60}}}
          - {id: DX-1, name: D, kind: generic, field: d1, alarms: {blue: {setpoint: 9}, red: {setpoint: 5}}}
computed:
  - id: GV
    name: {zh: 氨表决, en: Vote}
    kind: toxic-gas
    source: farm
    from: {rule: vote, of: [GT-1, GT-2, GT-3], need: 2}
  - {id: GM, name: M, from: {rule: median, of: [GT-1, GT-2]}}
  - {id: GD, name: D, from: {rule: spread, of: [GT-1, GT-2]}, alarms: {H: {setpoint: 10}}}
  - id: TB
    name: B
    from:
      rule: balance
      level: LT-1
      temperature: TT-1
      inflow: [FT-1]
      outflow: [FT-2]
      table: [[0, 0], [5, 400], [10, 900]]
      density: 750
  - {id: PG, name: G, from: {rule: grade, items: [[WL-1, DX-1], [BL-1]]}}
  - {id: UN, name: N, from: {rule: normal, model: unit}}
  - {id: UQ, name: Q, from: {rule: normal, model: unit, show: q}}
first_out:
  - {id: trip, name: Trip, alarms: [LT-1/HH, GT-1/HH]}
"""
CHARTS: Final = Calibration(
    mean=50.0,
    sigma=1.5,
    rho=0.3,
    left=0.01,
    step_s=10.0,
    k=0.5,
    h=9.0,
    cusum_per_week=0.1,
    weight=0.1,
    width=4.1,
    ewma_per_week=0.1,
)


@cache
def model_bytes(names: tuple[str, ...] = ("FT-1", "LT-1", "TT-1")) -> bytes:
    """A model of three points, learned from noise."""
    rows = np.random.default_rng(1).normal(size=(400, len(names)))
    rows[:, 2] += rows[:, 0]
    return model_to_bytes(learn(rows, names, 1.0))


def rich(tmp_path: Path, text: str = RICH, model: bytes | None = None, charts: str | bytes | None = None) -> Path:
    """A plant folder with `text`, a model `unit` of it and the charts of FT-2."""
    (tmp_path / "models").mkdir(exist_ok=True)
    (tmp_path / "models" / "unit.normal").write_bytes(model_bytes() if model is None else model)
    known = calibrations_to_json({"FT-2": CHARTS}) if charts is None else charts
    (tmp_path / "calibrations.json").write_bytes(known.encode() if isinstance(known, str) else known)
    return folder_of(tmp_path, text)


def named(plant: Plant, point: str) -> PlantPoint:
    """The point called `point`."""
    return plant.points[plant.point_index[point]]


def alarm(point: PlantPoint, kind: str) -> AlarmDefinition:
    """Its definition of `kind`."""
    return next(definition for definition in point.definitions if definition.kind.value == kind)


def kinds(point: PlantPoint) -> list[str]:
    """The kinds of its definitions."""
    return [definition.kind.value for definition in point.definitions]


def test_computed_points_come_last_and_belong_to_no_gateway(tmp_path: Path) -> None:
    """Their gateway and device stand for none; their period is that of the fastest member."""
    plant = load_plant(rich(tmp_path))
    measured, computed = plant.points[:12], plant.points[12:]
    assert [point.index for point in plant.points] == list(range(19))
    assert all(point.compute is None for point in measured)
    assert [point.id for point in computed] == ["GV", "GM", "GD", "TB", "PG", "UN", "UQ"]
    assert {point.gateway.id for point in computed} == {point.device.id for point in computed} == {GATEWAY.id}
    assert [point.device.period_ms for point in computed] == [3000, 3000, 3000, 1000, 600_000, 1000, 1000]
    assert list(plant.models) == ["unit"]
    assert plant.first_out == {"trip": ("LT-1/HH", "GT-1/HH")}
    assert named(plant, "GV").source == "farm"


def test_a_reading_is_used_as_long_as_its_point_is_not_stale(tmp_path: Path) -> None:
    """Five periods and at least ten seconds, or what its own alarm says; computed: that of the slowest member."""
    plant = load_plant(rich(tmp_path))
    longest = {point.id: point.longest_s for point in plant.points}
    assert (longest["FT-1"], longest["GT-1"], longest["GT-3"], longest["WL-1"]) == (10.0, 15.0, 60.0, 3000.0)
    assert (longest["GV"], longest["GM"], longest["TB"], longest["PG"], longest["UN"]) == (
        60.0,
        15.0,
        10.0,
        3000.0,
        10.0,
    )
    assert alarm(named(plant, "GT-1"), "stel").hold_s == 15.0
    assert alarm(named(plant, "GT-3"), "twa").hold_s == 60.0


def test_a_vote_and_a_median_are_shown_and_alarmed_as_their_members(tmp_path: Path) -> None:
    """Unit, range and digits are theirs; a kind brings the limits of their gas, but no dose of its own."""
    plant = load_plant(rich(tmp_path))
    vote, median = named(plant, "GV"), named(plant, "GM")
    for point in (vote, median):
        assert (point.unit, point.low, point.high, point.decimals) == ("ppm", 0.0, 84.0, 1)
    assert [(d.kind.value, d.setpoint) for d in vote.definitions] == [
        ("HH", 56.0),
        ("H", 28.0),
        ("time-to-limit", 28.0),
        ("bad", pytest.approx(float("nan"), nan_ok=True)),
    ]
    assert kinds(median) == ["bad"]
    assert [(d.on_delay_s, d.priority) for d in vote.definitions if d.kind is AlarmKind.BAD] == [(4.5, Priority.MEDIUM)]


def test_a_low_vote_has_the_low_limits_of_its_kind(tmp_path: Path) -> None:
    """Of oxygen's two limits a vote of the low side has the low one, one of the high side the high one."""
    text = RICH.replace("kind: temperature, field: t", "kind: oxygen, field: t").replace(
        "kind: flow, field: f2, alarms: {loop: {}, stuck: {}, spike: {}, cusum: {}, ewma: {}}",
        "kind: oxygen, field: f2",
    )
    text = text.replace("temperature: TT-1", "window_h: 1").replace("outflow: [FT-2]", "outflow: []")
    for side, limit in (("low", "L"), ("high", "H")):
        rule = f"{{rule: vote, of: [TT-1, FT-2], need: 1, side: {side}}}"
        vote = f"computed:\n  - {{id: V, name: V, kind: oxygen, from: {rule}}}"
        plant = load_plant(rich(tmp_path, text.replace("computed:", vote)))
        assert [kind for kind in kinds(named(plant, "V")) if kind in ("H", "L")] == [limit]


def test_a_limit_on_a_vote_waits_for_its_slowest_member(tmp_path: Path) -> None:
    """Whether the kind or the plant file brings it; the plant file's delay goes before, and a longer one stays."""
    vote = named(load_plant(rich(tmp_path)), "GV")
    assert {kind: alarm(vote, kind).on_delay_s for kind in ("H", "HH", "time-to-limit")} == {
        "H": 3.0,
        "HH": 3.0,
        "time-to-limit": 2.0,
    }
    text = RICH.replace("  - {id: GM, name: M, from: {rule: median, of: [GT-1, GT-2]}}\n", "%s")
    more = (
        "  - {id: V, name: V, from: {rule: vote, of: [P-1, DX-1], need: 1}, range: [0, 20],"
        " alarms: {H: {setpoint: 9}, red: {setpoint: 12}}}\n"
        "  - {id: OWN, name: V, kind: toxic-gas, from: {rule: vote, of: [GT-1, GT-2], need: 1},"
        " alarms: {H: {on_delay_s: 1}}}\n"
        "  - {id: WIND, name: V, kind: mine-wind, unit: m/s, range: [0, 15],"
        " from: {rule: vote, of: [GT-1, GT-2], need: 1}}\n"
        "  - {id: GM, name: M, from: {rule: median, of: [GT-1, GT-2]}, alarms: {H: {setpoint: 9}}}\n"
    )
    plant = load_plant(rich(tmp_path, text % more))
    slow = named(plant, "V")
    assert [(d.kind.value, d.on_delay_s) for d in slow.definitions if d.kind.value != "bad"] == [
        ("H", 600.0),
        ("red", 600.0),
    ]
    assert slow.device.period_ms == 1000
    assert (alarm(named(plant, "OWN"), "H").on_delay_s, alarm(named(plant, "OWN"), "HH").on_delay_s) == (1.0, 3.0)
    assert alarm(named(plant, "WIND"), "H").on_delay_s == 15.0
    assert alarm(named(plant, "GM"), "H").on_delay_s == 0.0


def test_each_rule_brings_its_alarms(tmp_path: Path) -> None:
    """Spread: on request, half the band back after a minute; balance 3 sigma; grade 1 to 4; score or statistic."""
    plant = load_plant(rich(tmp_path))
    apart = alarm(named(plant, "GD"), "H")
    assert (apart.deadband, apart.on_delay_s, apart.off_delay_s, apart.priority) == (5.0, 60.0, 0.0, Priority.MEDIUM)
    assert (named(plant, "GD").low, named(plant, "GD").high) == (0.0, 84.0)
    balance = named(plant, "TB")
    assert (balance.unit, balance.decimals) == ("σ", 1)
    assert [(d.kind.value, d.setpoint, d.deadband, d.side, d.priority.value) for d in balance.definitions] == [
        ("H", 3.0, 1.0, 1, "medium"),
        ("L", -3.0, 1.0, -1, "medium"),
    ]
    grade = named(plant, "PG")
    assert [(d.kind.value, d.setpoint, d.deadband, d.on_delay_s, d.off_delay_s, d.side) for d in grade.definitions] == [
        ("red", 4.0, 0.0, 0.0, 0.0, 1),
        ("orange", 3.0, 0.0, 0.0, 0.0, 1),
        ("yellow", 2.0, 0.0, 0.0, 0.0, 1),
        ("blue", 1.0, 0.0, 0.0, 0.0, 1),
    ]
    assert (grade.low, grade.high, grade.decimals) == (0.0, 4.0, 0)
    (score,) = named(plant, "UN").definitions
    assert (score.kind, score.priority, score.on_delay_s, score.off_delay_s) == (
        AlarmKind.ABNORMAL,
        Priority.MEDIUM,
        0.0,
        0.0,
    )
    (statistic,) = named(plant, "UQ").definitions
    assert (statistic.kind, statistic.setpoint, statistic.deadband, statistic.off_delay_s) == (
        AlarmKind.H,
        1.0,
        0.1,
        0.0,
    )


def test_a_computed_point_is_told_bad_or_stale_only_where_it_is_asked_for(tmp_path: Path) -> None:
    """Its members' instrument alarms speak for it; a vote and a median are told bad unless that is taken away."""
    plant = load_plant(rich(tmp_path))
    blind = [p.id for p in plant.points if p.compute is not None and {"bad", "stale"} & set(kinds(p))]
    assert blind == ["GV", "GM"]
    text = RICH.replace("alarms: {H: {setpoint: 10}}", "alarms: {H: {setpoint: 10}, bad: {}, stale: {}}")
    text = text.replace("of: [GT-1, GT-2]}}\n", "of: [GT-1, GT-2]}, alarms: {bad: false}}\n")
    plant = load_plant(rich(tmp_path, text))
    assert named(plant, "GM").definitions == ()
    assert [(d.kind.value, d.on_delay_s, d.after_s) for d in named(plant, "GD").definitions if d.kind.value != "H"] == [
        ("bad", 4.5, 86_400.0),
        ("stale", 0.0, 15.0),
    ]


@pytest.mark.parametrize(
    ("cas", "unit", "stel", "twa"),
    [
        ("7664-41-7", "ppm", 42.0, 28.0),  # ammonia: 30 and 20 mg/m3
        ("7664-41-7", "mg/m3", 30.0, 20.0),
        ("630-08-0", "ppm", 26.0, 17.0),  # carbon monoxide: 30 and 20 mg/m3
        ("7783-06-4", "ppm", None, None),  # hydrogen sulfide has a MAC
        ("7664-41-7", "VOL", None, None),
    ],
)
def test_a_toxic_gas_has_the_doses_of_gbz_2_1(
    cas: str, unit: str, stel: float | None, twa: float | None, tmp_path: Path
) -> None:
    """PC-STEL and PC-TWA in the point's unit, 5 % deadband, with their clause; no peaks, for all have a PC-STEL."""
    point = point_of(tmp_path, f'kind: toxic-gas, cas: "{cas}", unit: {unit}, range: [0, 300]')
    doses = {d.kind.value: d for d in point.definitions if d.kind in (AlarmKind.STEL, AlarmKind.TWA, AlarmKind.PEAKS)}
    assert {kind: d.setpoint for kind, d in doses.items()} == ({"stel": stel, "twa": twa} if stel else {})
    for each in doses.values():
        assert each.deadband == pytest.approx(0.05 * each.setpoint)
        assert (each.on_delay_s, each.off_delay_s, each.priority, each.hold_s) == (0.0, 0.0, Priority.MEDIUM, 10.0)
        assert each.clause is not None
        assert "GBZ 2.1-2019" in each.clause.en


def test_the_unit_of_a_profile_chooses_the_limits_too(tmp_path: Path) -> None:
    """28 ppm of ammonia are its 20 mg/m3: a register map in mg/m3 gets the latter."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "own.yaml").write_text(
        "vendor: V\nmodel: M\ntrust: reported\nsource: our own\nvalues:\n  gas: {address: 0, type: u16, unit: mg/m3}\n",
        encoding="utf-8",
    )
    text = """\
tocsin: 1
site: {id: site, name: Site}
gateways:
  - id: gw
    devices:
      - id: d
        profile: own
        modbus: {host: 10.0.0.5}
        points: [{id: P, name: P, kind: toxic-gas, cas: "7664-41-7", register: gas}]
"""
    point = load_plant(folder_of(tmp_path, text)).points[0]
    assert (point.unit, point.high) == ("mg/m3", 60.0)
    assert {d.kind.value: d.setpoint for d in point.definitions}.items() >= {("H", 20.0), ("stel", 30.0), ("twa", 20.0)}


def test_a_substance_without_stel_has_the_rule_of_peaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of those shipped: so it is tried with the PC-STEL of ammonia taken away."""
    monkeypatch.delitem(STEL_MG_M3, "7664-41-7")
    point = point_of(tmp_path, 'kind: toxic-gas, cas: "7664-41-7"')
    assert alarm(point, "peaks").setpoint == 28.0
    assert "stel" not in kinds(point)
    assert alarm(point, "peaks").deadband == 0.0


def test_a_dose_may_be_asked_for_with_a_set_point_of_ones_own(tmp_path: Path) -> None:
    """Whatever the kind; then no clause is cited."""
    point = point_of(
        tmp_path, "kind: mine-co, alarms: {stel: {setpoint: 26}, twa: {setpoint: 17}, peaks: {setpoint: 17}}"
    )
    assert [(d.setpoint, d.clause) for d in point.definitions if d.kind.value in ("stel", "twa", "peaks")] == [
        (26.0, None),
        (17.0, None),
        (17.0, None),
    ]


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("kind: pond-level, alarms: {red: {setpoint: 15}}", 1),
        ("kind: beach-length, alarms: {red: {setpoint: 60}}", -1),
        ("kind: freeboard, alarms: {blue: {setpoint: 3}, red: {setpoint: 1}}", -1),
        ("kind: phreatic-line, alarms: {orange: {setpoint: 11}, red: {setpoint: 10}}", -1),
        ("kind: displacement, alarms: {yellow: {setpoint: 20}, red: {setpoint: 80}}", 1),
        ("kind: generic, alarms: {yellow: {setpoint: 20}, red: {setpoint: 80}}", 1),
        ("kind: generic, alarms: {yellow: {setpoint: 80}, red: {setpoint: 20}}", -1),
        ("kind: generic, alarms: {red: {setpoint: 20, side: low}}", -1),
        ("kind: beach-length, alarms: {red: {setpoint: 60, side: high}}", 1),
        ("kind: generic, alarms: {red: {setpoint: 20, side: low}, time-to-limit: {limit: red}}", -1),
    ],
)
def test_the_side_of_grades_is_known_from_kind_order_or_word(text: str, side: int, tmp_path: Path) -> None:
    """What is said goes before the kind; a warning has the side of the grade that it foresees."""
    found = [d for d in point_of(tmp_path, text).definitions if d.kind.value not in ("bad", "stale")]
    assert {d.side for d in found} == {side}
    assert {d.kind.value: d.priority.value for d in found}.items() <= {
        ("red", "critical"),
        ("orange", "high"),
        ("yellow", "medium"),
        ("blue", "low"),
        ("time-to-limit", "medium"),
    }


@pytest.mark.parametrize("kind", ["pond-level", "beach-length", "freeboard", "phreatic-line", "displacement"])
def test_no_kind_of_a_tailings_pond_brings_a_set_point(kind: str, tmp_path: Path) -> None:
    """GB 39496-2020 5.5.4: the designer gives the values; the deadband, 0.5 % of the range, is ours."""
    assert kinds(point_of(tmp_path, f"kind: {kind}")) == ["bad", "stale"]
    red = alarm(point_of(tmp_path, f"kind: {kind}, range: [0, 10], alarms: {{red: {{setpoint: 5}}}}"), "red")
    assert red.deadband == pytest.approx(0.05)


def test_instruments_are_watched_on_request(tmp_path: Path) -> None:
    """Loop by the range, stuck by the last digit and a window of ten periods, spike for five minutes."""
    point = point_of(tmp_path, "kind: flow, range: [0, 40], decimals: 1, alarms: {loop: {}, stuck: {}, spike: {}}")
    loop, stuck, spike = (alarm(point, kind) for kind in ("loop", "stuck", "spike"))
    assert (loop.low, loop.high, loop.on_delay_s, loop.off_delay_s, loop.priority) == (
        0.0,
        40.0,
        4.0,
        5.0,
        Priority.LOW,
    )
    assert (stuck.window_s, stuck.on_delay_s, stuck.off_delay_s) == (600.0, 0.0, 0.0)
    assert stuck.floor == spike.floor == pytest.approx(0.1 / sqrt(12))
    assert isnan(stuck.zero)
    assert (spike.on_delay_s, spike.off_delay_s, spike.priority) == (0.0, 300.0, Priority.LOW)
    slow = point_of(tmp_path, "kind: flow, alarms: {stuck: {window_s: 60, floor: 0}}")
    assert (alarm(slow, "stuck").window_s, alarm(slow, "stuck").floor) == (60.0, 0.0)


@pytest.mark.parametrize(
    ("text", "zero", "band"),
    [
        ('kind: toxic-gas, cas: "7783-06-4", range: [0, 50]', 0.0, 0.5),
        ("kind: combustible-gas", 0.0, 1.0),
        ("kind: oxygen", 20.9, 0.25),
    ],
)
def test_a_gas_detector_in_clean_air_is_not_stuck(text: str, zero: float, band: float, tmp_path: Path) -> None:
    """Zero, or for oxygen what the air has of it, give or take 1 % of the range; its fault is of medium priority."""
    stuck = alarm(point_of(tmp_path, f"{text}, alarms: {{stuck: {{}}}}"), "stuck")
    assert (stuck.zero, stuck.zero_band, stuck.priority) == (zero, band, Priority.MEDIUM)


def test_a_slow_instrument_is_given_ten_periods(tmp_path: Path) -> None:
    """A window of ten minutes would hold one reading."""
    text = RICH.replace("red: {setpoint: 15}}", "red: {setpoint: 15}, stuck: {}}")
    assert alarm(named(load_plant(rich(tmp_path, text)), "WL-1"), "stuck").window_s == 6000.0


def test_charts_come_from_what_was_learned(tmp_path: Path) -> None:
    """Bit for bit; no delays, medium priority."""
    point = named(load_plant(rich(tmp_path)), "FT-2")
    for kind in ("cusum", "ewma"):
        assert alarm(point, kind).charts == CHARTS
        assert (alarm(point, kind).on_delay_s, alarm(point, kind).priority) == (0.0, Priority.MEDIUM)
    assert alarm(point, "loop").charts is None


@pytest.mark.parametrize(
    ("state", "low", "high"),
    [
        ("above: 3", nextafter(3.0, inf), inf),
        ("below: -3", -inf, nextafter(-3.0, -inf)),
        ("equals: 0", 0.0, 0.0),
        ("above: 1e308", nextafter(1e308, inf), inf),
    ],
)
def test_an_alarm_is_suppressed_by_a_state_of_another_point(
    state: str, low: float, high: float, tmp_path: Path
) -> None:
    """Above and below leave the value itself out; the trigger counts as long as it is not stale."""
    text = RICH.replace("equals: 0}", f"{state}, on_delay_s: 5, off_delay_s: 30}}").replace("point: P-1", "point: GT-3")
    by = alarm(named(load_plant(rich(tmp_path, text)), "FT-1"), "L").suppressed_by
    assert by is not None
    assert (by.point, by.low, by.high, by.on_delay_s, by.off_delay_s, by.longest_s) == (
        "GT-3",
        low,
        high,
        5.0,
        30.0,
        60.0,
    )


def test_what_suppresses_a_limit_suppresses_its_early_warning(tmp_path: Path) -> None:
    """A stopped pump has no low flow to foresee either; the warning's own suppression goes before."""
    old = "L: {setpoint: 9, suppressed_by: {point: P-1, equals: 0}}"
    for own, point in (("", "P-1"), ("suppressed_by: {point: TT-1, above: 5}", "TT-1")):
        text = RICH.replace(old, f"{old}, H: {{setpoint: 80}}, time-to-limit: {{limit: L, {own}}}")
        found = named(load_plant(rich(tmp_path, text)), "FT-1")
        by = alarm(found, "time-to-limit").suppressed_by
        assert by is not None
        assert by.point == point
        assert point == "TT-1" or by == alarm(found, "L").suppressed_by
    text = RICH.replace(old, f"{old}, H: {{setpoint: 80}}, time-to-limit: {{limit: H}}")
    assert alarm(named(load_plant(rich(tmp_path, text)), "FT-1"), "time-to-limit").suppressed_by is None


@pytest.mark.parametrize(
    ("said", "mask", "warm_up", "calibration", "settle_s"),
    [
        ("flags: {warm_up: [0, 4], calibration: [5]}", 0, 0b10001, 0b100000, 60.0),
        ("codes: {warm_up: [2]}", WHOLE_WORD, 0b100, 0, 60.0),
        ("codes: {warm_up: [2], calibration: [3, 12]}, mask: 0x0F", 0x0F, 0b100, 0b1000000001000, 60.0),
        ("codes: {calibration: [12, 12]}, settle_s: 5", WHOLE_WORD, 0, 1 << 12, 5.0),
    ],
)
def test_a_status_word_is_read_as_flags_or_as_codes(
    said: str, mask: int, warm_up: int, calibration: int, settle_s: float, tmp_path: Path
) -> None:
    """As sets of bits; a mask of 0 stands for flags."""
    source = named(load_plant(rich(tmp_path, RICH.replace("flags: {warm_up: [4]}", said))), "GT-1").mode_source
    assert source is not None
    assert (source.point, source.code_mask, source.warm_up) == ("GS-1", mask, warm_up)
    assert (source.calibration, source.settle_s) == (calibration, settle_s)
    other = RICH.replace("field: t}", "field: t, status: {point: P-1, flags: {warm_up: [1]}}}")
    assert named(load_plant(rich(tmp_path, other)), "TT-1").mode_source == replace(
        source, point="P-1", code_mask=0, warm_up=2, calibration=0, settle_s=0.0
    )


def test_every_kind_has_a_priority_and_every_setting_of_all_kinds_is_taken(tmp_path: Path) -> None:
    """Priority, latching and re-alarm mean something to each, suppression to each but `bad` and `stale`."""
    assert set(PRIORITY) == set(AlarmKind)
    own = "{priority: critical, latching: true, realarm_s: 600}"
    by_state = own.replace("}", ", suppressed_by: {point: P-1, equals: 0}}")
    text = RICH.replace(
        "{loop: {}, stuck: {}, spike: {}, cusum: {}, ewma: {}}",
        "{"
        + ", ".join(f"{kind}: {by_state}" for kind in ("loop", "stuck", "spike", "cusum", "ewma"))
        + f", bad: {own}, stale: {own}}}",
    )
    for definition in named(load_plant(rich(tmp_path, text)), "FT-2").definitions:
        assert (definition.priority, definition.latching, definition.realarm_s) == (Priority.CRITICAL, True, 600.0)
        assert (definition.suppressed_by is None) == (definition.kind.value in ("bad", "stale"))


BROKEN: Final[dict[str, tuple[str, str, list[str]]]] = {
    "a rule that does not exist": (
        "{rule: median, of: [GT-1, GT-2]}",
        "{rule: mean, of: [GT-1, GT-2]}",
        [
            (
                "plant.yaml:42: computed[1].from.rule: should be one of 'vote', 'median', 'spread', "
                "'balance', 'grade', 'normal' (given: 'mean')"
            ),
        ],
    ),
    "no rule": (
        "{rule: median, of: [GT-1, GT-2]}",
        "{of: [GT-1, GT-2]}",
        [
            "plant.yaml:42: computed[1].from.rule: is missing",
        ],
    ),
    "a rule that is a word": (
        "{rule: median, of: [GT-1, GT-2]}",
        "median",
        [
            "plant.yaml:42: computed[1].from: should be a mapping",
        ],
    ),
    "an unknown key of a rule": (
        "{rule: median, of: [GT-1, GT-2]}",
        "{rule: median, of: [GT-1, GT-2], need: 1}",
        [
            "plant.yaml:42: computed[1].from.need: unknown key",
        ],
    ),
    "a rule of one point": (
        "{rule: median, of: [GT-1, GT-2]}",
        "{rule: median, of: [GT-1]}",
        [
            "plant.yaml:42: computed[1].from.of: has too few items: at least 2",
        ],
    ),
    "a number that is no need": (
        "need: 2}",
        "need: two}",
        [
            "plant.yaml:41: computed[0].from.need: should be a valid integer (given: 'two')",
        ],
    ),
    "more votes than voters": (
        "need: 2}",
        "need: 4}",
        [
            "plant.yaml:41: computed[0].from.need: 4 of 3 can never agree",
        ],
    ),
    "a member that does not exist": (
        "of: [GT-1, GT-2, GT-3]",
        "of: [GT-1, GT-2, GT-9]",
        [
            "plant.yaml:41: computed[0].from.of[2]: no point 'GT-9'",
        ],
    ),
    "a member twice": (
        "of: [GT-1, GT-2, GT-3]",
        "of: [GT-1, GT-2, GT-1]",
        [
            "plant.yaml:41: computed[0].from.of[2]: point 'GT-1' is there twice",
        ],
    ),
    "a computed member": (
        "of: [GT-1, GT-2, GT-3]",
        "of: [GT-1, GT-2, GM]",
        [
            "plant.yaml:41: computed[0].from.of[2]: 'GM' is a computed point: give measured ones",
        ],
    ),
    "members of different units": (
        "of: [GT-1, GT-2, GT-3]",
        "of: [GT-1, GT-2, TT-1]",
        [
            "plant.yaml:41: computed[0].from.of[2]: TT-1 is in '°C', GT-1 in 'ppm'",
        ],
    ),
    "a high alarm on a low vote": (
        "need: 2}\n",
        "need: 2, side: low}\n    alarms: {H: {setpoint: 28}}\n",
        [
            (
                "plant.yaml:42: computed[0].alarms.H: H is no low alarm, and this is a vote of low values: "
                "give it a vote of its own"
            ),
        ],
    ),
    "a low alarm on a high vote": (
        "need: 2}\n",
        "need: 2}\n    alarms: {L: {setpoint: 2}}\n",
        [
            (
                "plant.yaml:42: computed[0].alarms.L: L is no high alarm, and this is a vote of high values: "
                "give it a vote of its own"
            ),
        ],
    ),
    "low grades on a high vote": (
        "need: 2}\n",
        "need: 2}\n    alarms: {red: {setpoint: 2, side: low}}\n",
        [
            (
                "plant.yaml:42: computed[0].alarms.red: red is no high alarm, and this is a vote of high "
                "values: give it a vote of its own"
            ),
        ],
    ),
    "grades that fall on a high vote": (
        "need: 2}\n",
        "need: 2}\n    alarms: {blue: {setpoint: 9}, red: {setpoint: 2}}\n",
        [
            "plant.yaml:42: computed[0].alarms.blue: blue 9, red 2 fall, but high values are bad",
        ],
    ),
    "a vote of gases that differ": (
        '{id: GT-3, name: G, kind: toxic-gas, cas: "7664-41-7"',
        '{id: GT-3, name: G, kind: toxic-gas, cas: "630-08-0"',
        [
            "plant.yaml:39: computed[0].kind: its points have no gas in common whose limit is known: give alarms.H",
        ],
    ),
    "a vote of methane in two places": (
        "  - {id: GM, name: M, from:",
        "  - {id: GM, name: M, kind: mine-methane, from:",
        [
            "plant.yaml:42: computed[1].kind: its points have no place in common: make it generic and give its alarms",
        ],
    ),
    "an instrument alarm of no instrument": (
        "from: {rule: median, of: [GT-1, GT-2]}",
        "from: {rule: median, of: [GT-1, GT-2]}, alarms: {stuck: {}}",
        [
            "plant.yaml:42: computed[1].alarms.stuck: stuck is of instruments: a computed point is none",
        ],
    ),
    "a dose of a balance": (
        "      density: 750\n",
        "      density: 750\n    alarms: {twa: {setpoint: 1}}\n",
        [
            "plant.yaml:54: computed[3].alarms.twa: nobody breathes what the rule balance computes",
        ],
    ),
    "abnormal on a median": (
        "from: {rule: median, of: [GT-1, GT-2]}",
        "from: {rule: median, of: [GT-1, GT-2]}, alarms: {abnormal: {}}",
        [
            "plant.yaml:42: computed[1].alarms.abnormal: only the score of a normal-operation model is abnormal",
        ],
    ),
    "abnormal on a statistic": (
        "show: q}",
        "show: q}, alarms: {abnormal: {}}",
        [
            "plant.yaml:56: computed[6].alarms.abnormal: only the score of a normal-operation model is abnormal",
        ],
    ),
    "abnormal on an instrument": (
        "kind: temperature, field: t}",
        "kind: temperature, field: t, alarms: {abnormal: {}}}",
        [
            (
                "plant.yaml:14: gateways[0].devices[0].points[3].alarms.abnormal: only the score of a "
                "normal-operation model is abnormal"
            ),
        ],
    ),
    "a level in litres": (
        "kind: tank-level, field: l",
        "kind: tank-level, unit: L, field: l",
        [
            "plant.yaml:48: computed[3].from.level: unit of LT-1: 'L' is none of %, m, cm, mm",
        ],
    ),
    "a temperature in kelvin": (
        "kind: temperature, field: t",
        "kind: temperature, unit: K, field: t",
        [
            "plant.yaml:49: computed[3].from.temperature: unit of TT-1: 'K' is not °C",
        ],
    ),
    "a flow in buckets": (
        "kind: flow, field: f2",
        "kind: flow, unit: buckets, field: f2",
        [
            (
                "plant.yaml:51: computed[3].from.outflow[0]: unit of FT-2: 'buckets' is none of kg/s, "
                "kg/h, t/h, m3/h, m³/h, L/min"
            ),
        ],
    ),
    "a table that falls": (
        "[5, 400], [10, 900]",
        "[5, 400], [4, 390]",
        [
            "plant.yaml:52: computed[3].from.table[2]: level 4 is not above 5 of the row before",
            "plant.yaml:52: computed[3].from.table[2]: volume 390 is not above 400 of the row before",
        ],
    ),
    "a table of one row": (
        "[[0, 0], [5, 400], [10, 900]]",
        "[[0, 0]]",
        [
            "plant.yaml:52: computed[3].from.table: has too few items: at least 2",
        ],
    ),
    "a table of three columns": (
        "[5, 400]",
        "[5, 400, 1]",
        [
            "plant.yaml:52: computed[3].from.table[1]: has too many items",
        ],
    ),
    "a liquid of no weight": (
        "density: 750",
        "density: 0",
        [
            "plant.yaml:53: computed[3].from.density: should be greater than 0 (given: 0)",
        ],
    ),
    "a window of two hours": (
        "      density: 750",
        "      density: 750\n      window_h: 2",
        [
            "plant.yaml:54: computed[3].from.window_h: should be 1 or 24 (given: 2)",
        ],
    ),
    "a point as level and as flow": (
        "outflow: [FT-2]",
        "outflow: [LT-1]",
        [
            "plant.yaml:51: computed[3].from.outflow[0]: point 'LT-1' is there twice",
        ],
    ),
    "a grade of nothing": (
        "items: [[WL-1, DX-1], [BL-1]]",
        "items: []",
        [
            "plant.yaml:54: computed[4].from.items: is empty",
        ],
    ),
    "an item of nothing": (
        "items: [[WL-1, DX-1], [BL-1]]",
        "items: [[WL-1, DX-1], []]",
        [
            "plant.yaml:54: computed[4].from.items[1]: is empty",
        ],
    ),
    "a point in two items": (
        "items: [[WL-1, DX-1], [BL-1]]",
        "items: [[WL-1, DX-1], [WL-1]]",
        [
            "plant.yaml:54: computed[4].from.items[1][0]: point 'WL-1' is there twice",
        ],
    ),
    "a point without grades": (
        "items: [[WL-1, DX-1], [BL-1]]",
        "items: [[WL-1, DX-1], [TT-1]]",
        [
            "plant.yaml:54: computed[4].from.items[1][0]: TT-1 has none of the alarms blue, yellow, orange, red",
        ],
    ),
    "items that are no lists": (
        "items: [[WL-1, DX-1], [BL-1]]",
        "items: [WL-1]",
        [
            "plant.yaml:54: computed[4].from.items[0]: should be a list",
        ],
    ),
    "a model that does not exist": (
        "{id: UN, name: N, from: {rule: normal, model: unit}}",
        "{id: UN, name: N, from: {rule: normal, model: unti}}",
        [
            (
                "plant.yaml:55: computed[5].from.model: no models/unti.normal in the plant: `tocsin learn` "
                "makes it from normal running"
            ),
        ],
    ),
    "a model outside of its folder": (
        "{id: UN, name: N, from: {rule: normal, model: unit}}",
        "{id: UN, name: N, from: {rule: normal, model: ../unit}}",
        [
            (
                "plant.yaml:55: computed[5].from.model: should be letters, digits, `_`, `.` and `-`, "
                "beginning with a letter or digit, at most 64 (given: '../unit')"
            ),
        ],
    ),
    "a computed id twice": (
        "{id: GM, name: M",
        "{id: GT-1, name: M",
        [
            "plant.yaml:42: computed[1].id: point 'GT-1' is already there (plant.yaml:20)",
        ],
    ),
    "a computed source that does not exist": (
        "source: farm",
        "source: fram",
        [
            "plant.yaml:40: computed[0].source: no hazard source 'fram'",
        ],
    ),
    "a computed range upside down": (
        "{id: GM, name: M,",
        "{id: GM, name: M, range: [1, 0],",
        [
            "plant.yaml:42: computed[1].range: 1 is not below 0",
        ],
    ),
    "a gateway called computed": (
        "- id: gw\n",
        "- id: computed\n",
        [
            "plant.yaml:6: gateways[0].id: 'computed' is kept for computed points",
        ],
    ),
    "a device called computed": (
        "- id: unit\n",
        "- id: computed\n",
        [
            "plant.yaml:8: gateways[0].devices[0].id: 'computed' is kept for computed points",
        ],
    ),
    "a limit outside of a rule's range": (
        "alarms: {H: {setpoint: 10}}",
        "alarms: {H: {setpoint: 100}}",
        [
            "plant.yaml:43: computed[2].alarms.H: setpoint 100 lies outside the range 0 to 84: it would never be seen",
        ],
    ),
    "suppressed by a point that does not exist": (
        "point: P-1, equals: 0",
        "point: P-9, equals: 0",
        [
            "plant.yaml:11: gateways[0].devices[0].points[0].alarms.L.suppressed_by.point: no point 'P-9'",
        ],
    ),
    "suppressed by itself": (
        "point: P-1, equals: 0",
        "point: FT-1, equals: 0",
        [
            (
                "plant.yaml:11: gateways[0].devices[0].points[0].alarms.L.suppressed_by.point: is the point "
                "itself: an alarm is suppressed by another"
            ),
        ],
    ),
    "suppressed by a computed point": (
        "point: P-1, equals: 0",
        "point: GM, equals: 0",
        [
            (
                "plant.yaml:11: gateways[0].devices[0].points[0].alarms.L.suppressed_by.point: 'GM' is a "
                "computed point: only a measured one suppresses"
            ),
        ],
    ),
    "suppressed by two states": (
        "point: P-1, equals: 0",
        "point: P-1, equals: 0, above: 3",
        [
            (
                "plant.yaml:11: gateways[0].devices[0].points[0].alarms.L.suppressed_by: give exactly one of "
                "above, below and equals"
            ),
        ],
    ),
    "suppressed by no state": (
        "point: P-1, equals: 0",
        "point: P-1",
        [
            (
                "plant.yaml:11: gateways[0].devices[0].points[0].alarms.L.suppressed_by: give exactly one of "
                "above, below and equals"
            ),
        ],
    ),
    "a status point that does not exist": (
        "status: {point: GS-1",
        "status: {point: GS-9",
        [
            "plant.yaml:25: gateways[0].devices[1].points[0].status.point: no point 'GS-9'",
        ],
    ),
    "a status that is the value": (
        "status: {point: GS-1",
        "status: {point: GT-1",
        [
            (
                "plant.yaml:25: gateways[0].devices[1].points[0].status.point: is the point itself: the "
                "status word is another"
            ),
        ],
    ),
    "a computed status": (
        "status: {point: GS-1",
        "status: {point: GM",
        [
            (
                "plant.yaml:25: gateways[0].devices[1].points[0].status.point: 'GM' is a computed point: no "
                "instrument's status word"
            ),
        ],
    ),
    "codes and flags": (
        "flags: {warm_up: [4]}",
        "flags: {warm_up: [4]}, codes: {warm_up: [4]}",
        [
            "plant.yaml:25: gateways[0].devices[1].points[0].status: give either codes or flags",
        ],
    ),
    "neither codes nor flags": (
        ", flags: {warm_up: [4]}",
        "",
        [
            "plant.yaml:25: gateways[0].devices[1].points[0].status: give either codes or flags",
        ],
    ),
    "a mask of flags": (
        "flags: {warm_up: [4]}",
        "flags: {warm_up: [4]}, mask: 3",
        [
            "plant.yaml:25: gateways[0].devices[1].points[0].status: only codes have a mask",
        ],
    ),
    "a status of no state": (
        "flags: {warm_up: [4]}",
        "flags: {}",
        [
            (
                "plant.yaml:25: gateways[0].devices[1].points[0].status: names no state: give warm_up, "
                "calibration or both"
            ),
        ],
    ),
    "a code of two states": (
        "flags: {warm_up: [4]}",
        "codes: {warm_up: [4], calibration: [4]}",
        [
            "plant.yaml:25: gateways[0].devices[1].points[0].status: the same stands for warm_up and for calibration",
        ],
    ),
    "a code beyond the mask": (
        "flags: {warm_up: [4]}",
        "codes: {warm_up: [4, 16]}, mask: 15",
        [
            (
                "plant.yaml:25: gateways[0].devices[1].points[0].status.codes.warm_up[1]: 16 has bits "
                "outside the mask 0xf: it would never be seen"
            ),
        ],
    ),
    "a code too large": (
        "flags: {warm_up: [4]}",
        "codes: {warm_up: [63]}",
        [
            (
                "plant.yaml:25: gateways[0].devices[1].points[0].status.codes.warm_up[0]: should be less "
                "than or equal to 62 (given: 63)"
            ),
        ],
    ),
    "a bit too high": (
        "flags: {warm_up: [4]}",
        "flags: {warm_up: [53]}",
        [
            (
                "plant.yaml:25: gateways[0].devices[1].points[0].status.flags.warm_up[0]: should be less "
                "than or equal to 52 (given: 53)"
            ),
        ],
    ),
    "grades that contradict their kind": (
        "{blue: {setpoint: 14}, red: {setpoint: 15}}",
        "{blue: {setpoint: 15}, red: {setpoint: 14}}",
        [
            (
                "plant.yaml:33: gateways[0].devices[2].points[0].alarms.blue: blue 15, red 14 fall, but high "
                "values are bad"
            ),
        ],
    ),
    "grades that go both ways": (
        "{blue: {setpoint: 9}, red: {setpoint: 5}}",
        "{blue: {setpoint: 9}, orange: {setpoint: 10}, red: {setpoint: 5}}",
        [
            (
                "plant.yaml:35: gateways[0].devices[2].points[2].alarms.blue: neither rise nor fall from "
                "grade to grade: blue 9, orange 10, red 5"
            ),
        ],
    ),
    "grades at one value": (
        "{blue: {setpoint: 9}, red: {setpoint: 5}}",
        "{blue: {setpoint: 9}, red: {setpoint: 9}}",
        [
            (
                "plant.yaml:35: gateways[0].devices[2].points[2].alarms.blue: neither rise nor fall from "
                "grade to grade: blue 9, red 9"
            ),
        ],
    ),
    "one grade of no known side": (
        "{blue: {setpoint: 9}, red: {setpoint: 5}}",
        "{red: {setpoint: 5}}",
        [
            (
                "plant.yaml:35: gateways[0].devices[2].points[2].alarms.red: give side: neither the kind nor "
                "other grades tell whether high or low values are bad"
            ),
        ],
    ),
    "grades of two sides": (
        "{blue: {setpoint: 9}, red: {setpoint: 5}}",
        "{blue: {setpoint: 9, side: low}, red: {setpoint: 5, side: high}}",
        [
            "plant.yaml:35: gateways[0].devices[2].points[2].alarms.red.side: is not that of the other grades",
        ],
    ),
    "grades that contradict their side": (
        "{blue: {setpoint: 9}, red: {setpoint: 5}}",
        "{blue: {setpoint: 9}, red: {setpoint: 5, side: high}}",
        [
            "plant.yaml:35: gateways[0].devices[2].points[2].alarms.blue: blue 9, red 5 fall, but high values are bad",
        ],
    ),
    "a grade without set point": (
        "{blue: {setpoint: 9}, red: {setpoint: 5}}",
        "{blue: {}, red: {setpoint: 5, side: low}}",
        [
            "plant.yaml:35: gateways[0].devices[2].points[2].alarms.blue: has no setpoint",
        ],
    ),
    "a grade out of range": (
        "{blue: {setpoint: 9}, red: {setpoint: 5}}",
        "{blue: {setpoint: 9}, red: {setpoint: -5}}",
        [
            (
                "plant.yaml:35: gateways[0].devices[2].points[2].alarms.red: setpoint -5 lies outside the "
                "range 0 to 100: it would never be seen"
            ),
        ],
    ),
    "a grade that would never return": (
        "{blue: {setpoint: 9}, red: {setpoint: 5}}",
        "{blue: {setpoint: 9}, red: {setpoint: 5, deadband: 95}}",
        [
            (
                "plant.yaml:35: gateways[0].devices[2].points[2].alarms.red: the deadband 95 leaves the "
                "range 0 to 100: the alarm would never return"
            ),
        ],
    ),
    "a side of a limit": (
        "H: {setpoint: 80}",
        "H: {setpoint: 80, side: high}",
        [
            "plant.yaml:13: gateways[0].devices[0].points[2].alarms.H.side: means nothing to H",
        ],
    ),
    "a dose without set point": (
        "kind: temperature, field: t}",
        "kind: temperature, field: t, alarms: {stel: {}}}",
        [
            "plant.yaml:14: gateways[0].devices[0].points[3].alarms.stel: has no setpoint",
        ],
    ),
    "a dose of nothing": (
        "kind: temperature, field: t}",
        "kind: temperature, field: t, alarms: {twa: {setpoint: 0}}}",
        [
            (
                "plant.yaml:14: gateways[0].devices[0].points[3].alarms.twa.setpoint: is not above 0: clean "
                "air would reach it"
            ),
        ],
    ),
    "a deadband of peaks": (
        "kind: temperature, field: t}",
        "kind: temperature, field: t, alarms: {peaks: {setpoint: 1, deadband: 1}}}",
        [
            "plant.yaml:14: gateways[0].devices[0].points[3].alarms.peaks.deadband: means nothing to peaks",
        ],
    ),
    "a rate of nothing": (
        "kind: temperature, field: t}",
        "kind: temperature, field: t, alarms: {rate: {setpoint: -1}}}",
        [
            (
                "plant.yaml:14: gateways[0].devices[0].points[3].alarms.rate.setpoint: is not above 0: it is "
                "a size, whichever the direction"
            ),
        ],
    ),
    "spikes everywhere": (
        "spike: {}",
        "spike: {floor: 0}",
        [
            (
                "plant.yaml:12: gateways[0].devices[0].points[1].alarms.spike.floor: is not above 0: every "
                "change would be a spike"
            ),
        ],
    ),
    "a set point of a loop": (
        "loop: {}",
        "loop: {setpoint: 4}",
        [
            "plant.yaml:12: gateways[0].devices[0].points[1].alarms.loop.setpoint: means nothing to loop",
        ],
    ),
    "charts of what was not learned": (
        "kind: temperature, field: t}",
        "kind: temperature, field: t, alarms: {ewma: {}}}",
        [
            (
                "plant.yaml:14: gateways[0].devices[0].points[3].alarms.ewma: calibrations.json has no "
                "charts of 'TT-1': `tocsin learn` makes them from recorded normal running"
            ),
        ],
    ),
    "a first-out of a kind that the point has not": (
        "alarms: [LT-1/HH, GT-1/HH]",
        "alarms: [LT-1/LL, GT-1/HH]",
        [
            "plant.yaml:58: first_out[0].alarms[0]: no alarm 'LT-1/LL'; LT-1 has: HH, H, time-to-limit, bad, stale",
        ],
    ),
    "a first-out of a kind that does not exist": (
        "alarms: [LT-1/HH, GT-1/HH]",
        "alarms: [LT-1/HHH, GT-1/HH]",
        [
            "plant.yaml:58: first_out[0].alarms[0]: no alarm 'LT-1/HHH'; LT-1 has: HH, H, time-to-limit, bad, stale",
        ],
    ),
    "a first-out of a point that does not exist": (
        "alarms: [LT-1/HH, GT-1/HH]",
        "alarms: [LT-9/HH, GT-1/HH]",
        [
            "plant.yaml:58: first_out[0].alarms[0]: no point 'LT-9'",
        ],
    ),
    "a first-out of no alarm": (
        "alarms: [LT-1/HH, GT-1/HH]",
        "alarms: [LT-1, GT-1/HH]",
        [
            "plant.yaml:58: first_out[0].alarms[0]: should be an alarm like P-101/HH (given: 'LT-1')",
        ],
    ),
    "a first-out of one": (
        "alarms: [LT-1/HH, GT-1/HH]",
        "alarms: [LT-1/HH]",
        [
            "plant.yaml:58: first_out[0].alarms: has too few items: at least 2",
        ],
    ),
    "a first-out of one twice": (
        "alarms: [LT-1/HH, GT-1/HH]",
        "alarms: [LT-1/HH, LT-1/HH]",
        [
            "plant.yaml:58: first_out[0].alarms[1]: alarm 'LT-1/HH' is there twice",
        ],
    ),
    "a first-out twice": (
        "first_out:\n",
        "first_out:\n  - {id: trip, name: Trip, alarms: [LT-1/HH, GT-1/HH]}\n",
        [
            "plant.yaml:59: first_out[1].id: group 'trip' is already there (plant.yaml:58)",
        ],
    ),
    "an instrument alarm that is suppressed": (
        "kind: temperature, field: t}",
        (
            "kind: temperature, field: t, alarms: {stale: {suppressed_by: {point: P-1, equals: 0}},"
            " bad: {suppressed_by: {point: P-1, equals: 0}}}}"
        ),
        [
            (
                f"plant.yaml:14: gateways[0].devices[0].points[3].alarms.{kind}.suppressed_by: {kind} is an instrument"
                " alarm: suppressed, it could stay hidden after its point falls silent"
            )
            for kind in ("stale", "bad")
        ],
    ),
    "a warning of a grade that is not there": (
        "kind: temperature, field: t}",
        "kind: temperature, field: t, alarms: {time-to-limit: {limit: red}}}",
        [
            (
                "plant.yaml:14: gateways[0].devices[0].points[3].alarms.time-to-limit: there is no limit "
                "that it could foresee"
            ),
        ],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_mistake_is_named_with_file_line_and_path(name: str, tmp_path: Path) -> None:
    """One change to a good plant gives exactly the lines that say what is wrong and where."""
    old, new, expected = BROKEN[name]
    assert RICH.count(old) == 1
    assert problems_of(rich(tmp_path, RICH.replace(old, new))) == expected


def test_a_computed_point_that_is_malformed_has_no_consequences(tmp_path: Path) -> None:
    """Whatever cannot be read is told once; nobody calls its points, its model or its alarms unknown."""
    text = RICH.replace("kind: flow, field: f,", "knd: flow, field: f,").replace("id: GM, name: M", "id: GM, nam: M")
    text = text.replace("      - id: pond\n", "      - id: pond\n        punkte: []\n").replace(
        "[WL-1, DX-1]", "[WL-1, DX-9]"
    )
    assert problems_of(rich(tmp_path, text)) == [
        "plant.yaml:11: gateways[0].devices[0].points[0].kind: is missing",
        "plant.yaml:11: gateways[0].devices[0].points[0].knd: unknown key",
        "plant.yaml:30: gateways[0].devices[2].punkte: unknown key",
        "plant.yaml:43: computed[1].name: is missing",
        "plant.yaml:43: computed[1].nam: unknown key",
    ]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Of points, computed points, groups, models and charts in one go."""
    text = RICH.replace("need: 2", "need: 4").replace("point: P-1", "point: P-9").replace("LT-1/HH, ", "LT-1/LL, ")
    text = text.replace("outflow: [FT-2]", "outflow: [TT-1]")
    assert problems_of(rich(tmp_path, text, model=b"nothing", charts="{}")) == [
        "calibrations.json:1: tocsin: is missing",
        "plant.yaml:11: gateways[0].devices[0].points[0].alarms.L.suppressed_by.point: no point 'P-9'",
        "plant.yaml:41: computed[0].from.need: 4 of 3 can never agree",
        "plant.yaml:51: computed[3].from.outflow[0]: point 'TT-1' is there twice",
        "plant.yaml:55: computed[5].from.model: models/unit.normal: these bytes are no normal-operation model",
        "plant.yaml:58: first_out[0].alarms[0]: no alarm 'LT-1/LL'; LT-1 has: HH, H, time-to-limit, bad, stale",
    ]


def _damaged() -> bytes:
    data = bytearray(model_bytes())
    data[100] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: b"", "models/unit.normal: these bytes are no normal-operation model"),
        (_damaged, "models/unit.normal: the stored bytes are damaged: their checksum does not match"),
        (
            lambda: model_bytes(("FT-1", "XX-1", "XX-2")),
            "model 'unit' was learned of points not in this plant: XX-1, XX-2",
        ),
        (
            lambda: model_to_bytes(replace(model_from_bytes(model_bytes()), names=("FT-1", "FT-1", "TT-1"))),
            "models/unit.normal: it names no point, or one twice",
        ),
        (lambda: model_bytes(("FT-1", "GM", "TT-1")), "model 'unit' was learned of computed points: GM"),
    ],
)
def test_a_model_that_does_not_fit_is_told(model: Callable[[], bytes], said: str, tmp_path: Path) -> None:
    """Damaged, of another plant, or of points that are not measured."""
    problems = problems_of(rich(tmp_path, model=model()))
    assert problems[0] == f"plant.yaml:55: computed[5].from.model: {said}"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 2000), junk=st.binary(max_size=20), resum=st.booleans())
def test_no_bytes_of_a_model_raise_anything_else(*, cut: int, junk: bytes, resum: bool, tmp_path: Path) -> None:
    """Neither torn nor overwritten, nor with a checksum that was put right again."""
    data = model_bytes()[:cut] + junk + model_bytes()[cut + len(junk) :]
    if resum:
        data = data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")
    load_or_refuse(rich(tmp_path, model=data))


def test_charts_are_stored_bit_for_bit() -> None:
    """Every double as it is, points in order of their names."""
    charts = {"B": replace(CHARTS, mean=0.1 + 0.2), "A": CHARTS}
    text = calibrations_to_json(charts)
    assert calibrations_from_json(text) == charts
    assert text.index('"A"') < text.index('"B"')
    assert calibrations_from_json("\ufeff" + calibrations_to_json({})) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: "", "not JSON: Expecting value in line 1"),
        (lambda _: "[]", "the file: should be a mapping"),
        (lambda text: text.replace('"tocsin": 1', '"tocsin": 2'), "tocsin: should be 1"),
        (lambda text: text.replace("FT-2", "F T"), "points.F T: should be letters"),
        (lambda text: text.replace('"sigma": 1.5', '"sigma": 0'), "points.FT-2.sigma: should be greater than 0"),
        (lambda text: text.replace('"sigma": 1.5', '"sigma": NaN'), "points.FT-2.sigma: should be a finite number"),
        (lambda text: text.replace('"mean": 50.0', '"mean": Infinity'), "points.FT-2.mean: should be a finite number"),
        (lambda text: text.replace('"mean": 50.0', '"mean": "50"'), "points.FT-2.mean: should be a valid number"),
        (lambda text: text.replace('"mean": 50.0,', ""), "points.FT-2.mean: is missing"),
        (lambda text: text.replace('"mean": 50.0', '"mean": 50.0, "mean": 1'), "mean stands there twice"),
        (lambda text: text.replace('"rho": 0.3', '"rho": 1'), "points.FT-2.rho: should be less than 1"),
        (lambda text: text.replace('"step_s": 10.0', '"step_s": 0'), "points.FT-2.step_s: should be greater than"),
        (lambda text: text.replace('"mean": 50.0', '"mean": ' + "9" * 5000), "not JSON of calibrations: "),
        (lambda _: "[" * 100_000, "not JSON of calibrations: nested too deeply"),
    ],
)
def test_charts_that_are_none_are_refused_with_their_place(
    change: Callable[[str], str], said: str, tmp_path: Path
) -> None:
    """By the function itself, and as a problem of the plant; the alarms that want them are not told besides."""
    text = change(calibrations_to_json({"FT-2": CHARTS}))
    with pytest.raises(CalibrationsError) as caught:
        calibrations_from_json(text)
    assert str(caught.value).startswith(said)
    (problem,) = problems_of(rich(tmp_path, charts=text))
    assert problem.startswith(f"calibrations.json:1: {said}")


def test_charts_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """As the plant file itself is."""
    assert problems_of(rich(tmp_path, charts=b"\xff")) == [
        "calibrations.json:1: not UTF-8: invalid start byte at byte 0"
    ]


def test_a_plant_without_charts_says_which_are_missing(tmp_path: Path) -> None:
    """And what makes them."""
    folder = rich(tmp_path)
    (folder / "calibrations.json").unlink()
    assert problems_of(folder) == [
        f"plant.yaml:12: gateways[0].devices[0].points[1].alarms.{kind}: calibrations.json has no charts of 'FT-2':"
        " `tocsin learn` makes them from recorded normal running"
        for kind in ("cusum", "ewma")
    ]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plant=mutants(RICH))
@example(plant=RICH.replace("[5, 400]", "[1e308, -1e308]"))
@example(plant=RICH.replace("H: {setpoint: 10}", "stel: {setpoint: 1e308}, blue: {setpoint: -1e308}"))
@example(plant=RICH.replace("equals: 0", "above: 1.7976931348623157e308"))
@example(plant=RICH.replace("kind: generic, field: d1", "kind: oxygen, range: [-1e308, 1e308], field: d1"))
@example(plant=RICH.replace("{rule: median, of: [GT-1, GT-2]}", "[rule]"))
def test_no_plant_however_mangled_raises_anything_else(plant: str, tmp_path: Path) -> None:
    """`load_plant` answers with a plant or a PlantError; each problem has a line and is one line."""
    load_or_refuse(rich(tmp_path, plant.encode("utf-8", "replace").decode()))
