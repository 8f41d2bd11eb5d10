"""What alarms depend on besides their own point, told slowly: instrument modes, suppression by design, first-out."""

from dataclasses import dataclass
from typing import Final

from tests.core.oracle_lines import SECOND
from tocsin_core.plant import Suppressor
from tocsin_core.plant.point import ModeSource

GOOD_BITS: Final = 3
UNCERTAIN_BITS: Final = 1
WARMED_UP_TOO_LITTLE: Final = 0x50  # uncertain: sensor not accurate
OUT_OF_SERVICE: Final = 0x1C  # bad: out of service


def is_good(quality: int) -> bool:
    """Whether the two upper bits of an OPC quality say good."""
    return quality >> 6 == GOOD_BITS


def is_bad(quality: int) -> bool:
    """Whether they say neither good nor uncertain."""
    return quality >> 6 not in (GOOD_BITS, UNCERTAIN_BITS)


class Instrument:
    """What an instrument is doing, as its status word says."""

    def __init__(self, source: ModeSource) -> None:
        """It is in normal operation until it says otherwise."""
        self.source = source
        self.mode = "normal"
        self.left = "normal"
        self.left_ns: int | None = None

    def _told(self, word: int) -> str:
        source = self.source
        if source.code_mask:
            code = word & source.code_mask
            bits = 2**code if code <= 62 else 0
        else:
            bits = word
        if bits & source.calibration:
            return "calibration"
        return "warm-up" if bits & source.warm_up else "normal"

    def hear(self, time_ns: int, value: float, quality: int) -> None:
        """Take a reading of the status word; one that is not good changes nothing."""
        if not is_good(quality):
            return
        told = self._told(int(value))
        if told == "normal" and self.mode != "normal":
            self.left, self.left_ns = self.mode, time_ns
        self.mode = told

    def quality(self, time_ns: int, quality: int) -> int:
        """The quality of a reading that the instrument gave at `time_ns` with this one."""
        mode = self.mode
        settling = self.left_ns is not None and time_ns - self.left_ns < round(self.source.settle_s * SECOND)
        if mode == "normal" and settling:
            mode = self.left
        if mode == "normal" or is_bad(quality):
            return quality
        if mode == "calibration":
            return OUT_OF_SERVICE
        return WARMED_UP_TOO_LITTLE if is_good(quality) else quality


class Suppressing:
    """Suppression by design of one alarm, from all that its trigger has said."""

    def __init__(self, by: Suppressor) -> None:
        """The trigger has not been heard."""
        self.by = by
        self.heard: list[tuple[int, bool]] = []

    def hear(self, time_ns: int, value: float, quality: int) -> None:
        """Take a reading of the trigger; one that is not good says no."""
        self.heard.append((time_ns, is_good(quality) and self.by.low <= value <= self.by.high))

    def suppresses(self, time_ns: int) -> bool:
        """Whether a reading of the alarm's point at `time_ns` is suppressed, by what the trigger said till now."""
        if not self.heard or abs(time_ns - self.heard[-1][0]) > round(self.by.longest_s * SECOND):
            return False
        on_ns, off_ns = round(self.by.on_delay_s * SECOND), round(self.by.off_delay_s * SECOND)
        active, since_ns = False, None
        for at_ns, said in [*self.heard, (time_ns, None)]:
            if since_ns is not None and at_ns - since_ns >= (off_ns if active else on_ns):
                active, since_ns = not active, None
            if said is not None and said == active:
                since_ns = None
            elif said is not None and since_ns is None:
                since_ns = at_ns
        return active


@dataclass
class Group:
    """A group of alarms of which it is told which came first."""

    name: str
    members: tuple[str, ...]
    number: dict[str, int]
    past_ns: int = -1
    first: tuple[int, int] | None = None

    def is_first(self, alarm: str, onset_ns: int) -> bool:
        """Whether `alarm`, raised now with this onset, is the earliest since all members were last normal."""
        if alarm not in self.members or onset_ns < self.past_ns:
            return False
        mine = (onset_ns, self.number[alarm])
        if self.first is not None and self.first <= mine:
            return False
        self.first = mine
        return True

    def rest(self, time_ns: int) -> None:
        """All members are normal again since `time_ns`."""
        self.first = None
        self.past_ns = max(self.past_ns, time_ns)
