"""A host's addresses, looked up in a thread of its own: a name server that does not answer holds up nobody else."""

import asyncio
import errno
import socket
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from threading import Thread


class HostName:
    """A host by its name or address; of a name one look-up at a time goes on, however many gave up waiting for it.

    The event loop's own threads, a handful for all, would each wait for such a server for 10 s and more, and with them
    whatever else needs one: the connect to a broker, the alarms' state, the end of the process.
    """

    def __init__(self, host: str) -> None:
        """Look up nothing yet."""
        self._host = host
        self._looking: asyncio.Future[tuple[str, ...]] | None = None

    async def addresses(self) -> tuple[str, ...]:
        """The addresses, one at least, in the order in which they are to be tried.

        Raises:
            OSError: nobody knows the name, or it is none.
        """
        with suppress(ValueError):
            return (str(ip_address(self._host)),)
        if self._looking is None:
            self._looking = _look_up(self._host)
        looking = self._looking
        try:
            return await asyncio.shield(looking)
        finally:
            if looking.done():
                self._looking = None


def _look_up(host: str) -> asyncio.Future[tuple[str, ...]]:
    loop = asyncio.get_running_loop()
    found: asyncio.Future[tuple[str, ...]] = loop.create_future()
    # Maybe nobody waits for it any more.
    found.add_done_callback(asyncio.Future.exception)

    def look() -> None:
        try:
            rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            tell = partial(found.set_result, tuple(dict.fromkeys(str(row[4][0]) for row in rows)))
        except UnicodeError:
            tell = partial(found.set_exception, OSError(errno.EINVAL, f"no host name: {host}"))
        except OSError as error:
            tell = partial(found.set_exception, error)
        # The gateway may have ended meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell)

    Thread(target=look, name=f"look up {host}", daemon=True).start()
    return found
