"""What goes wrong in each cycle of the fault benchmark: drawn from a seed, the same each time."""

from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final

KILL_SHARE: Final = 0.5
CUT_SHARE: Final = 0.4
DEVICE_SHARE: Final = 0.4
# A gateway that has just been started again is killed again at once this often.
KILL_AGAIN_SHARE: Final = 0.2
# What the disk refuses is in memory, and a kill takes it: that is no loss that could be avoided. So one or the other.
DISK_SHARE: Final = 0.4
CLOCK_SHARE: Final = 0.25
ANSWER_SHARE: Final = 0.3
SLICE_SHARE: Final = 0.25
# A version that is sent has so long to show that it works, and a cycle with one is longer by as much.
TRIAL_S: Final = 4.0
# The clock is ahead by no more than this: what is set back by more is followed at once.
MOST_AHEAD_S: Final = 4.0


class Cut(Enum):
    """What becomes of the link; each ends with every connection broken."""

    REFUSED = "connections are broken, and refused"
    SILENT = "both directions are swallowed"
    UP = "what the gateway says is swallowed"
    DOWN = "what the cloud side says is swallowed"


class Trouble(Enum):
    """What an instrument does wrong."""

    DEAD = "it does not answer"
    SLOW = "it answers late, but in time"
    LATE = "it answers when nobody waits any more"
    RESTART = "it ends its connections and takes none for a while"


class Disk(Enum):
    """What the gateway's disk does not take."""

    FULL = "no file grows beyond a few pages"
    NOTHING = "not a byte is written"


class Slice(Enum):
    """What version of its plant file the gateway is sent."""

    GOOD = "alarms with another deadband"
    FORGED = "signed by somebody else"
    UNFIT = "an instrument at a port where none is: it works no more, and the version has to be rolled back"
    KILLED = "a good one, and a kill -9 in its trial"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a cycle, in seconds from its beginning."""

    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle: trouble of link, instrument and disk, kills, another version; each may be missing, but not all.

    `clock` is when the gateway's clock is set, and by how much it is ahead from then on, both in s; at `answer_s`
    somebody acknowledges all that waits; `slice` is what version of its plant file the gateway is sent, and when.
    """

    length_s: float
    cut: tuple[Cut, Span] | None
    trouble: tuple[Trouble, int, Span] | None
    kill_s: float | None
    kill_again_s: float | None
    disk: tuple[Disk, Span] | None
    clock: tuple[float, float] | None
    answer_s: float | None
    slice: tuple[Slice, float] | None


def script(cycles: int, devices: int, seed: int) -> list[Cycle]:
    """Draw so many cycles of a plant of so many instruments."""
    rng = Random(seed)  # noqa: S311 - faults, not secrets
    return [_cycle(rng, devices) for _ in range(cycles)]


def _cycle(rng: Random, devices: int) -> Cycle:
    while True:
        shares = (KILL_SHARE, CUT_SHARE, DEVICE_SHARE, DISK_SHARE, CLOCK_SHARE, ANSWER_SHARE, SLICE_SHARE)
        kill, cut, trouble, disk, clock, answer, sent = (rng.random() < share for share in shares)
        version = rng.choice(list(Slice)) if sent else None
        disk &= not kill and version is not Slice.KILLED
        if kill or cut or trouble or disk or sent:
            break
    length_s = rng.uniform(0.8, 1.8)
    return Cycle(
        length_s if version is None else length_s + TRIAL_S,
        (rng.choice(list(Cut)), _span(rng, length_s)) if cut else None,
        (rng.choice(list(Trouble)), rng.randrange(devices), _span(rng, length_s)) if trouble else None,
        rng.uniform(0.2, length_s) if kill else None,
        rng.uniform(0.0, 1.5) if kill and rng.random() < KILL_AGAIN_SHARE else None,
        (rng.choice(list(Disk)), _span(rng, length_s)) if disk else None,
        (rng.uniform(0.0, length_s), rng.uniform(0.0, MOST_AHEAD_S)) if clock else None,
        rng.uniform(0.0, length_s) if answer else None,
        (version, rng.uniform(0.0, length_s / 2)) if version is not None else None,
    )


def _span(rng: Random, length_s: float) -> Span:
    begin_s = rng.uniform(0.0, length_s / 2)
    return Span(begin_s, rng.uniform(begin_s + 0.2, length_s + 0.2))
