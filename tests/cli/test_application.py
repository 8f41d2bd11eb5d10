"""What the command says to somebody who does not know its verbs yet."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tocsin_cli.application import run_application
from tocsin_cli.logs import LATE
from tocsin_cli.main import VERBS

SOME = {name: VERBS[name] for name in ("check", "bench")}


def test_without_a_verb_it_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Each on a line of its own, and nothing is said to be wrong."""
    assert run_application(SOME, []) == 2
    out, err = capsys.readouterr()
    listed = [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()]
    assert (set(SOME) <= set(listed), err) == (True, "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["chekc"], "No such command 'chekc'. Did you mean 'check'? (`tocsin --help` lists them)"),
        (["bench"], "Missing command. (`tocsin bench --help` lists them)"),
        (["bench", "x"], "No such command 'x'. (`tocsin bench --help` lists them)"),
        (["check"], "Missing argument 'plant'."),
    ],
)
def test_a_verb_that_there_is_not_is_one_line_that_says_where_to_look(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other mistakes are said without it: they name what is wrong themselves."""
    assert run_application(SOME, arguments) == 2
    assert capsys.readouterr() == ("", f"tocsin: {told}\n")


FULL = """
import os, sys, structlog
from tocsin_cli.logs import log_to_stderr
log_to_stderr()
for number in range(2):
    structlog.get_logger().error("on a full disk", number=number)
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
os.dup2(file, 2)
structlog.get_logger().info("there is room again")
"""


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    """On a full disk (`/dev/full`) the work goes on, and how many lines are missing is told once there is room."""
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "log")], stderr=full, check=False)
    assert ended.returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    assert {"event": LATE, "level": "warning", "lines": 2} in lines
    assert lines[-1]["event"] == "there is room again"
