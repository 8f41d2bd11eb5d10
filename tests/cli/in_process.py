"""The command line run within the test's own process, where starting another one would only cost time."""

import sys

import pytest

from tocsin_cli.main import main


def tocsin(patch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command line with these words, and return its exit code."""
    patch.setattr(sys, "argv", ["tocsin", *words])
    # The logs of the tests that follow would go to a standard error that is closed by then.
    patch.setattr("tocsin_cli.main.log_to_stderr", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code
