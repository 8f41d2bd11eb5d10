"""`tocsin test-rules` as a user runs it: in a process of its own, with its words and its exit code."""

import json
import re
from pathlib import Path
from typing import Final

from tests.cli.command import started, tocsin
from tests.support.need import ROOT
from tocsin_core.lifecycle import Phase, Verb
from tocsin_core.rule_tests.notation import BAD_WORDS, UNCERTAIN_WORDS

GOOD: Final = """\
rule_tests: 1
points: [{id: P, name: 压力, kind: pressure, alarms: {H: {setpoint: 1}}}]
tests:
  - {name: reaches its limit, series: {P: "0x5 1x5"}, alarms: {P/H: {raised: 5s}}}
  - {name: stays below, series: {P: "0x5 0.9x5"}, alarms: {P/H: {raised: never}}}
"""


def test_what_passes_is_listed_and_the_exit_is_0(tmp_path: Path) -> None:
    """Files in the folder and below it are found, each test has its line."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "p.yaml").write_text(GOOD, encoding="utf-8")
    done = started("test-rules", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "below/p.yaml", "  ok      reaches its limit", "  ok      stays below", "2 ok, 0 failed",
    ]  # fmt: skip


def test_what_fails_is_drawn_and_the_exit_is_1(tmp_path: Path) -> None:
    """The failing test has its line, what differs, and the picture; the others are still run."""
    file = tmp_path / "p.yaml"
    file.write_text(GOOD.replace("raised: 5s", "raised: 7s"), encoding="utf-8")
    done = tocsin("test-rules", str(file), "--json")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[1:3] == [
        "  FAILED  reaches its limit", "          p.yaml:4: P/H is raised: expected 7s, seen 5s",
    ]  # fmt: skip
    assert [line.strip() for line in lines[4:7]] == [
        "P                             readings 0000099999",
        "P/H                           expected        ^",
        "seen     .....#####",
    ]
    assert json.loads(lines[-1]) == {
        "ok": False,
        "passed": 1,
        "failed": 1,
        "problems": [],
        "tests": [
            {
                "file": "p.yaml",
                "line": 4,
                "name": "reaches its limit",
                "ok": False,
                "failures": [{"line": 4, "message": "P/H is raised: expected 7s, seen 5s"}],
            },
            {"file": "p.yaml", "line": 5, "name": "stays below", "ok": True, "failures": []},
        ],
    }


def test_a_file_that_does_not_hold_is_named_and_the_others_run(tmp_path: Path) -> None:
    """Its problems go to stderr with file and line; the exit code is 1."""
    (tmp_path / "a.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(GOOD.replace('"0x5 1x5"', "0x5"), encoding="utf-8")
    (tmp_path / "c.yaml").write_bytes(b"\xff")
    (tmp_path / "d.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "e.yaml").mkdir()
    done = tocsin("test-rules", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "b.yaml:4: tests[0].series.P: put the series in quotes: YAML takes this one for a number",
        "c.yaml:1: not UTF-8: invalid start byte at byte 0",
        "d.yaml:1: No such file or directory",
        "e.yaml:1: Is a directory",
    ]
    assert done.stdout.splitlines()[-1] == "2 ok, 0 failed, 4 problems in the files"


def test_a_plant_that_is_not_there_is_said_at_its_line(tmp_path: Path) -> None:
    """The folder is looked for beside the file."""
    text = 'rule_tests: 1\nplant: nowhere\ntests: [{name: a, series: {P: "1"}, alarms: {P/H: {raised: never}}}]\n'
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    done = tocsin("test-rules", str(tmp_path))
    assert done.stderr == "p.yaml:2: plant: nowhere:1: no such folder\n"
    assert done.returncode == 1


def test_an_empty_folder_is_a_wrong_argument(tmp_path: Path) -> None:
    """Testing nothing is no success."""
    done = tocsin("test-rules", str(tmp_path))
    assert done.returncode == 2
    assert "no .yaml files" in done.stderr


def test_the_page_shows_what_the_program_does(tmp_path: Path) -> None:
    """The example of docs/testing-rules.md passes, its failing sister looks as printed, and every word is named."""
    page = (ROOT / "docs" / "testing-rules.md").read_text(encoding="utf-8")
    example, failed = re.findall(r"```(?:yaml)?\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "gas.yaml"
    file.write_text(example, encoding="utf-8")
    assert tocsin("test-rules", str(file)).returncode == 0
    file.write_text(example.replace("raised: 9s", "raised: 8s"), encoding="utf-8")
    assert failed in tocsin("test-rules", str(file)).stdout
    flat = " ".join(page.split())
    assert ", ".join(BAD_WORDS) in flat
    assert ", ".join(UNCERTAIN_WORDS) in flat
    assert all(phase.text in flat for phase in Phase)
    assert all(re.search(rf"\b{verb.value}\b", flat) for verb in Verb)
