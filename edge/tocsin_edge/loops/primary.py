"""What the STATE of a primary host means for a session: decisions only, no input or output."""

from tocsin_core.sparkplug import HostState


class PrimaryHost:
    """Whether the primary host is there; `required`: nothing is said to anybody while it is not.

    The clauses and their tests are in docs/sparkplug-conformance.md. Without a primary host a session never waits.
    """

    def __init__(self, *, required: bool) -> None:
        """Know nothing of it yet."""
        self._required = required
        self._newest_ms: int | None = None
        self._online = False

    def is_missing(self) -> bool:
        """Whether a session has to wait, or to end."""
        return self._required and not self._online

    def connected(self) -> None:
        """Begin anew on a new connection: the broker tells the retained STATE again."""
        self._online = False

    def hear(self, state: HostState) -> bool:
        """Take its word; tell whether it counted: what is older than the last word is out of date."""
        if self._newest_ms is not None and state.time_ms < self._newest_ms:
            return False
        self._newest_ms = state.time_ms
        self._online = state.online
        return True
