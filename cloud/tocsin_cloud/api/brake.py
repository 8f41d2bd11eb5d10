"""The brake on guessing passwords: who failed how often of late, in bounded memory, also under names of nobody."""

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tocsin_core.clock import Clock

FREE_FAILURES: Final = 5
FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 300.0
FORGET_S: Final = 900.0
MOST_ADDRESSES: Final = 4096
MOST_NAMES: Final = 16
"""Of one address."""
MOST_FAMILIAR: Final = 4096
CELLS: Final = 4096
IPV6_PREFIX: Final = 64
"""The bits of an IPv6 address that its owner does not choose freely (RFC 4291, 2.5.4)."""


class Pace(NamedTuple):
    """How many failures are free, and in how many seconds one of them is forgotten."""

    free: int
    each_s: float


# A shift that signs in behind one address; a stranger there costs a hash (some 50 ms) every two seconds.
OF_ADDRESS: Final = Pace(20, 2.0)
# Reached from ten addresses or more: whoever guesses one password from everywhere.
OF_NAME: Final = Pace(50, 10.0)


@dataclass(slots=True)
class _Level:
    """How full the measure of a `Pace` was, and when."""

    level: float = 0.0
    at_s: float = 0.0

    def now(self, pace: Pace, now_s: float) -> float:
        return max(0.0, self.level - (now_s - self.at_s) / pace.each_s)

    def add(self, amount: int, pace: Pace, now_s: float) -> None:
        self.level, self.at_s = max(0.0, self.now(pace, now_s) + amount), now_s

    def wait_s(self, pace: Pace, now_s: float) -> float:
        return max(0.0, (self.now(pace, now_s) + 1 - pace.free) * pace.each_s)


@dataclass(slots=True)
class _Address:
    """What came from one address: failures altogether, and by name (how many, and the last one's time)."""

    all: _Level = field(default_factory=_Level)
    names: dict[str, tuple[int, float]] = field(default_factory=dict)

    def standing(self, name: str, now_s: float) -> tuple[int, float]:
        """How often `name` failed, and for how many seconds it has not; what is long ago is forgotten."""
        count, last_s = self.names.get(name, (0, 0.0))
        since_s = now_s - last_s
        return (count, since_s) if since_s < FORGET_S else (0, since_s)


class Brake:
    """Counts failed sign-ins: by user and address, by address, and by user from wherever.

    After the free ones each further failure of a user from an address doubles the wait there. An address that fails
    with many names, and a name that fails from many addresses, come to a steady pace; a user who has signed in from
    that address before is not held to it, so that no stranger keeps him out by names that he makes up. Which users
    there are is asked nowhere here: neither what a name costs nor how it is answered tells.
    """

    def __init__(self, clock: Clock) -> None:
        """Start with nobody on record."""
        self._clock = clock
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._familiar: OrderedDict[tuple[str, str], None] = OrderedDict()
        # Names share their measures by chance, so that no flood of names pushes one out: Python's hashes are salted.
        self._names = [_Level() for _ in range(CELLS)]

    def wait_s(self, user: str, address: str) -> int:
        """Return the whole seconds until `user` may try again from `address`; 0 for at once."""
        now_s, place = self._clock.monotonic(), place_of(address)
        found = self._addresses.get(place, _Address())
        count, since_s = found.standing(user, now_s)
        wait_s = 0.0
        if count >= FREE_FAILURES:
            wait_s = min(FIRST_WAIT_S * 2.0 ** min(count - FREE_FAILURES, 16), LONGEST_WAIT_S) - since_s
        if (user, place) not in self._familiar:
            wait_s = max(wait_s, found.all.wait_s(OF_ADDRESS, now_s), self._of(user).wait_s(OF_NAME, now_s))
        return max(0, math.ceil(wait_s))

    def failed(self, user: str, address: str) -> None:
        """Note a failed sign-in; where there are too many records, the one that matters least goes."""
        now_s, place = self._clock.monotonic(), place_of(address)
        found = self._addresses.setdefault(place, _Address())
        self._addresses.move_to_end(place)
        if len(self._addresses) > MOST_ADDRESSES:
            self._addresses.popitem(last=False)
        found.names[user] = (found.standing(user, now_s)[0] + 1, now_s)
        if len(found.names) > MOST_NAMES:
            # Never a name that was guessed often, for many that were guessed once.
            others = [name for name in found.names if name != user]
            del found.names[min(others, key=lambda name: (found.standing(name, now_s)[0], found.names[name][1]))]
        self._add(1, user, found, now_s)

    def succeeded(self, user: str, address: str) -> None:
        """Take the failure back that was noted beforehand, and those of `user` here: a sign-in succeeded."""
        now_s, place = self._clock.monotonic(), place_of(address)
        found = self._addresses.get(place)
        if found is not None:
            found.names.pop(user, None)
            self._add(-1, user, found, now_s)
        self._familiar[user, place] = None
        self._familiar.move_to_end((user, place))
        if len(self._familiar) > MOST_FAMILIAR:
            self._familiar.popitem(last=False)

    def undecided(self, user: str, address: str) -> None:
        """Take back the failure that was noted beforehand, and no other: it was none, or nobody knows."""
        now_s, place = self._clock.monotonic(), place_of(address)
        found = self._addresses.get(place)
        if found is None:
            return
        count, _ = found.standing(user, now_s)
        if count > 1:
            # The wait for those before was over, else this one would not have been let in.
            found.names[user] = (count - 1, now_s - LONGEST_WAIT_S)
        else:
            found.names.pop(user, None)
        self._add(-1, user, found, now_s)

    def _add(self, amount: int, user: str, address: _Address, now_s: float) -> None:
        address.all.add(amount, OF_ADDRESS, now_s)
        self._of(user).add(amount, OF_NAME, now_s)

    def _of(self, user: str) -> _Level:
        return self._names[hash(user) % CELLS]


def place_of(address: str) -> str:
    """What counts as one address: of IPv6 the network, in which its owner has as many addresses as he likes."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.IPv6Network((found, IPV6_PREFIX), strict=False))
