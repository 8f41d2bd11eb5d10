"""Settings of every test run: repeatable hypothesis profiles, and the heavy folders on one worker."""

import os
from typing import Final

import pytest
from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("local", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")

HERE: Final = "tests/"
HEAVY: Final = frozenset({"bench", "e2e"})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the tests of whole systems first and keep them on one worker: two at once would measure each other."""
    heavy = [item for item in items if item.nodeid.removeprefix(HERE).split("/")[0] in HEAVY]
    for item in heavy:
        item.add_marker(pytest.mark.xdist_group("heavy"))
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
