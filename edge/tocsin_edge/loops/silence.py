"""When what waits for the host's word is sent again, and how much of it: decisions only."""

from typing import Final

# Nothing acknowledged for so long: the oldest are sent again, ever more rarely while nobody answers.
FIRST_S: Final = 60.0
MOST_S: Final = 600.0
# A host that answered what was sent again is there; what it does not take up after that is missing, and goes sooner.
ANSWERED_S: Final = 10.0
FEW: Final = 64
MANY: Final = 1024


class Silence:
    """How long the host has said nothing new, while batches wait for its word.

    A host that is away finds all of it in the stream when it is back. So no more than a few go again until its word
    moves: that is enough to learn that something was lost, and then more go, twice as many each time.
    """

    def __init__(self, now_s: float) -> None:
        """Nothing waits."""
        self._upto = 0
        self.rest(now_s)

    def rest(self, now_s: float) -> None:
        """Note that nothing waits for a word."""
        self._since = now_s
        self._patience_s = FIRST_S
        self._many = FEW
        self._asked = False

    def heard(self, committed: int, now_s: float) -> None:
        """Note that the host's word moved to batch `committed`."""
        if committed >= self._upto:
            self.rest(now_s)
            return
        self._since = now_s
        if self._asked:
            self._asked = False
            self._patience_s = ANSWERED_S
            self._many = min(2 * self._many, MANY)

    def over(self, newest: int, now_s: float) -> int:
        """Give how many of the oldest go again now, 0: none yet; `newest` is the highest batch that waits."""
        if now_s - self._since <= self._patience_s:
            return 0
        if self._asked:
            self._patience_s, self._many = min(2 * self._patience_s, MOST_S), FEW
        else:
            self._patience_s = 2 * FIRST_S
        self._since, self._upto, self._asked = now_s, newest, True
        return self._many
