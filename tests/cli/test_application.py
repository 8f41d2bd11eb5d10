"""What the command says to somebody who does not know its verbs yet."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.logs import json_lines
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


LOUD = """
import asyncio, logging, threading, warnings
from tocsin_cli.logs import log_to_stderr
log_to_stderr()
for library in ("nats.aio.client", "uvicorn.error", "mqtt"):
    logging.getLogger(library).error("%s says\\nso", library)
logging.getLogger("mqtt").log(35, "a %s level %s", "wrong")
warnings.warn("an old way")
thread = threading.Thread(target=lambda: 1 / 0, name="loose")
thread.start()
thread.join()
class Last:
    def __del__(self):
        raise ValueError("at its end")
Last()
async def fails():
    raise KeyError("task")
async def leaves():
    task = asyncio.create_task(fails())
    await asyncio.wait([task])
asyncio.run(leaves())
raise SystemError("nobody catches this")
"""


def test_whoever_says_something_says_it_in_lines_of_one_form() -> None:
    """Libraries, warnings, lost tasks and errors that nobody caught: a line of JSON each, with level and time."""
    ended = subprocess.run([sys.executable, "-c", LOUD], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    told = json_lines(ended.stderr)
    assert [(line["level"], line.get("library")) for line in told] == [
        *(("error", library) for library in ("nats.aio.client", "uvicorn.error", "mqtt")),
        ("warning", "mqtt"),
        ("warning", "py.warnings"),
        ("error", None),
        ("error", None),
        ("error", "asyncio"),
        ("critical", None),
    ]
    raised = [line["exception"].splitlines()[-1] for line in told if "exception" in line]
    last = "SystemError: nobody catches this"
    assert raised == ["ZeroDivisionError: division by zero", "ValueError: at its end", "KeyError: 'task'", last]


COLLECTED = """
import gc, sys, structlog
from tocsin_cli.logs import log_to_stderr
class Circle:
    def __init__(self):
        self.itself = self
    def __del__(self):
        raise ValueError("collected")
class Collecting:
    def write(self, text):
        gc.collect()
        return sys.__stderr__.write(text)
    def flush(self):
        sys.__stderr__.flush()
gc.disable()
log_to_stderr()
Circle()
sys.stderr = Collecting()
structlog.get_logger().info("a line")
"""


def test_what_is_collected_while_a_line_is_written_may_say_something() -> None:
    """An error of it is a line too: nobody waits for the line that is being written."""
    ended = subprocess.run([sys.executable, "-c", COLLECTED], capture_output=True, text=True, check=True, timeout=60)
    first, second = json_lines(ended.stderr)
    assert ("collected" in first["exception"], second["event"]) == (True, "a line")


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
    (late,) = [line for line in lines if line["event"] == LATE]
    assert (late["level"], late["lines"]) == ("warning", 2)
    assert lines[-1]["event"] == "there is room again"
