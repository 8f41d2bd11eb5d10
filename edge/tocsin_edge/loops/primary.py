"""What the STATE of a primary host means for a session: decisions only, no input or output."""

from typing import Final

from tocsin_core.sparkplug import HostState

AWAY: Final = "the primary host is not online"
OUTDATED: Final = "the primary host says that it is online at an earlier time than before (was its clock set back?)"


class PrimaryHost:
    """Whether the primary host is there; `required`: nothing is said to anybody while it is not.

    The clauses and their tests are in docs/sparkplug-conformance.md. Without a primary host a session never waits.
    """

    def __init__(self, *, required: bool) -> None:
        """Know nothing of it yet."""
        self._required = required
        self._server = ""
        self._newest_ms: dict[str, int] = {}
        self._heard = self._online = self._outdated = False

    @property
    def trouble(self) -> str:
        """Why nothing is said to anybody, empty where it is."""
        if not self.is_missing():
            return ""
        return OUTDATED if self._outdated else AWAY

    def is_missing(self) -> bool:
        """Whether a session has to wait, or to end."""
        return self._required and not self._online

    def is_elsewhere(self) -> bool:
        """Whether the server of this connection says that it is not there: another server may know better."""
        return self.is_missing() and self._heard

    def connected(self, server: str) -> None:
        """Begin anew on a new connection: `server` tells the STATE that it has kept, which is its own."""
        self._server = server
        self._heard = self._online = self._outdated = False

    def hear(self, state: HostState) -> bool:
        """Take its word; tell whether it counted: what is older than the server's last word is out of date."""
        self._outdated = state.online and state.time_ms < self._newest_ms.get(self._server, state.time_ms)
        if state.time_ms < self._newest_ms.get(self._server, state.time_ms):
            return False
        self._newest_ms[self._server] = state.time_ms
        self._heard, self._online = True, state.online
        return True
