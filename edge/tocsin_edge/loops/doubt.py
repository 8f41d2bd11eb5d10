"""When to ask whether a broker that acknowledges nothing still keeps what it is sent: decisions only."""

from typing import Final

# Of a host that is there an answer comes within a second or two, and from a cluster that elects a leader within ten.
FIRST_S: Final = 10.0
# Where the broker is well it is the host that is away, maybe for hours, and 50,000 gateways ask.
MOST_S: Final = 160.0


class Doubt:
    """How long nobody has answered while something waits for an answer; ever longer until it is asked again."""

    def __init__(self, now_s: float) -> None:
        """Nothing waits."""
        self.rest(now_s)

    def rest(self, now_s: float) -> None:
        """Note that nothing waits for an answer, or that one has just come."""
        self._since_s = now_s
        self._patience_s = FIRST_S

    def due(self, now_s: float) -> bool:
        """Whether the broker is to be asked now."""
        if now_s - self._since_s <= self._patience_s:
            return False
        self._since_s = now_s
        self._patience_s = min(2 * self._patience_s, MOST_S)
        return True
