"""Memory that is needed for a while only: made in a process of its own, and given back."""

import gc
import os

import pytest

from tocsin_edge.adapters.memory import apart, settle


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
