"""Tests that users write for their own rules: series in, alarms expected at times, run on the engine itself."""

from tocsin_core.rule_tests.document import Case, RuleTestError, parse
from tocsin_core.rule_tests.running import Failure, Outcome, run
from tocsin_core.rule_tests.timeline import LEGEND, draw

__all__ = ["LEGEND", "Case", "Failure", "Outcome", "RuleTestError", "draw", "parse", "run"]
