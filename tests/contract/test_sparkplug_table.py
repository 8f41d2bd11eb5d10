"""docs/sparkplug-conformance.md has every testable statement of Sparkplug 3.0.0 once, and names tests that exist."""

import re
from pathlib import Path
from typing import Final

from tests.support.named_tests import NAMED, missing_tests
from tests.support.need import ROOT

TABLE: Final = ROOT / "docs" / "sparkplug-conformance.md"
# The identifiers of the specification's version 3.0.0, one a line.
STATEMENTS: Final = Path(__file__).parent / "sparkplug_statements.txt"
ROW: Final = re.compile(r"^\| `(tck-id-[\w-]+)` \| (.+?) \| (.+?) \|$")
IDENTIFIER: Final = re.compile(r"`(tck-id-[\w-]+)`")
NOT_OURS: Final = "## Not ours\n"


def parts() -> tuple[str, str]:
    """Cut the page: the statements that are held, or deviated from; and those that do not apply."""
    page = TABLE.read_text(encoding="utf-8")
    assert page.count(NOT_OURS) == 1
    held, _, rest = page.partition(NOT_OURS)
    return held, rest.partition("\n## ")[0]


def rows() -> list[tuple[str, str, str]]:
    """Read the conformance table: identifier, what it asks, and how it is covered."""
    found = [ROW.match(line) for line in parts()[0].splitlines() if line.startswith("| `tck-id")]
    assert all(found), "a row of the table has another form"
    return [match.groups() for match in found if match is not None]  # type: ignore[misc]


def test_each_statement_of_the_specification_stands_once() -> None:
    """In a row of its own, or among those that are not ours; and none that the specification does not have."""
    known = STATEMENTS.read_text(encoding="utf-8").split()
    told = [name for name, _, _ in rows()] + IDENTIFIER.findall(parts()[1])
    assert sorted(told) == sorted(known)
    assert len(known) == len(set(known)) == 299


def test_the_table_names_tests_that_exist() -> None:
    """For each statement a test that is there; where we deviate, one that shows what is done instead."""
    for name, _, cover in rows():
        assert NAMED.search(cover), f"{name}: {cover}"
        assert missing_tests(cover) == [], name
