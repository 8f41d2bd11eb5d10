"""The rules in service over recorded readings: the engine's own step, and what came of it as numbers."""

from tocsin_core.replay.playing import Occurrence, Played, judged, occurrences, play
from tocsin_core.replay.report import EarlyReport, LabelReport, Report, RuleReport, Spans, report, spans_of

__all__ = [
    "EarlyReport",
    "LabelReport",
    "Occurrence",
    "Played",
    "Report",
    "RuleReport",
    "Spans",
    "judged",
    "occurrences",
    "play",
    "report",
    "spans_of",
]
