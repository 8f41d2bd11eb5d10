"""`tocsin bench detection` and `tocsin learn`: what they read, what they print, and the figures on recorded data."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from tests.support.need import need_data
from tocsin_cli.bench import app
from tocsin_cli.bench.detection import TEP_POINTS
from tocsin_cli.learn import learn
from tocsin_core.normal import judge, model_from_bytes, start
from tocsin_core.normal import learn as learn_model
from tocsin_core.readings import F64

SKAB_KEYS = {"f1", "far", "mar", "nab_standard", "missed_changepoints", "false_changepoints"}
TEP_KEYS = {"mean_detection_rate", "false_alarm_rate", "median_delay_min", "faults"}


def run(*arguments: str) -> Result:
    """Run the benchmark on the recorded data alone; the simulated plants have their own tests."""
    return CliRunner().invoke(app, [*arguments, "--hours", "0"])


def tep_rows(seed: int, rows: int, fault_from: int | None = None) -> F64:
    """52 points moved by ten causes; the fault shifts three of the points."""
    mixing = np.random.default_rng(0).normal(size=(10, 52))
    random = np.random.default_rng(seed)
    values: F64 = random.normal(size=(rows, 10)) @ mixing + random.normal(size=(rows, 52)) + 50.0
    if fault_from is not None:
        values[fault_from:, 10:13] += 8.0
    return values


def skab_file(path: Path, seed: int) -> None:
    """A recording of 700 rows, anomalous from 500 to 600; the labels are the last columns."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(700, 4)) + 10.0
    values[500:600, 1] += 6.0
    lines = ["datetime;A;B;C;D;anomaly;changepoint"]
    first = np.datetime64("2020-03-09T10:00:00")
    for i, row in enumerate(values):
        moment = str(first + np.timedelta64(i, "s")).replace("T", " ")
        labels = f"{float(500 <= i < 600)};{float(i in (500, 600))}"
        lines.append(f"{moment};{';'.join(f'{value:.4f}' for value in row)};{labels}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder in the layout of the recorded data: two SKAB recordings, one without labels, and TEP training sets."""
    skab_file(tmp_path / "skab" / "valve1" / "0.csv", 1)
    skab_file(tmp_path / "skab" / "other" / "1.csv", 2)
    free = tmp_path / "skab" / "anomaly-free" / "anomaly-free.csv"
    free.parent.mkdir()
    free.write_text("datetime;A;B;C;D\n2020-02-08 13:30:47;1;2;3;4\n", encoding="utf-8")
    (tmp_path / "tep").mkdir()
    np.savetxt(tmp_path / "tep" / "d00.dat", tep_rows(1, 500).T)
    np.savetxt(tmp_path / "tep" / "d01.dat", tep_rows(2, 100, 0))
    np.savetxt(tmp_path / "tep" / "d03.dat", tep_rows(3, 100))
    return tmp_path


def test_training_sets_are_judged_where_no_test_set_is(data: Path) -> None:
    """Exactly the agreed keys; the fault is there from the first row; a hidden fault counts in no mean."""
    done = run("detection", "--data", str(data), "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout.splitlines()[-1])
    assert set(printed) == {"skab", "tep", "tep_set", "plants"}
    assert printed["plants"] == {}
    assert printed["tep_set"] == "training"
    assert set(printed["skab"]) == SKAB_KEYS
    assert set(printed["tep"]) == TEP_KEYS
    assert set(printed["tep"]["faults"]) == {"1", "3"}
    assert printed["tep"]["mean_detection_rate"] == printed["tep"]["faults"]["1"]["detection_rate"] > 0.95
    assert printed["tep"]["median_delay_min"] == printed["tep"]["faults"]["1"]["delay_min"] <= 9.0
    assert printed["tep"]["faults"]["3"]["detection_rate"] <= 0.05
    assert printed["tep"]["false_alarm_rate"] < 0.02
    assert printed["skab"]["f1"] > 0.8
    assert printed["skab"]["missed_changepoints"] == 0


def test_the_test_set_goes_before_the_training_set(data: Path) -> None:
    """With a test set the fault is there from row 161, and the rows before it are where false alarms are counted."""
    normal = tep_rows(1, 500)[:160]
    np.savetxt(data / "tep" / "d01_te.dat", np.concatenate([normal, tep_rows(4, 100, 0)]))
    np.savetxt(data / "tep" / "d00_te.dat", np.concatenate([normal[:100], tep_rows(5, 100, 0)]))
    printed = json.loads(run("detection", "--data", str(data), "--json").stdout.splitlines()[-1])
    assert printed["tep_set"] == "test"
    assert set(printed["tep"]["faults"]) == {"1"}
    # At 3 min a row the third alarm in a row is at 6 min when the first row of the fault raises.
    assert 6.0 <= printed["tep"]["faults"]["1"]["delay_min"] <= 9.0
    assert printed["tep"]["faults"]["1"]["detection_rate"] >= 0.98
    assert printed["tep"]["false_alarm_rate"] == pytest.approx(100 / 360, abs=0.002)


def test_the_figures_are_printed_for_people_too(data: Path) -> None:
    """Without --json the same figures come as lines."""
    done = run("detection", "--data", str(data))
    assert done.exit_code == 0
    assert "nab standard" in done.stdout
    assert "tep (training set)" in done.stdout


@pytest.mark.parametrize(("gone", "left"), [("skab", "tep"), ("tep", "skab")])
def test_a_set_that_is_not_there_is_null(data: Path, gone: str, left: str) -> None:
    """Without one of the two folders the other is measured all the same, with all of its keys."""
    (data / gone).rename(data / "away")
    done = run("detection", "--data", str(data), "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout.splitlines()[-1])
    assert printed[gone] is None
    assert set(printed[left]) == (SKAB_KEYS if left == "skab" else TEP_KEYS)
    assert f"no {gone}" in done.stderr


def test_neither_set_is_a_usage_error(tmp_path: Path) -> None:
    """A folder with neither of the two is refused with exit 2."""
    assert run("detection", "--data", str(tmp_path), "--json").exit_code == 2


@pytest.mark.parametrize(
    ("fault", "root"),
    [
        (4, {"XMV(10)", "XMEAS(9)", "XMEAS(21)"}),
        (6, {"XMV(3)", "XMEAS(1)"}),
        (11, {"XMV(10)", "XMEAS(9)", "XMEAS(21)"}),
        (14, {"XMV(10)", "XMEAS(9)", "XMEAS(21)"}),
    ],
)
def test_the_contribution_names_the_known_root(fault: int, root: set[str]) -> None:
    """Reactor cooling water (4, 11, 14), loss of the A feed (6): the largest point at the onset is theirs."""
    folder = need_data("tep")
    model = learn_model(np.loadtxt(folder / "d00.dat").T, TEP_POINTS, 180.0)
    found = judge(model, start(model), np.loadtxt(folder / f"d{fault:02d}.dat"))[1]
    onset = int(np.argmax(found.alarm))
    assert TEP_POINTS[int(np.argmax(found.contributions[onset]))] in root
    ten_rows = found.contributions[onset : onset + 10].mean(axis=0)
    assert TEP_POINTS[int(np.argmax(ten_rows))] in root


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: text.splitlines()[0] + "\n", id="no rows"),
        pytest.param(lambda text: "\n".join(text.splitlines()[:151]), id="too few rows to learn from"),
        pytest.param(lambda text: text.replace("2020-03-09", "yesterday"), id="no times"),
    ],
)
def test_a_recording_that_nothing_can_be_made_of_is_told_and_left_out(data: Path, damage: Callable[[str], str]) -> None:
    """The others are measured all the same: one bad file among a hundred is no reason to have no figures."""
    alone = run("detection", "--data", str(data), "--json")
    (data / "skab" / "valve1" / "1.csv").write_text(damage((data / "skab" / "valve1" / "0.csv").read_text()))
    (data / "skab" / "valve1" / "._0.csv").write_bytes(b"\x00\x05\x16\xff")
    (data / "tep" / "d02.dat").write_text("")
    done = run("detection", "--data", str(data), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(alone.stdout.splitlines()[-1])
    left_out = [line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert [Path(each).name for each in left_out] == ["._0.csv", "1.csv", "d02.dat"]


def test_missing_values_and_columns_of_text_are_measured(data: Path) -> None:
    """As the model takes them: a value that is missing, and a point that says nothing."""
    path = data / "skab" / "valve1" / "0.csv"
    header, first, second, *rows = path.read_text().splitlines()
    moment, _, *others = second.split(";")
    holed = [f"{header};note", f"{first};x", ";".join([moment, "", *others, "x"]), *(f"{row};x" for row in rows)]
    path.write_text("\r\n".join([*holed, rows[-1]]), encoding="utf-8")
    done = run("detection", "--data", str(data), "--json")
    assert done.exit_code == 0, done.output
    assert "left out" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["skab"]["f1"] > 0.8


def numbered(line: str, row: int) -> str:
    """A line with its number before it, as tables are often written; the header names it by nothing."""
    return f"{row - 1 if row else ''};{line}"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda line, row: line if row else line.replace(";", '";"').join('""'), id="names in quotes"),
        pytest.param(lambda line, row: line if row else line.replace(";", " ; "), id="names with blanks"),
        pytest.param(lambda line, row: line if row else "\ufeff" + line, id="a byte order mark"),
        pytest.param(
            lambda line, row: line.replace("2020-03-09", "n/a") if row == 650 else line, id="a row without time"
        ),
        pytest.param(
            lambda line, _: ";".join([*line.split(";")[1:], line.split(";")[0]]), id="times in the last column"
        ),
        pytest.param(numbered, id="numbered rows"),
    ],
)
def test_a_recording_of_another_layout_is_measured(data: Path, change: Callable[[str, int], str]) -> None:
    """What can be understood is neither left out nor taken for one without labels."""
    for path in (data / "skab").glob("*/[01].csv"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join(change(line, row) for row, line in enumerate(lines)) + "\n", encoding="utf-8")
    done = run("detection", "--data", str(data), "--json")
    assert done.exit_code == 0, done.output
    assert "left out" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["skab"]["f1"] > 0.8


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: text.replace("changepoint", "change"), id="one label"),
        pytest.param(lambda text: text.replace(";0.0", ";no").replace(";1.0", ";yes"), id="labels in words"),
    ],
)
def test_a_recording_whose_labels_say_nothing_is_told(data: Path, damage: Callable[[str], str]) -> None:
    """It is no normal running, and a recording without any anomaly even less."""
    path = data / "skab" / "valve1" / "0.csv"
    path.write_text(damage(path.read_text()))
    (data / "skab" / "valve1" / "folder.csv").mkdir()
    done = run("detection", "--data", str(data), "--json")
    assert done.exit_code == 0, done.output
    left_out = [Path(line.split(": ")[1]).name for line in done.stderr.splitlines() if line.startswith("left out: ")]
    assert left_out == ["0.csv", "folder.csv"]


def test_a_test_set_that_ends_before_its_fault_is_told_and_left_out(data: Path) -> None:
    """Its delay would be less than nothing."""
    np.savetxt(data / "tep" / "d01_te.dat", tep_rows(4, 260, 160))
    np.savetxt(data / "tep" / "d02_te.dat", tep_rows(4, 100))
    done = run("detection", "--data", str(data), "--json")
    assert set(json.loads(done.stdout.splitlines()[-1])["tep"]["faults"]) == {"1"}
    assert "d02_te.dat: 100 rows" in done.stderr


def test_only_faults_that_cannot_be_read_are_a_usage_error(data: Path) -> None:
    """There is nothing to measure then."""
    (data / "tep" / "d01.dat").write_text("")
    done = run("detection", "--data", str(data), "--json")
    assert (done.exit_code, "no fault" in done.stderr) == (2, True)


@pytest.mark.parametrize("gone", ["tep/d00.dat", "tep/d01.dat"])
def test_missing_data_is_a_usage_error(data: Path, gone: str) -> None:
    """A folder without the recordings is refused by name with exit 2."""
    (data / gone).rename(data / "away")
    done = run("detection", "--data", str(data), "--json")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert gone.split("/", maxsplit=1)[0] in done.stderr


def test_recorded_data_reaches_what_the_page_says() -> None:
    """On the recordings at hand the figures of docs/normal-model.md hold."""
    folder = need_data("skab").parent
    need_data("tep")
    printed = json.loads(run("detection", "--data", str(folder), "--json").stdout.splitlines()[-1])
    assert printed["skab"]["f1"] >= 0.80
    assert printed["skab"]["far"] <= 13.0
    assert printed["skab"]["nab_standard"] >= 33.0
    assert printed["tep"]["mean_detection_rate"] >= 0.93
    assert printed["tep"]["false_alarm_rate"] <= 0.01
    assert printed["tep"]["median_delay_min"] <= 27.0


def learning(*arguments: str) -> Result:
    """Run `tocsin learn`."""
    command = typer.Typer()
    command.command()(learn)
    return CliRunner().invoke(command, list(arguments))


def test_learn_writes_a_model_and_says_what_it_holds(data: Path) -> None:
    """The model of the chosen rows and points is beside the recording, and its report is one JSON object."""
    recording = data / "skab" / "valve1" / "0.csv"
    done = learning(str(recording), "--rows", "0:400", "--points", "A,B,C,D", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[-1])
    model = model_from_bytes(recording.with_suffix(".normal").read_bytes())
    assert model.names == ("A", "B", "C", "D")
    assert (report["rows"], report["points"], report["period_s"]) == (400, 4, 1.0)
    assert report["false_alarms_per_week_at_most"] > report["false_alarms_per_week"]
    assert set(report["limits"]) == {"T2", "Q", "point at 0.1", "point at 0.25", "point at 0.6"}


def test_learn_of_a_plant_takes_the_plants_points(data: Path) -> None:
    """Of a plant's recording the columns that are its points are learned, and no others."""
    plant = data / "plant"
    plant.mkdir()
    points = "".join(f"          - {{id: {name}, name: 温度, kind: temperature}}\n" for name in "ABD")
    (plant / "plant.yaml").write_text(
        "tocsin: 1\nsite: {id: s1, name: 测试厂}\ngateways:\n  - id: gw\n    external: true\n    devices:\n"
        f"      - id: d1\n        points:\n{points}",
        encoding="utf-8",
    )
    recording = data / "skab" / "other" / "1.csv"
    out = data / "unit.normal"
    done = learning(str(plant), "--from", str(recording), "--rows", ":400", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert model_from_bytes(out.read_bytes()).names == ("A", "B", "D")
    assert learning(str(plant)).exit_code == 2
    assert learning(str(plant), "--from", str(recording), "--points", "A,C").exit_code == 2


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        ("a;b\n1;2\n1\n", (), ":3"),
        ("a;b\n", (), "no rows"),
        ("a;b\n1;2\n2;3\n", (), "--period"),
        ("a;b\n1;2\n2;3\n", ("--period", "1"), "2 rows are whole"),
        ("a;b\n1;2\n2;3\n", ("--period", "1", "--points", "a,x"), "no column x"),
        ("a;b\n1;2\n2;3\n", ("--period", "1", "--rows", "3-4"), "BEGIN:END"),
    ],
)
def test_what_cannot_be_learned_is_a_usage_error(
    tmp_path: Path, text: str, arguments: tuple[str, ...], says: str
) -> None:
    """A wrong file or word is refused with its reason and exit 2."""
    path = tmp_path / "unit.csv"
    path.write_text(text, encoding="utf-8")
    done = learning(str(path), *arguments)
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())
