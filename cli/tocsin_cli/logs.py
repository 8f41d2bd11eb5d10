"""How every verb logs: to stderr, readable on a terminal, JSON otherwise."""

import json
import logging
import sys
from threading import Lock
from typing import Final

from tocsin_cli.hidden import hidden

# For tracebacks that are not these logs' it would import rich: 6 MB and 0.1 s of each start of a gateway. And greenlet,
# where the cloud side is installed too, for threads that nobody here has: 1 MB.
with hidden("rich"), hidden("greenlet"):
    import structlog

# What the stream itself still holds of them may follow.
LATE: Final = "lines of this log could not be written when they came"


def log_to_stderr() -> None:
    """Set the logs up, once, before a verb runs."""
    # pymodbus, of which the simulated devices are made, tells of each question that a scenario leaves unanswered.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_OnStderr,
    )


class _OnStderr:
    """Writes lines to stderr; one that cannot be written (a full disk) ends nobody's work, and is told of later."""

    _lock = Lock()
    _lost = 0

    def __init__(self, *_of: object) -> None:
        """All are the same one: the logs' names are not told apart."""

    def msg(self, line: str) -> None:
        """Write a line, after how many were lost before it."""
        cls = type(self)
        with cls._lock:
            lost = cls._lost
            try:
                if lost:
                    sys.stderr.write(json.dumps({"event": LATE, "level": "warning", "lines": lost}) + "\n")
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
            except OSError:
                cls._lost += 1
            else:
                cls._lost -= lost

    debug = info = warning = error = critical = exception = msg
