"""The row of a step of an alarm in the table of transitions, whoever took it: the engine, a gateway, a start."""

from math import isfinite
from typing import Any

from tocsin_cloud.adapters.stream import Position
from tocsin_core.engine import Transition
from tocsin_core.journal import Entry


def transition_row(
    step: Transition | Entry,
    occurrence: str,
    alarm: str,
    phases: tuple[str, str],
    position: Position,
    committed_ns: int,
    latency_ns: int | None = None,
) -> dict[str, Any]:
    """The row of a step of `alarm` from the first of `phases` to the second, found at `position` of the stream."""
    return {
        "occurrence": occurrence,
        "alarm": alarm,
        "event": "" if step.event is None else step.event.text,
        "phase_from": phases[0],
        "phase_to": phases[1],
        "time_ns": step.time_ns,
        "now_ns": position.time_ns,
        "value": step.value if step.value is not None and isfinite(step.value) else None,
        "who": step.who or None,
        "reason": step.reason or None,
        "position": position.sequence,
        "committed_ns": committed_ns,
        "latency_ns": latency_ns,
    }
