"""Recorded tables: read strictly, played by their own times, from the top again at the end."""

from math import isnan
from pathlib import Path

import pytest

from tests.support.need import need_data
from tests.support.plants import PLANTS
from tocsin_sim.app import load_world
from tocsin_sim.player import RecordError, read_record
from tocsin_sim.settings import Settings
from tocsin_sim.simulation import Record, SimulationError, load_simulation

RECORD = Record(type="record", time="datetime", columns=("Pressure", "Flow"))
HEADER = "datetime;Pressure;Flow;anomaly"
LOOP = PLANTS / "skab-pump-loop"


def test_rows_are_read_with_their_times() -> None:
    """Seconds count from the first row; an empty cell is no number."""
    rows = read_record([HEADER, "2020-02-08 13:30:47;0.1;122;0", "2020-02-08 13:30:49;;123;0"], RECORD, "r.csv")
    assert [time for time, _ in rows] == [0.0, 2.0]
    assert rows[0][1] == {"Pressure": 0.1, "Flow": 122.0}
    assert isnan(rows[1][1]["Pressure"])


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["datetime,Pressure,Flow"], "r.csv:1: no column datetime, Pressure, Flow"),
        (["datetime;Pressure"], "r.csv:1: no column Flow"),
        (["x" * 200_000], "r.csv: field larger than field limit"),
        ([HEADER], "r.csv: no rows"),
        ([HEADER, "2020-02-08 13:30:47;x;1;0"], "r.csv:2: could not convert"),
        ([HEADER, "yesterday;1;1;0"], "r.csv:2: Invalid isoformat"),
        ([HEADER, "2020-02-08 13:30:47;1"], "r.csv:2: the row is too short"),
        ([HEADER, "2020-02-08 13:30:47;1;1;0", "2020-02-08 13:30:46;1;1;0"], "r.csv:3: time goes back"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(lines: list[str], problem: str) -> None:
    """Nothing is made up for a table that does not hold."""
    with pytest.raises(RecordError) as caught:
        read_record(lines, RECORD, "r.csv")
    assert str(caught.value).startswith(problem)


def written(folder: Path) -> Path:
    """Write a three-row table with every column of the pump loop."""
    record = load_simulation(LOOP).record
    assert record is not None
    columns = record[1].columns
    rows = [f"2020-02-08 13:30:4{7 + i};" + ";".join(str(10.0 * i + n) for n in range(len(columns))) for i in range(3)]
    path = folder / "record.csv"
    path.write_text("\n".join(["datetime;" + ";".join(columns), *rows]), encoding="utf-8")
    return path


def test_a_table_is_played_by_its_own_times_and_again_from_the_top(tmp_path: Path) -> None:
    """Each second shows its row, and after the last comes the first."""
    _, _, world = load_world(Settings(plant=LOOP, play=written(tmp_path)))
    shown = []
    for second in (0, 1, 2, 3, 4):
        world.advance(second + 0.5)
        shown.append(world.shown("loop-io")["column_1"])
    assert shown == [0.0, 10.0, 20.0, 0.0, 10.0]


def test_a_plant_and_a_table_must_fit(tmp_path: Path) -> None:
    """A plant that plays needs a table, and one with physics takes none."""
    with pytest.raises(SimulationError, match="--play"):
        load_world(Settings(plant=LOOP))
    with pytest.raises(SimulationError, match="cannot --play"):
        load_world(Settings(plant=PLANTS / "coal-mine-face", play=written(tmp_path)))


def test_a_real_recording_comes_through_as_it_was_written() -> None:
    """The registers of a recorded pump loop hold the file's own numbers."""
    folder = need_data("skab")
    _, _, world = load_world(Settings(plant=LOOP, play=folder / "other" / "1.csv"))
    world.advance(0.5)
    assert world.shown("loop-io")["column_1"] == 0.054711
    assert world.shown("loop-io")["column_2"] == 76.0197
    assert world.shown("loop-io")["column_3"] == 92.2562
