"""Memory that is needed for a while only: made in a process of its own, and given back."""

import gc
import os
from functools import partial

import pytest

from tocsin_edge.adapters.memory import apart, elsewhere, settle


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
    settle()
    try:
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_what_is_made_elsewhere_comes_over_and_leaves_nothing_behind() -> None:
    """From an interpreter that shares nothing with this one; what went wrong there is told."""
    assert elsewhere(partial(divmod, 17, 5)) == (3, 2)
    assert elsewhere(os.getpid) != os.getpid()
    assert elsewhere(partial(print, "what it logs")) is None
    with pytest.raises(ChildProcessError, match="ended with 1: ZeroDivisionError"):
        elsewhere(partial(divmod, 1, 0))
