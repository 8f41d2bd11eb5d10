"""Finds loopback ports for servers that cannot take port 0 and say which one they got."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from random import SystemRandom
from typing import Final

# Below what Linux gives to connections, and to whoever asks for any: nobody takes one before its server listens.
FIRST: Final = 20_000
AFTER: Final = 32_768


def _ports() -> Iterator[int]:
    """This worker's share, each port once before any comes again; from anywhere, as other runs may go on."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = range(FIRST + worker, AFTER, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    first = SystemRandom().randrange(len(share))
    return cycle([*share[first:], *share[:first]])


_PORTS: Final = _ports()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nobody listens, and that nobody else is given for long."""
    while True:
        port = next(_PORTS)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
