"""`tocsin learn` as a user runs it on a plant: learned from a recording, checked, replayed, and alarms raised by it."""

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from tests.cli.command import started, tocsin
from tests.support.need import ROOT, need_data
from tests.support.plants import PLANTS
from tocsin_cli.learn_opening import open_plant
from tocsin_cli.learn_rows import Series, chart_values, period_of, unit_rows
from tocsin_cloud.adapters.history_duckdb import DuckdbHistory
from tocsin_core.detectors.change import CalibrationError
from tocsin_core.normal import model_from_bytes
from tocsin_core.plant import PlantError, load_plant
from tocsin_core.plant.calibrations import calibrations_from_json
from tocsin_core.readings import F64, GOOD, Frame

SECOND: Final = 1_000_000_000
START: Final = 1_772_409_600  # 2026-03-02T00:00:00Z
NORMAL_ROWS: Final = 3000
PLANT: Final = """\
tocsin: 1
site: {id: s, name: 测试厂, timezone: Asia/Shanghai}
gateways:
  - id: g
    external: true
    devices:
      - id: d
        points:
          - {id: P, name: 压力, kind: generic, range: [0, 100], decimals: 2, alarms: {cusum: {}}}
          - {id: F, name: 流量, kind: generic, range: [0, 100], decimals: 2, alarms: {cusum: {}, ewma: {}}}
          - {id: T, name: 温度, kind: generic, range: [0, 100], decimals: 2}
          - {id: I, name: 电流, kind: generic, range: [0, 100], decimals: 2}
computed:
  - {id: UNIT, name: 单元, from: {rule: normal, model: unit}}
"""


def running(rows: int, seed: int) -> dict[str, F64]:
    """Normal running at 1 Hz: flow and current follow one load, which has an autocorrelation; P and T are their own."""
    rng = np.random.default_rng(seed)
    load = np.zeros(rows)
    push = rng.normal(0.0, 1.0, rows)
    for i in range(1, rows):
        load[i] = 0.5 * load[i - 1] + push[i]
    noise = rng.normal(0.0, 0.3, (4, rows))
    return {"P": 50 + noise[0], "F": 40 + load + noise[1], "T": 30 + 2 * noise[2], "I": 20 + 0.8 * load + noise[3]}


def table(path: Path, columns: dict[str, F64]) -> str:
    """A CSV file of these columns at 1 Hz."""
    rows = zip(*columns.values(), strict=True)
    lines = [",".join((str(START + second), *(f"{value:.2f}" for value in row))) for second, row in enumerate(rows)]
    path.write_text("\n".join([",".join(("time", *columns)), *lines]) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """A folder with a plant that asks for charts and for a model, and has none."""
    folder = tmp_path / "plant"
    folder.mkdir()
    (folder / "plant.yaml").write_text(PLANT, encoding="utf-8")
    return folder


@pytest.fixture
def normal_running(tmp_path: Path) -> str:
    """A recording of 50 min of normal running."""
    return table(tmp_path / "normal.csv", running(NORMAL_ROWS, 1))


def last(*arguments: str, code: int = 0) -> dict[str, Any]:
    """The JSON object of a run that ends with this code."""
    done = tocsin(*arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def refused(*arguments: str) -> str:
    """The one line with which `tocsin learn` refuses."""
    done = tocsin("learn", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_plant_learns_passes_and_warns_with_what_it_learned(plant: Path, normal_running: str, tmp_path: Path) -> None:
    """Check refuses it, learn makes what it lacks, check passes it; replay raises the chart, and names what departs."""
    assert tocsin("check", str(plant)).returncode == 1
    made = last("learn", str(plant), "--from", normal_running)
    assert [(each["point"], each["alarms"], each["replaced"]) for each in made["charts"]] == [
        ("P", ["cusum"], False),
        ("F", ["cusum", "ewma"], False),
    ]
    assert made["not_learned"] == []
    (model,) = made["models"]
    assert (model["points"], model["rows"], model["replaced"]) == (4, NORMAL_ROWS, False)
    assert last("check", str(plant))["ok"] is True

    columns = running(1200, 2)
    columns["P"][600:800] += 0.9  # three standard deviations, far from any limit
    columns["I"][900:] += 3.0  # a current that no longer goes with its flow, well within what it ever was
    html = tmp_path / "out.html"
    found = last("replay", str(plant), "--from", table(tmp_path / "fault.csv", columns), "--html", str(html))
    raised = [(each["alarm"], each["reason"]) for each in found["raised"]]
    assert raised[0] == ("P/cusum", "")
    assert found["raised"][0]["at"].startswith("2026-03-02T00:10:")
    assert any(alarm == "UNIT/abnormal" and reason.startswith("P ") for alarm, reason in raised)
    assert any(alarm == "UNIT/abnormal" and reason.startswith("I ") for alarm, reason in raised)
    assert "F/cusum" not in dict(raised)
    picture = html.read_text(encoding="utf-8")
    reasons = {reason for _, reason in raised if reason}
    assert all(f"<td>{reason}</td>" in picture and f"({reason})" in picture for reason in reasons)
    assert "<h2>UNIT 单元" in picture


def test_what_is_learned_states_its_false_alarms(plant: Path, normal_running: str) -> None:
    """Each chart with step, autocorrelation, thresholds and false alarms a week, as they stand in the file; the sum."""
    done = tocsin("learn", str(plant), "--from", normal_running, "--json")
    made = json.loads(done.stdout.splitlines()[-1])
    held = calibrations_from_json((plant / "calibrations.json").read_text(encoding="utf-8"))
    for each in made["charts"]:
        charts = held[each["point"]]
        assert (each["step_s"], each["rho"], each["sigma"]) == (charts.step_s, charts.rho, charts.sigma)
        assert (each["h"], each["width"]) == (charts.h, charts.width)
    assert 0.25 < held["F"].rho < 0.6
    assert held["P"].sigma == pytest.approx(0.3, rel=0.05)
    stated = held["P"].cusum_per_week + held["F"].cusum_per_week + held["F"].ewma_per_week
    assert made["chart_alarms"] == 3
    assert made["chart_false_alarms_per_week"] == pytest.approx(stated)
    again = started("learn", str(plant), "--from", normal_running)
    assert again.returncode == 0
    flat = " ".join(again.stdout.split())
    assert "charts replaced: P, F" in flat
    assert "models/unit.normal replaced: True" in flat
    assert f"the plant's 3 chart alarms state {stated:.2f} false alarms a week in all" in flat
    assert f" P {held['P'].mean:.2f} {held['P'].sigma:.3g} 1 {held['P'].rho:.2f} " in flat


def test_what_cannot_be_calibrated_is_said_and_the_rest_is_learned(plant: Path, tmp_path: Path) -> None:
    """A drifting point and one that was not recorded have no charts, with the reason, and exit 1; nothing is lost."""
    columns = running(NORMAL_ROWS, 1)
    path = table(tmp_path / "normal.csv", {name: columns[name] for name in "PTI"})
    made = last("learn", str(plant), "--from", path, code=1)
    assert made["not_learned"] == [{"what": "charts of F", "why": "the recording has no readings of it"}]
    assert [each["point"] for each in made["charts"]] == ["P"]
    kept = (plant / "calibrations.json").read_text(encoding="utf-8")
    columns["F"] = np.linspace(10.0, 90.0, NORMAL_ROWS)
    made = last(
        "learn", str(plant), "--from", table(tmp_path / "drift.csv", columns), "--charts", "--points", "F", code=1
    )
    assert made["models"] == []
    assert made["charts"] == []
    assert made["kept"] == ["P"]
    assert "far enough apart" in made["not_learned"][0]["why"]
    assert (plant / "calibrations.json").read_text(encoding="utf-8") == kept
    made = last("learn", str(plant), "--from", table(tmp_path / "short.csv", running(50, 1)), code=1)
    assert [each["what"] for each in made["not_learned"]] == ["model unit", "charts of P", "charts of F"]
    assert "50 of 50 rows are whole" in made["not_learned"][0]["why"]
    assert (plant / "calibrations.json").read_text(encoding="utf-8") == kept


def test_a_model_keeps_its_points_and_charts_of_others_are_kept(
    plant: Path, normal_running: str, tmp_path: Path
) -> None:
    """Points are chosen once; learned again of a wider recording, the model is of the same points."""
    first = last("learn", str(plant), "--from", normal_running, "--model", "unit", "--points", "F,I", "--rows", ":2000")
    assert (first["models"][0]["rows"], first["charts"]) == (2000, [])
    model = plant / "models" / "unit.normal"
    assert model_from_bytes(model.read_bytes()).names == ("F", "I")
    made = last("learn", str(plant), "--from", normal_running)
    assert made["models"][0]["replaced"] is True
    assert model_from_bytes(model.read_bytes()).names == ("F", "I")
    before = calibrations_from_json((plant / "calibrations.json").read_text(encoding="utf-8"))
    other = table(tmp_path / "other.csv", running(2500, 5))
    made = last("learn", str(plant), "--from", other, "--charts", "--points", "P")
    after = calibrations_from_json((plant / "calibrations.json").read_text(encoding="utf-8"))
    assert (made["kept"], made["charts"][0]["replaced"]) == (["F"], True)
    assert after["F"] == before["F"]
    assert after["P"] != before["P"]
    load_plant(plant)


def test_each_of_several_models_wants_its_points(plant: Path, normal_running: str) -> None:
    """What nobody said is not guessed."""
    text = PLANT + "  - {id: TWO, name: 二, from: {rule: normal, model: two}}\n"
    (plant / "plant.yaml").write_text(text, encoding="utf-8")
    made = last("learn", str(plant), "--from", normal_running, code=1)
    assert [each["what"] for each in made["not_learned"]] == ["model unit", "model two"]
    assert "--model two --points" in made["not_learned"][1]["why"]
    last("learn", str(plant), "--from", normal_running, "--model", "unit", "--points", "F,I")
    last("learn", str(plant), "--from", normal_running, "--model", "two", "--points", "P,T,I")
    plants = load_plant(plant)
    assert {name: model.names for name, model in plants.models.items()} == {
        "unit": ("F", "I"),
        "two": ("P", "T", "I"),
    }


def test_a_computed_points_charts_are_of_what_is_computed(plant: Path, tmp_path: Path) -> None:
    """The charts of a vote, and those of the score of a model that was learned in the same run."""
    text = (
        PLANT.replace("{rule: normal, model: unit}}", "{rule: normal, model: unit}, alarms: {cusum: {}}}")
        + "  - {id: MID, name: 中, from: {rule: median, of: [P, T]}, alarms: {ewma: {}}}\n"
    )
    (plant / "plant.yaml").write_text(text, encoding="utf-8")
    columns = running(NORMAL_ROWS, 1)
    columns["MID"] = np.full(NORMAL_ROWS, 99.0)
    made = last("learn", str(plant), "--from", table(tmp_path / "normal.csv", columns))
    by_point = {each["point"]: each for each in made["charts"]}
    assert set(by_point) == {"P", "F", "UNIT", "MID"}
    assert by_point["MID"]["mean"] == pytest.approx(40.0, abs=0.1)
    assert 0.0 < by_point["UNIT"]["mean"] < 1.0
    assert made["remarks"] == ["columns by name: P, F, T, I; computed anew: MID"]
    assert last("check", str(plant))["ok"] is True


def test_a_stretch_of_the_historian_is_learned(plant: Path, tmp_path: Path) -> None:
    """Only what was measured: the stored readings of a computed point are no member's."""
    data = tmp_path / "data"
    data.mkdir()
    columns = running(1500, 1) | {"UNIT": np.full(1500, 9.0)}

    async def store() -> None:
        history = await DuckdbHistory.open(data / "history.duckdb")
        try:
            for name, values in columns.items():
                times = [(START + second) * SECOND for second in range(len(values))]
                key = [history.key(name)] * len(values)
                await history.commit(Frame.of(key, times, values, [GOOD] * len(values)), {})
        finally:
            await history.close()

    asyncio.run(store())
    span = "2026-03-02T08:00/2026-03-02T08:20"
    made = last("learn", str(plant), "--from", span, "--data", str(data))
    assert made["models"][0]["rows"] == 1200
    assert made["remarks"][0].endswith("4 of 4 points have readings; 1 are computed anew")
    assert last("check", str(plant))["ok"] is True
    assert "no --rows" in refused(str(plant), "--from", span, "--data", str(data), "--rows", "0:10")


def test_wrong_arguments_are_refused_and_change_nothing(plant: Path, normal_running: str, tmp_path: Path) -> None:
    """Each with its reason, exit 2."""
    for words, said in (
        ([str(plant)], "--from FILE.csv"),
        ([normal_running, "--charts"], "is a recording by itself"),
        ([str(plant), "--from", normal_running, "--points", "P,Z"], "Z is no point"),
        ([str(plant), "--from", normal_running, "--rows", "3-4"], "BEGIN:END"),
        ([str(plant), "--from", normal_running, "--rows", "9000:"], "none of its rows is chosen"),
        ([str(plant), "--from", normal_running, "--model", "../x"], "a model's name"),
        ([str(plant), "--from", normal_running, "--out", "x", "--charts"], "--out takes one model"),
        ([str(plant), "--from", str(tmp_path / "none.csv")], "No such file"),
    ):
        assert said in refused(*words), words
    (plant / "calibrations.json").write_text("{", encoding="utf-8")
    assert "repair it or move it away" in refused(str(plant), "--from", normal_running)
    assert (plant / "calibrations.json").read_text(encoding="utf-8") == "{"
    (plant / "calibrations.json").unlink()
    assert [path.name for path in plant.iterdir()] == ["plant.yaml"]
    plain = PLANT.partition("computed:")[0].replace("{cusum: {}}", "{}").replace("{cusum: {}, ewma: {}}", "{}")
    (plant / "plant.yaml").write_text(plain, encoding="utf-8")
    assert "nothing to learn" in refused(str(plant), "--from", normal_running)
    (plant / "plant.yaml").write_text(PLANT.replace("kind: generic", "kind: generic, wrong: 1", 1), encoding="utf-8")
    assert "plant.yaml:9: " in refused(str(plant), "--from", normal_running)


def test_only_what_is_to_be_learned_is_tolerated(plant: Path) -> None:
    """A plant with another problem has that problem, and no other; a damaged or foreign model is one to learn anew."""
    (plant / "models").mkdir()
    (plant / "models" / "unit.normal").write_bytes(b"damaged")
    assert open_plant(plant, {}).point_index == {"P": 0, "F": 1, "T": 2, "I": 3, "UNIT": 4}
    (plant / "plant.yaml").write_text(PLANT + "  - {id: V, name: V, from: {rule: median, of: [P, NO]}}\n", "utf-8")
    with pytest.raises(PlantError) as caught:
        open_plant(plant, {})
    assert [str(problem) for problem in caught.value.problems] == [
        "plant.yaml:15: computed[1].from.of[1]: no point 'NO'"
    ]


def series(*readings: tuple[float, float], bad: tuple[int, ...] = ()) -> Series:
    """Readings at seconds; `bad` are the places of bad ones."""
    good = np.ones(len(readings), np.bool_)
    good[list(bad)] = False
    return Series(
        np.asarray([round(at * SECOND) for at, _ in readings]), np.asarray([value for _, value in readings]), good
    )


def test_a_row_is_what_was_last_read_in_its_period() -> None:
    """From the first period that every point was read in; what is bad or too old is missing; no row of silence."""
    fast = series((0.5, 1.0), (1.2, 2.0), (1.8, 3.0), (2.1, 4.0), (6.0, 5.0), bad=(3,))
    slow = series((1.0, 10.0), (6.5, 11.0))
    rows = unit_rows([fast, slow], 1.0, 3.0)
    np.testing.assert_array_equal(rows, [[3.0, 10.0], [np.nan, 10.0], [5.0, 11.0]])
    rows = unit_rows([fast, series((1.0, 10.0), (2.0, np.nan), bad=(1,))], 1.0, 3.0)
    np.testing.assert_array_equal(rows, [[3.0, 10.0], [np.nan, np.nan], [5.0, np.nan]])


def test_a_charts_value_is_the_first_good_one_of_its_period() -> None:
    """As the chart itself takes its samples; a period without one is missing."""
    recorded = series((0.2, 9.0), (0.6, 1.0), (0.8, 2.0), (1.0, 3.0), (3.9, 4.0), bad=(0,))
    np.testing.assert_array_equal(chart_values(recorded, 1.0), [1.0, 3.0, np.nan, 4.0])
    assert period_of(recorded) == 0.3
    assert period_of(series((1.0, 1.0))) is None
    with pytest.raises(CalibrationError, match="no good value"):
        chart_values(series((1.0, 1.0), bad=(0,)), 1.0)
    with pytest.raises(CalibrationError, match="2 of 1001 periods"):
        chart_values(series((0.0, 1.0), (1000.0, 1.0)), 1.0)


def test_the_pump_loop_learns_from_its_recording_and_names_what_fails(tmp_path: Path) -> None:
    """Of its first 400 s, as the benchmark's protocol has it; the vibration is named as it begins, with the reason."""
    data = need_data("skab")
    folder = tmp_path / "pump"
    shutil.copytree(PLANTS / "skab-pump-loop", folder)
    text = (folder / "plant.yaml").read_text(encoding="utf-8")
    text = text.replace("alarms: {H: {setpoint: 2.7", "alarms: {cusum: {}, H: {setpoint: 2.7")
    text += "\ncomputed:\n  - {id: LOOP, name: 回路, from: {rule: normal, model: loop}}\n"
    (folder / "plant.yaml").write_text(text, encoding="utf-8")
    recording = str(data / "other" / "9.csv")
    made = last("learn", str(folder), "--from", recording, "--rows", ":400")
    assert (made["models"][0]["points"], [each["point"] for each in made["charts"]]) == (8, ["PT-1"])
    assert last("check", str(folder))["ok"] is True
    found = last("replay", str(folder), "--from", recording)
    told = [each for each in found["raised"] if each["alarm"] == "LOOP/abnormal"]
    assert any("VT-1" in each["reason"] and each["at"].startswith("2020-02-08T09:37:") for each in told)


def test_the_pages_name_every_option() -> None:
    """What docs/normal-model.md says of the command is what it takes."""
    page = (ROOT / "docs" / "normal-model.md").read_text(encoding="utf-8")
    options = set(re.findall(r"--[a-z]+", tocsin("learn", "--help").stdout)) - {"--help"}
    assert {option for option in options if option not in page} == set()
    assert "tocsin learn" in (ROOT / "docs" / "detectors.md").read_text(encoding="utf-8")
