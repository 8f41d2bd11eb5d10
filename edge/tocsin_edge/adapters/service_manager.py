"""What the service manager is told: the sd_notify datagrams of systemd, and how often it wants to be fed."""

import socket
from collections.abc import Mapping
from typing import Final, Self

import structlog

US_PER_S: Final = 1_000_000

log = structlog.get_logger()


class ServiceManager:
    """The program that started this one, if it listens: `NOTIFY_SOCKET` of sd_notify(3).

    `watchdog_s`: it ends and starts this process anew where it is not fed for so long; None: it does not watch.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        """Open nothing: each word is one datagram. Without `address` nobody listens."""
        # A name in the abstract namespace is written with @ (unix(7)).
        self._address = address if address is None or not address.startswith("@") else "\0" + address[1:]
        self.watchdog_s = watchdog_s if address is not None else None
        self._refused = ""

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> Self:
        """Find it in the environment of process `pid` (sd_watchdog_enabled(3)): a watchdog may be meant for another."""
        period, whose = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(pid))
        watched = period.isdecimal() and int(period) > 0 and whose == str(pid)
        return cls(environment.get("NOTIFY_SOCKET") or None, int(period) / US_PER_S if watched else None)

    @property
    def listens(self) -> bool:
        """Whether there is one to tell anything to."""
        return self._address is not None

    def ready(self) -> None:
        """Say that the start is done."""
        self._tell("READY=1")

    def feed(self) -> None:
        """Say that the work goes on."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Say in one line how things are."""
        self._tell("STATUS=" + " ".join(text.split()))

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._tell("STOPPING=1")

    def _tell(self, word: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                # A manager that does not read must not hold up the loops.
                out.sendto(word.encode(), socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            if str(error) != self._refused:
                log.warning("service manager does not listen", reason=str(error))
            self._refused = str(error)
            return
        self._refused = ""
