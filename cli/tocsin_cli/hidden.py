"""Modules that another one would import for more than it is used for here."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Let imports find no `module` meanwhile, unless it is there already; who can do without it does."""
    there = module in sys.modules
    if not there:
        # What Python itself takes for "not to be found".
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not there:
            del sys.modules[module]
