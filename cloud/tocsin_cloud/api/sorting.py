"""What the alarm list counts as what, and its order in SQL: unanswered first, then by priority, then the newest."""

from typing import Any, Final

from sqlalchemy import ColumnElement, case

from tocsin_cloud.adapters.sql.models import Occurrence
from tocsin_core.lifecycle import UNANSWERED, Phase
from tocsin_core.plant import AlarmKind, Priority

UNANSWERED_TEXT: Final = tuple(phase.text for phase in UNANSWERED)
# Whose condition is still true; the others wait for a person or a reset.
STANDING_TEXT: Final = (Phase.UNACKNOWLEDGED.text, Phase.ACKNOWLEDGED.text)
# What warns before a limit is reached.
EARLY_KINDS: Final = (AlarmKind.TIME_TO_LIMIT, AlarmKind.CUSUM, AlarmKind.EWMA, AlarmKind.ABNORMAL)


def alarm_order() -> tuple[ColumnElement[Any], ...]:
    """Return the arguments of `order_by` for the alarm list."""
    answered = case((Occurrence.phase.in_(UNANSWERED_TEXT), 0), else_=1)
    rank = case(*((Occurrence.priority == str(priority), priority.rank) for priority in Priority), else_=0)
    return answered, rank.desc(), Occurrence.raised_ns.desc(), Occurrence.id.asc()
