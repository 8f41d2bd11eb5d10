"""What the broker refused, read out of its log: nothing else of nats-server tells of a permission overstepped."""

import re
from collections import Counter
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

MOST_BYTES: Final = 1 << 20
REASONS: Final = {
    "publish": re.compile(rb"Publish Violation"),
    "subscribe": re.compile(rb"Subscription Violation"),
    # Not the end of a connection that said nothing at all: a port that is only looked at.
    "certificate": re.compile(
        rb"TLS handshake error: (?!EOF)|(?<!unable to connect: )authentication error(?! - User)|Authorization Violation"
    ),
    # Without certificates: a user name or password that is nobody's. Another line tells the end of the connection.
    "user": re.compile(rb"authentication error - User"),
    "taken over": re.compile(rb"Replacing old client"),
    "reload": re.compile(rb"Failed to reload"),
}
NO_ROOM: Final = re.compile(rb"failed to store a msg .*(no space left on device|disk quota exceeded)")


class BrokerLog:
    """What came to the log of a broker since it was last looked at."""

    def __init__(self, path: Path) -> None:
        """Begin at the end of what is there now."""
        self._path = path
        held = path.stat() if path.exists() else None
        self._file, self._read = (0, 0) if held is None else (held.st_ino, held.st_size)

    def refused(self) -> Counter[str]:
        """How much was refused by reason since the last call; the last line of each goes into our own log.

        Raises:
            OSError: the log cannot be read.
        """
        counts: Counter[str] = Counter()
        last: dict[str, bytes] = {}
        for line in self._lines():
            for reason, pattern in REASONS.items():
                if pattern.search(line):
                    counts[reason] += 1
                    last[reason] = line
        for reason, line in last.items():
            said = line.decode(errors="replace").split("] ", 2)[-1]
            log.warning("the broker refused", reason=reason, times=counts[reason], last=said)
        return counts

    def has_no_room(self) -> bool:
        """Whether it refused to store something since the last call because the disk had no room.

        Raises:
            OSError: the log cannot be read.
        """
        return any(map(NO_ROOM.search, self._lines()))

    def _lines(self) -> list[bytes]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            held = self._path.stat()
            if held.st_ino != self._file or held.st_size < self._read:
                # The server began another file; what came to the old one since is in a file of another name.
                self._file, self._read = held.st_ino, 0
            file.seek(self._read)
            content = file.read(MOST_BYTES)
        whole = content[: content.rfind(b"\n") + 1] or (content if len(content) == MOST_BYTES else b"")
        self._read += len(whole)
        return whole.splitlines()
