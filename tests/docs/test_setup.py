"""Holds the set-up to its promises: when it is interrupted, started twice, denied the disk or without a network."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from tests.support.need import ROOT, need_program
from tests.support.wait import eventually

SETUP_S: Final = 60
TITLE: Final = "Making it"


def stage_module() -> ModuleType:
    """Import scripts/stage.py, which is a program and in no package."""
    spec = importlib.util.spec_from_file_location("stage", ROOT / "scripts" / "stage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that holds the set-up alone, with no library to install."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "constraints").mkdir()
    (tmp_path / "constraints" / "runtime.txt").write_text("# none\n", encoding="utf-8")
    return tmp_path


@contextmanager
def started(checkout: Path, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command of the checkout as a terminal would, in a process group of its own, which ends with the block."""
    with subprocess.Popen(
        # Whoever runs the tests in the background lets Ctrl-C be ignored, and that is inherited.
        ["/usr/bin/env", "--default-signal=INT", *command],
        cwd=checkout,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def make(checkout: Path, *arguments: str) -> list[str | Path]:
    """Return the words that run this checkout's make with the tests' own Python."""
    return [need_program("make"), "-C", checkout, "--no-print-directory", f"PYTHON={sys.executable}", *arguments]


def staged(checkout: Path, *command: str, guard: bool = False) -> subprocess.CompletedProcess[str]:
    """Run one stage of the checkout to its end."""
    guarded: list[str | Path] = ["--guard", checkout / ".stamps" / "unfinished"] if guard else []
    return subprocess.run(
        [sys.executable, checkout / "scripts" / "stage.py", *guarded, "it", TITLE, *command],
        capture_output=True,
        text=True,
        timeout=SETUP_S,
        check=False,
    )


def pip_of(checkout: Path) -> list[Path]:
    """Return the pip that is in the checkout's environment."""
    return list(checkout.glob(".venv/lib/python*/site-packages/pip"))


def test_an_interrupted_repair_is_repaired(checkout: Path) -> None:
    """An installation is cut short, then the making of the environment anew as well: the third make succeeds."""
    target = ".stamps/runtime"
    subprocess.run(make(checkout, target), timeout=SETUP_S, check=True, capture_output=True)
    (checkout / ".stamps" / "unfinished").touch()
    (checkout / ".stamps" / "runtime").unlink()
    with started(checkout, *make(checkout, target)) as second:
        eventually(lambda: not pip_of(checkout), timeout_s=SETUP_S, interval_s=0.002)
        os.killpg(second.pid, signal.SIGINT)
        said = second.communicate(timeout=SETUP_S)[1]
    assert "interrupted; the next make goes on from here" in said
    assert not (checkout / ".stamps" / "venv").exists()
    assert (checkout / ".stamps" / "unfinished").exists()
    third = subprocess.run(make(checkout, target), timeout=SETUP_S, check=False, capture_output=True, text=True)
    assert third.returncode == 0, third.stderr
    assert pip_of(checkout)
    assert not (checkout / ".stamps" / "unfinished").exists()


def test_the_second_make_waits_for_the_first(checkout: Path) -> None:
    """One checkout is set up by one make at a time, and the other says what it waits for."""
    alone: list[str | Path] = [sys.executable, checkout / "scripts" / "alone.py"]
    with started(checkout, *alone, "sh", "-c", "echo in; read line < gate; echo first >> order") as first:
        os.mkfifo(checkout / "gate")
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        with started(checkout, *alone, "sh", "-c", "echo second >> order") as second:
            assert second.stderr is not None
            assert second.stderr.readline().startswith("Another make is setting up")
            (checkout / "gate").write_text("go\n", encoding="utf-8")
            assert first.wait(SETUP_S) == 0
            assert second.wait(SETUP_S) == 0
    assert (checkout / "order").read_text(encoding="utf-8").split() == ["first", "second"]


def test_a_checkout_that_cannot_be_written_is_one_line(checkout: Path) -> None:
    """Who cannot write to the checkout reads which file it was, and no traceback."""
    (checkout / ".stamps").touch()
    done = staged(checkout, "true")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: {checkout / '.stamps'}: ")


def test_a_linked_environment_is_not_emptied(checkout: Path) -> None:
    """What .venv leads to may be another checkout's."""
    theirs = checkout / "theirs"
    theirs.mkdir()
    (theirs / "kept").touch()
    (checkout / ".venv").symlink_to(theirs)
    program = checkout / "scripts" / "bootstrap" / "make_venv.py"
    done = subprocess.run([sys.executable, program, "--fresh"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "remove the link first" in done.stderr
    assert (theirs / "kept").exists()


def test_standard_output_is_the_callers(checkout: Path) -> None:
    """What the set-up says does not come between a program and the one that reads its output."""
    done = staged(checkout, "sh", "-c", "echo made; echo warned >&2")
    assert done.returncode == 0
    assert done.stdout == ""
    assert f"{TITLE} done" in done.stderr
    assert (checkout / ".stamps" / "it.log").read_text(encoding="utf-8") == "made\nwarned\n"


@pytest.mark.parametrize(("command", "remains"), [("true", False), ("exit 3", False), ("kill -KILL $$", True)])
def test_the_guard_remains_only_where_the_end_came_from_outside(checkout: Path, command: str, *, remains: bool) -> None:
    """A command that ends by itself leaves a whole environment; one that was killed may leave half a package."""
    done = staged(checkout, "sh", "-c", command, guard=True)
    assert (done.returncode == 0) == (command == "true")
    assert (checkout / ".stamps" / "unfinished").exists() == remains


def test_a_failure_shows_why(checkout: Path) -> None:
    """The end of the output stands in the message, and a network is suspected only where one was asked."""
    done = staged(checkout, "sh", "-c", "echo ModuleNotFoundError: No module named pip; exit 1")
    assert "No module named pip" in done.stderr
    assert "network" not in done.stderr


@pytest.mark.parametrize(
    ("line", "suspected"),
    [
        ("after connection broken by 'NewConnectionError(\"HTTPSConnection(host='a', port=1): Failed to", True),
        ("after connection broken by 'NameResolutionError(\"HTTPSConnection(host='a'): Failed to resolve 'a'", True),
        ("ERROR: Failed to connect to a while fetching b", True),
        ("ReadTimeoutError(\"HTTPSConnectionPool(host='a', port=443): Read timed out. (read timeout=15)\")", True),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", True),
        ("npm error code ENOTFOUND", True),
        ("npm error network request to a failed, reason: connect ECONNREFUSED 127.0.0.1:9", True),
        ("npm error code SELF_SIGNED_CERT_IN_CHAIN", True),
        ("ModuleNotFoundError: No module named 'pip'", False),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'a'", False),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", False),
    ],
)
def test_a_network_that_does_not_answer_is_told_from_other_failures(line: str, *, suspected: bool) -> None:
    """Lines as pip and npm write them."""
    assert bool(stage_module().NO_NETWORK.search(line)) is suspected
