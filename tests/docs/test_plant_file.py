"""Holds the pages about plant file and alarm rules to the program."""

from math import sqrt
from pathlib import Path
from typing import Final

import pytest

from tests.support.need import ROOT
from tocsin_core.detect import LARGEST_SQUARE, LEAST_READINGS
from tocsin_core.detectors.exposure import LEAST_SHARE
from tocsin_core.detectors.health import FAULT_HIGH_MA, FAULT_LOW_MA, NEIGHBOURS
from tocsin_core.engine import LONGEST_TICK_NS
from tocsin_core.lifecycle import Verb, diagram
from tocsin_core.plant import AlarmKind, load_plant
from tocsin_core.plant.brought import (
    BAD_OFF_DELAY_S,
    EXPOSURE_DEADBAND,
    LOOP_ON_DELAY_S,
    RATE_DEADBAND,
    RATE_OFF_DELAY_S,
    RATE_WINDOW_S,
    SPIKE_OFF_DELAY_S,
    STUCK_WINDOW_S,
)
from tocsin_core.plant.document import EXAMPLE, MORE, document
from tocsin_core.plant.model import PlantFile
from tocsin_core.plant.standards import GAS_SETTLE_S, OXYGEN_IN_AIR, PROCESS_EARLY, TANK_EARLY
from tocsin_core.rules import MAX_SHELVE_S, NS
from tocsin_core.special.watches import SPIKE_TIMES

RULES: Final = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
TIMES: Final = {6.0: "six", 8.0: "eight", 10.0: "ten", 12.0: "twelve"}
FLAT: Final = " ".join(RULES.split())


def test_the_page_is_what_the_program_says() -> None:
    """After a change of the models: `python -m tocsin_core.plant.document > docs/plant-file.md`."""
    assert (ROOT / "docs" / "plant-file.md").read_text(encoding="utf-8") == document()


def test_the_example_is_a_plant_that_passes(tmp_path: Path) -> None:
    """What a reader copies from the page works, and shows each way in and each side of a limit."""
    kinds = set()
    for text in (EXAMPLE, MORE):
        (tmp_path / "plant.yaml").write_text(text, encoding="utf-8")
        kinds |= {d.kind for point in load_plant(tmp_path).points for d in point.definitions}
    # A second low limit shows nothing new; the others want a recording first, or a gas that few have.
    learned = {AlarmKind.CUSUM, AlarmKind.EWMA, AlarmKind.ABNORMAL}
    assert kinds == set(AlarmKind) - learned - {AlarmKind.LL, AlarmKind.PEAKS}


def test_every_mapping_and_every_field_of_the_plant_file_is_on_the_page() -> None:
    """No model is left out, and no field is without a meaning."""
    page, whole = document(), PlantFile.model_json_schema()
    models = [part for name, part in whole["$defs"].items() if "properties" in part and name != "_Name"]
    for part in [*models, whole]:
        assert f"\n{part['description']}\n" in page
        for name, field in part["properties"].items():
            row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
            assert row.count("|") == 5
            assert field["description"] in page


@pytest.mark.parametrize("kind", list(AlarmKind))
def test_every_alarm_kind_has_its_chapter(kind: AlarmKind) -> None:
    """In a heading of its own or with its like."""
    assert any(f"`{kind}`" in line for line in RULES.splitlines() if line.startswith("## "))


def test_the_state_table_is_the_engines() -> None:
    """Each step of the diagram is a row of the page, in its order."""
    rows = RULES.split("| from | event | to |\n| --- | --- | --- |\n")[1].split("\n\n")[0].splitlines()
    steps = [row.strip("| ").split(" | ") for row in rows]
    assert [f"{before} --{event}--> {after}" for before, event, after in steps] == diagram().splitlines()


@pytest.mark.parametrize(
    "said",
    [
        f"below {LEAST_READINGS:g} the line says nothing",
        f"beyond {sqrt(LARGEST_SQUARE):g}".replace("e+", "e"),
        f"for more than {LONGEST_TICK_NS // NS} s nobody was listening",
        (
            f"lasts {MAX_SHELVE_S[1] // 3600} h for low, {MAX_SHELVE_S[2] // 3600} h for medium,"
            f" {MAX_SHELVE_S[3] // 3600} h for high and {MAX_SHELVE_S[4] // 3600} h for critical"
        ),
        (
            f"Default window {RATE_WINDOW_S:g} s, deadband {100 * RATE_DEADBAND:g} % of the set point,"
            f" off-delay {RATE_OFF_DELAY_S:g} s"
        ),
        f"(default {PROCESS_EARLY.horizon_s:g} s; tanks {TANK_EARLY.horizon_s:g} s, API 2350;",
        f"the confidence (default {PROCESS_EARLY.confidence:g})",
        "(default five periods, at least 10 s)",
        f"set point − deadband ({100 * EXPOSURE_DEADBAND:g} % of the set point)",
        f"neither while less than {100 * LEAST_SHARE:g} % of the window was measured",
        f"On request; on-delay {LOOP_ON_DELAY_S:g} s, off-delay {BAD_OFF_DELAY_S:g} s.",
        f"over the window (default {STUCK_WINDOW_S:g} s)",
        f"or oxygen at {OXYGEN_IN_AIR:g}, is not stuck",
        f"On request; off-delay {SPIKE_OFF_DELAY_S:g} s",
        f"the median of its {NEIGHBOURS} neighbours by more than {TIMES[SPIKE_TIMES]} times their spread",
        f"a reading at {FAULT_LOW_MA:g} mA or less or {FAULT_HIGH_MA:.1f} mA or more becomes bad",
        f"so for `settle_s` after ({GAS_SETTLE_S:g} s for gas)",
    ],
)
def test_numbers_on_the_page_are_the_programs(said: str) -> None:
    """A constant that changes has to change here too."""
    assert said in FLAT


def test_every_command_is_named() -> None:
    """A person finds each verb of the engine on the page."""
    words = {"ack": "Acknowledge", "reset": "reset", "shelve": "shelve", "unshelve": "unshelve"}
    assert all(words.get(verb.value, verb.value.replace("-", " ")) in FLAT for verb in Verb)
