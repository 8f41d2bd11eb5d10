"""Memory that is needed for a while only: made in a process of its own, and given back."""

import ctypes
import gc
import os
import subprocess
import sys
import weakref
from functools import partial

import pytest

from tocsin_edge.adapters.memory import apart, elsewhere, keep, settle


def test_what_is_made_apart_comes_over_whole() -> None:
    """From another process, however large."""
    made = apart(lambda: (os.getpid(), b"x" * 5_000_000))
    assert made[0] != os.getpid()
    assert made[1] == b"x" * 5_000_000


def test_what_goes_wrong_apart_goes_wrong_here() -> None:
    """With its own error, not a broken pipe's."""

    def fail() -> int:
        raise ValueError("no such plant")

    with pytest.raises(ValueError, match="no such plant"):
        apart(fail)


def test_what_dies_apart_is_made_here() -> None:
    """A child that is killed, for want of memory perhaps, leaves the work to its parent."""
    parent = os.getpid()

    def made() -> str:
        if os.getpid() != parent:
            os.kill(os.getpid(), 9)
        return "here"

    assert apart(made) == "here"


def test_what_stays_is_looked_through_no_more() -> None:
    """The collector leaves alone what was there when the gateway began."""
    keep()
    try:
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_what_stayed_for_the_plant_before_becomes_free() -> None:
    """Also what refers to itself: the collector looks through everything once."""

    class Loop:
        """Refers to itself."""

        def __init__(self) -> None:
            self.me = self

    before, gone = Loop(), list[str]()
    weakref.finalize(before, gone.append, "gone")
    keep()
    try:
        del before
        gc.collect()
        assert not gone
        settle()
        assert gone
    finally:
        gc.unfreeze()


STARTED = """
import gc, sys
from tocsin_cli import main
sys.argv = ["tocsin", "edge", "--help"]
try:
    main.main()
except SystemExit:
    assert not gc.isenabled()
from pydantic import BaseModel
from tocsin_edge.adapters.memory import imported
imported()
assert gc.isenabled() and gc.get_freeze_count() > 10_000
def all_of(model):
    return {model}.union(*map(all_of, model.__subclasses__()))
checkers = {each.__name__ for each in all_of(BaseModel) if each is not BaseModel and each.__pydantic_complete__}
print(checkers or "none")
"""


def test_a_start_makes_no_checker_of_plant_files() -> None:
    """What reads the plant file is another process: until then, and in this one for ever, nothing is there to check.

    Nor does the collector look through what is imported.
    """
    done = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "none"


def test_what_is_made_elsewhere_comes_over_and_leaves_nothing_behind() -> None:
    """From an interpreter that shares nothing with this one; what went wrong there is told."""
    assert elsewhere(partial(divmod, 17, 5)) == (3, 2)
    assert elsewhere(os.getpid) != os.getpid()
    assert elsewhere(partial(print, "what it logs")) is None
    with pytest.raises(ChildProcessError, match="ended with 1: ZeroDivisionError"):
        elsewhere(partial(divmod, 1, 0))


HEAPS = """
import ctypes, threading
from tocsin_edge.adapters.memory import one_heap
one_heap()
kept, full = [], threading.Barrier(4)
def fill():
    kept.append(bytearray(100_000))
    full.wait()
threads = [threading.Thread(target=fill) for _ in range(4)]
for each in threads: each.start()
for each in threads: each.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="another C library than glibc")
def test_threads_share_one_heap() -> None:
    """What four threads have filled at the same time is all in the first one's."""
    done = subprocess.run([sys.executable, "-c", HEAPS], capture_output=True, text=True, check=True)
    assert done.stdout.count("<heap nr=") == 1
