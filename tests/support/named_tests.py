"""The tests that a page names, and whether they are there."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.need import ROOT

NAMED: Final = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@cache
def _functions_of(path: Path) -> frozenset[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, kinds))


def missing_tests(text: str) -> list[str]:
    """Name the files, and the tests in them, that `text` speaks of and that are not there."""
    return [
        f"{file}::{test}" if test else file
        for file, test in NAMED.findall(text)
        if not (ROOT / file).is_file() or (test and test not in _functions_of(ROOT / file))
    ]
