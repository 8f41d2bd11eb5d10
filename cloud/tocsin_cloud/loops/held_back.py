"""What waits of a mass of `stale` alarms, so that nothing else waits for it: a commit is as large as what it holds."""

from itertools import islice
from typing import Final

from tocsin_cloud.loops.journal import Step
from tocsin_core.engine import Transition
from tocsin_core.garbage import left_alone
from tocsin_core.lifecycle import TURNS, Event
from tocsin_core.plant import Priority
from tocsin_core.rules import Rules
from tocsin_core.special import Family

# In one commit: a third of a second's work (6,000 a second). With no more than these nothing waits.
PORTION: Final = 2000
_OF_SILENCE: Final = (Event.RAISE, *TURNS)


class HeldBack:
    """Steps of `stale` alarms that the engine has taken and the tables lack, though the position is committed.

    A network that is cut off brings hundreds of thousands at once, and again when it is back. No crash loses or doubles
    them: they are what engine and tables do not agree on, and whoever takes over looks for that (`untold`). So nothing
    waits that it would not find: of each alarm one raising, and returns before and after it. Whatever else the alarm
    does takes with it into its own commit what waits of it.
    """

    def __init__(self, rules: Rules) -> None:
        """Hold nothing."""
        self._rules = rules
        self._silences = (rules.family == Family.STALE).tobytes()
        # The gravest first, by rank, and by alarm; each in the order in which they came.
        self._waiting: dict[int, dict[int, list[Step]]] = {priority.rank: {} for priority in reversed(Priority)}
        self.waiting = 0

    @left_alone()
    def take(self, steps: list[Step]) -> list[Step]:
        """Those of `steps`, all that a commit could hold, that it has to, with what waited of their alarms."""
        many = len(steps) > PORTION
        if not many and not self.waiting:
            return steps
        now: list[Step] = []
        for step in steps:
            number = step.transition.definition
            waiting = self._waiting[self._rules.definitions[number].priority.rank]
            waits = many and self._may_wait(step.transition)
            if number in waiting and not (waits and _joins(step, waiting[number])):
                before = waiting.pop(number)
                self.waiting -= len(before)
                now += before
            if waits:
                waiting.setdefault(number, []).append(step)
                self.waiting += 1
            else:
                now.append(step)
        return now

    def portion(self) -> list[Step]:
        """The next that are to be committed: they wait no longer."""
        steps: list[Step] = []
        for waiting in self._waiting.values():
            for number in list(islice(waiting, PORTION)):
                if len(steps) < PORTION:
                    steps += waiting.pop(number)
        self.waiting -= len(steps)
        return steps

    def _may_wait(self, step: Transition) -> bool:
        silence = self._silences[step.definition] and not (step.who or step.reason)
        return bool(silence and step.event in _OF_SILENCE)


def _joins(step: Step, before: list[Step]) -> bool:
    """Whether a raising or a return may wait behind those `before` it: of two raisings the first would not be found."""
    return step.transition.event in TURNS or all(each.transition.event in TURNS for each in before)
