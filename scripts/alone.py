"""Runs a command once no other make is setting up this checkout, and holds others back until the command has ended."""

import fcntl
import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Lock the checkout's directory, which writes nothing, and become the command, which inherits the lock."""
    lock = os.open(CHECKOUT, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"Another make is setting up {CHECKOUT}: waiting until it has ended …", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as problem:  # some network file systems
        print(f"{CHECKOUT} cannot be locked ({problem.strerror}): run one make at a time.", file=sys.stderr, flush=True)
    fcntl.fcntl(lock, fcntl.F_SETFD, 0)  # kept open by exec
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 -- the words are the Makefile's, and no shell is wanted


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
