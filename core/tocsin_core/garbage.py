"""Python's search for garbage, kept out of what makes hundreds of thousands of objects that stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def left_alone() -> Iterator[None]:
    """Look for no garbage meanwhile: it would go over all that was just made, again and again, and take half the time.

    For what never waits; all threads are concerned.
    """
    looks = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looks:
            gc.enable()
