"""The tests that pages name: each is there, so that what a page promises is held by something."""

from pathlib import Path
from typing import Final

import pytest

from tests.support.named_tests import NAMED, missing_tests
from tests.support.need import ROOT

PAGES: Final = sorted(
    page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if NAMED.search(page.read_text("utf-8"))
)
FAULTS: Final = ROOT / "docs" / "peers-faults.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    """Its file, and the test in it where one is named."""
    assert missing_tests(page.read_text("utf-8")) == []


def test_every_fault_of_a_peer_has_its_test() -> None:
    """Each row of the table names where the fault was seen, what we do, and a test, or says that it is not ours."""
    rows = [line.split(" | ") for line in FAULTS.read_text("utf-8").splitlines() if line.startswith("| ")]
    faults = [row for row in rows if row[0] not in ("| fault", "| ---")]
    assert len(faults) > 60
    for row in faults:
        assert len(row) == 4, row[0]
        assert NAMED.search(row[3]) or row[3].startswith("not ours: "), row[0]


def test_a_test_that_is_not_there_is_seen() -> None:
    """A file that is none, and a name that its file does not have."""
    here = "tests/docs/test_named_tests.py"
    text = f"`{here}` `{here}::test_a_test_that_is_not_there_is_seen` `tests/none.py::test_x` `{here}::test_none`"
    assert missing_tests(text) == ["tests/none.py::test_x", f"{here}::test_none"]
