"""Which occurrence here an entry of a gateway's journal is about, where this end judges the alarm as well."""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from tocsin_core.journal import Entry
from tocsin_core.lifecycle import ACTIVE, Event, Phase


class Theirs(NamedTuple):
    """The occurrence of an alarm that its gateway told of last: its onset, when it returned (0: it stands), its phase.

    Where the return is known before its entry is reached, the phase is that of the entries so far.
    """

    onset_ns: int
    returned_ns: int
    phase: Phase

    @classmethod
    def of(cls, kept: Sequence[int]) -> "Theirs":
        """That of which a snapshot keeps the numbers."""
        onset_ns, returned_ns, phase = kept
        return cls(onset_ns, returned_ns, Phase(phase))

    @property
    def stands(self) -> bool:
        """Whether it has not returned, as far as is known."""
        return self.returned_ns == 0

    def reaches(self, onset_ns: int) -> bool:
        """Whether it still stood there after `onset_ns`."""
        return self.returned_ns == 0 or self.returned_ns > onset_ns

    def known_ns(self, onset_ns: int) -> int:
        """The onset under which it is known here, where the last occurrence has `onset_ns` (0: there was none).

        What stood there after that was raised is the same: what is raised anew takes its place here.
        """
        return onset_ns if onset_ns and self.reaches(onset_ns) else self.onset_ns

    def after(self, entry: Entry, over_ns: int) -> "Theirs":
        """What is known after `entry`, of an occurrence that returned at `over_ns` as far as is known by now (0)."""
        if entry.onset_ns == 0 or (entry.event is not Event.RAISE and entry.onset_ns < self.onset_ns):
            return self
        before_ns = self.returned_ns if entry.onset_ns == self.onset_ns else 0
        # Where its return was never told it may have been over at once.
        gone_ns = 0 if entry.phase in ACTIVE else entry.onset_ns
        return Theirs(entry.onset_ns, over_ns or before_ns or gone_ns, entry.phase)


NONE: Final = Theirs(0, 1, Phase.NORMAL)


class Ours(NamedTuple):
    """The occurrence of an alarm that is known here (onset 0: none), its phase, and whether this end judges it."""

    onset_ns: int
    phase: Phase
    judged: bool


class Meant(Enum):
    """What an entry is about: the occurrence known here, another that takes its place, or one that is past here."""

    OURS = auto()
    ANOTHER = auto()
    PAST = auto()


def meant(entry: Entry, before: Theirs, now: Theirs, ours: Ours) -> Meant:
    """Which occurrence `entry` is about; the gateway's was `before` it, and is `now`.

    An alarm is one occurrence from when one end raised it first. What the gateway raises meanwhile is the same, under
    another onset there; what it raises again after a return is a new one.
    """
    if entry.onset_ns in (0, ours.onset_ns):
        return Meant.OURS
    if entry.event is Event.RAISE:
        return _meant_by_raising(entry, before, now, ours)
    # Also where the word of its raising was lost: it stood there when it was raised here.
    known = entry.onset_ns == now.onset_ns and (entry.onset_ns == before.onset_ns or entry.onset_ns < ours.onset_ns)
    if known and ours.onset_ns and now.reaches(ours.onset_ns):
        return Meant.OURS
    return Meant.PAST if ours.judged and entry.onset_ns < ours.onset_ns else Meant.ANOTHER


def _meant_by_raising(entry: Entry, before: Theirs, now: Theirs, ours: Ours) -> Meant:
    if not ours.judged:
        return Meant.ANOTHER
    if entry.onset_ns < ours.onset_ns:
        return Meant.OURS if now.reaches(ours.onset_ns) else Meant.PAST
    again = entry.onset_ns != before.onset_ns and before.reaches(ours.onset_ns)
    return Meant.OURS if ours.phase in ACTIVE and not again else Meant.ANOTHER
