"""Whether it is the server's clock that is wrong, where gateways' clocks are a day from it: most of them say so."""

from typing import Final

from tocsin_core.clock import Clock
from tocsin_core.sparkplug.layout import FUTURE_NS
from tocsin_core.sparkplug.payload import NS_PER_MS

# Before most have been heard nobody's word decides.
LISTEN_S: Final = 60.0
# Who was not heard for so long says nothing of today.
HEARD_S: Final = 600.0


class ServerClock:
    """Compares when gateways say that they sent their messages with when the server says that it took them.

    A gateway that is a day ahead has a wrong clock where most others are not. Where half of them are, or it is not
    known yet, the server may have one: then what cannot be stored for its stamps must not be acknowledged, and where
    they are behind, nothing be forgotten for its age.
    """

    def __init__(self, clock: Clock) -> None:
        """Nobody was heard yet."""
        self._clock = clock
        self._began_s = self._swept_s = clock.monotonic()
        # By gateway: whether it was a day ahead, when it said so (monotonic s), and when that was by its own clock.
        self._said: dict[tuple[str, str], tuple[bool, float, int]] = {}
        self._ahead = 0

    def hear(self, gateway: tuple[str, str], sent_ms: int, at_ns: int) -> None:
        """Take in that a message that `gateway` sent at `sent_ms` by its clock came at `at_ns` by the server's."""
        ahead, now_s = sent_ms * NS_PER_MS > at_ns + FUTURE_NS, self._clock.monotonic()
        before, *_ = self._said.get(gateway, (False, 0.0, 0))
        self._said[gateway] = ahead, now_s, sent_ms * NS_PER_MS
        self._ahead += ahead - before
        if now_s - self._swept_s >= HEARD_S:
            self._said = {each: said for each, said in self._said.items() if said[1] > now_s - HEARD_S}
            self._ahead, self._swept_s = sum(ahead for ahead, *_ in self._said.values()), now_s

    @property
    def may_be_behind(self) -> bool:
        """Whether the server's clock may be a day behind, as far as gateways' clocks tell."""
        return self._clock.monotonic() - self._began_s < LISTEN_S or 2 * self._ahead >= max(1, len(self._said))

    @property
    def may_be_ahead(self) -> bool:
        """Whether the server's clock may be a day ahead: it may, until most of whom it hears say that it is not."""
        now_s, since_ns = self._clock.monotonic(), self._clock.now_ns() - FUTURE_NS
        agree = [sent_ns >= since_ns for _, at_s, sent_ns in self._said.values() if at_s > now_s - HEARD_S]
        return now_s - self._began_s < LISTEN_S or 2 * sum(agree) <= len(agree)
