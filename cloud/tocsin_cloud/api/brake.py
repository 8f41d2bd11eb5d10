"""The brake on guessing passwords: who failed how often of late, in bounded memory."""

import math
from collections import OrderedDict
from typing import Final

from tocsin_core.clock import Clock

FREE_FAILURES: Final = 5
FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 300.0
FORGET_S: Final = 900.0
MOST_KEYS: Final = 4096


class Brake:
    """Counts failed sign-ins by (user, address); after the free ones each further one doubles the wait."""

    def __init__(self, clock: Clock) -> None:
        """Start with nobody on record."""
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def wait_s(self, user: str, address: str) -> int:
        """Return the whole seconds until `user` may try again from `address`; 0 for at once."""
        count, last = self._failures.get((user, address), (0, 0.0))
        since = self._clock.monotonic() - last
        if count < FREE_FAILURES or since >= FORGET_S:
            return 0
        wait = min(FIRST_WAIT_S * 2.0 ** min(count - FREE_FAILURES, 16), LONGEST_WAIT_S)
        return max(0, math.ceil(wait - since))

    def failed(self, user: str, address: str) -> None:
        """Note a failed sign-in; the longest unused record goes when there are too many."""
        key = (user, address)
        now = self._clock.monotonic()
        count, last = self._failures.pop(key, (0, now))
        self._failures[key] = (1 if now - last >= FORGET_S else count + 1, now)
        if len(self._failures) > MOST_KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, user: str, address: str) -> None:
        """Wipe the record: a sign-in succeeded."""
        self._failures.pop((user, address), None)
