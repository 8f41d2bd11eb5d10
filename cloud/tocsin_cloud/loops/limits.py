"""How fast each gateway may send: a rate with room for bursts, decided by the stream's own times alone."""

from typing import Final

from tocsin_cloud.settings import LimitSettings

NS: Final = 1_000_000_000
# What one message costs at most, however large it is.
LONGEST_NS: Final = 10 * NS


class Limits:
    """What each sender has used up, as the time at which it will have paid for it (GCRA, ITU-T I.371).

    Whoever reads the same stream from the same state decides alike, whenever and however often: the historian and the
    alarms worker never disagree about what was heard, and a replay hears what was heard before.
    """

    def __init__(self, settings: LimitSettings, due_ns: dict[str, int] | None = None) -> None:
        """Go on where `due_ns`, by sender, says."""
        self._message_ns = NS // settings.messages_per_s
        self._bytes_per_s = settings.bytes_per_s
        self._burst_ns = round(settings.burst_s * NS)
        self._due_ns = due_ns or {}

    def admits(self, sender: str, size: int, at_ns: int) -> bool:
        """Whether a message of `size` bytes that came at `at_ns` is heard; one that is not costs its sender nothing."""
        cost_ns = min(max(self._message_ns, size * NS // self._bytes_per_s), LONGEST_NS)
        due_ns = max(self._due_ns.get(sender, 0), at_ns)
        ahead_ns = due_ns - at_ns - self._burst_ns
        if 0 < ahead_ns <= LONGEST_NS:
            return False
        # Further ahead than anybody can get: the stream's clock was set back.
        self._due_ns[sender] = (at_ns if ahead_ns > 0 else due_ns) + cost_ns
        return True

    def to_json(self) -> dict[str, int]:
        """All of it as plain values."""
        return dict(self._due_ns)
