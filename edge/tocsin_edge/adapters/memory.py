"""Memory that was needed for a while and is no more, given back to the system."""

import ctypes
import gc
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")
# malloc.h of glibc.
M_ARENA_MAX: Final = -8


def one_heap() -> None:
    """Let the threads to come share the C library's heap: each of its own keeps what the others could use.

    Only of glibc is it known how to say so. With slices of 1,000 points coming, 2 to 4 MB are saved.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def imported() -> None:
    """Take what was imported for what stays, and let the collector work, which may have been off until now."""
    gc.freeze()
    gc.enable()


def keep() -> None:
    """Take what is in memory for what stays: no later collection looks through it, and what was freed is given back.

    Reading a plant file of 1,000 points leaves 7 MB of holes that the C library keeps for later; where it is not
    glibc there is nothing to ask.
    """
    gc.collect()
    gc.freeze()
    give_back()


def settle() -> None:
    """Do so after another plant file is in force: what stayed for the one before is free then."""
    gc.unfreeze()
    keep()


def give_back() -> None:
    """Give what was freed back to the system, where the C library does not do so by itself."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def elsewhere(make: Callable[[], T]) -> T:
    """Do `make`, which must be picklable, in another interpreter; give what it gave.

    For when there are threads. Nothing of what that takes, modules included, stays in this process.

    Raises:
        ChildProcessError: it did not end well; with the last that it said.
    """
    command = (sys.executable, "-P", "-c", "from tocsin_edge.adapters.memory import _serve; _serve()")
    asked = pickle.dumps(make, pickle.HIGHEST_PROTOCOL)
    done = subprocess.run(command, input=asked, capture_output=True, check=False)  # noqa: S603 - our own code
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ChildProcessError(f"ended with {done.returncode}: {said[-1] if said else ''}")
    made: T = pickle.loads(done.stdout)  # noqa: S301 - our own child's
    return made


def _serve() -> None:
    make = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own parent's
    with os.fdopen(os.dup(1), "wb") as answer:
        # What is printed meanwhile is no part of the answer.
        os.dup2(2, 1)
        pickle.dump(make(), answer, pickle.HIGHEST_PROTOCOL)


def apart(make: Callable[[], T]) -> T:
    """Do `make` in a process of its own, and give what it gave: what it needed meanwhile never was this one's.

    Only before there are threads. What goes wrong there goes wrong again here, where it can be told.
    """
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(readable)
            with open(writable, "wb") as pipe:  # noqa: PTH123 - a descriptor, not a path
                pickle.dump(make(), pipe, pickle.HIGHEST_PROTOCOL)
            status = 0
        finally:
            # Nothing of the parent is this one's to end.
            os._exit(status)
    os.close(writable)
    with open(readable, "rb") as pipe:  # noqa: PTH123
        data = pipe.read()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        return make()
    made: T = pickle.loads(data)  # noqa: S301 - our own child's
    return made
