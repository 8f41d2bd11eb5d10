"""What this end takes over of an alarm that its gateway has raised when that begins to decide it."""

from dataclasses import replace
from typing import Final

from tocsin_cloud.loops.theirs import Theirs
from tocsin_core.engine import Aspect, State
from tocsin_core.journal import Entry
from tocsin_core.lifecycle import Event, Phase

STANDS: Final = "stands at the gateway"
ANSWERED: Final = "acknowledged at the gateway"
_LATCHED: Final = (Phase.LATCHED_UNACKNOWLEDGED, Phase.LATCHED_ACKNOWLEDGED)


def concerns(theirs: Theirs, state: State, number: int) -> bool:
    """Whether the gateway's occurrence of an alarm, definition `number` here, is to be known here.

    One that is over is as long as somebody should answer it, if it is later than what was known here.
    """
    if theirs.stands:
        return True
    onset_ns = int(state.onset_ns[number])
    unanswered = theirs.phase is not Phase.NORMAL and theirs.known_ns(onset_ns) > onset_ns
    return bool(unanswered and not state.active[number])


def raised_there(alarm: str, theirs: Theirs, state: State, number: int) -> Entry:
    """The raising of the gateway's occurrence; what hides the alarm is as it is here."""
    return Entry(
        alarm,
        Event.RAISE,
        theirs.onset_ns,
        Phase.UNACKNOWLEDGED,
        theirs.onset_ns,
        until_ns=int(state.shelved_until_ns[number]),
        once=bool(state.shelved_once[number]),
        out_of_service=bool(state.out_of_service[number]),
        suppressed=bool(state.suppressed[number]),
    )


def taken_over(raised: Entry, theirs: Theirs, state: State, number: int, now_ns: int) -> list[Entry]:
    """The steps that bring an alarm at `now_ns` to where it is at the gateway, whose raising of it is `raised`.

    What was known here keeps its id, and is one occurrence: an acknowledgement there is one here, unless somebody here
    has taken one back.
    """
    active, onset_ns = bool(state.active[number]), int(state.onset_ns[number])
    taken = replace(raised, time_ns=now_ns, onset_ns=theirs.known_ns(onset_ns), reason=STANDS)
    if not theirs.stands:
        event = Event.RETURN_LATCHED if theirs.phase in _LATCHED else Event.RETURN
        return [raised, replace(raised, event=event, time_ns=theirs.returned_ns, phase=theirs.phase)]
    told = [] if active else [taken]
    taken_back = state.commanded_ns[number, Aspect.ANSWER] > onset_ns
    if theirs.phase is Phase.ACKNOWLEDGED and not (active and (taken_back or state.phase[number] == theirs.phase)):
        told.append(replace(taken, event=Event.ACKNOWLEDGE, phase=theirs.phase, who="tocsin", reason=ANSWERED))
    return told
