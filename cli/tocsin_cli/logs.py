"""How every verb logs: to stderr, readable on a terminal, JSON otherwise."""

import json
import logging
import sys
import threading
from types import TracebackType
from typing import Final

from tocsin_cli.hidden import hidden

# For tracebacks that are not these logs' it would import rich: 6 MB and 0.1 s of each start of a gateway. And greenlet,
# where the cloud side is installed too, for threads that nobody here has: 1 MB.
with hidden("rich"), hidden("greenlet"):
    import structlog

STAMP: Final = structlog.processors.TimeStamper(fmt="iso", utc=True)
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
            STAMP,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_OnStderr,
    )
    logging.basicConfig(handlers=[_FromLibraries()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    if not terminal:
        sys.excepthook = _on_uncaught
        threading.excepthook = _on_uncaught_in_thread
        sys.unraisablehook = _on_unraisable


class _FromLibraries(logging.Handler):
    """Puts into these logs what libraries log, which else would be lines of another form."""

    def __init__(self) -> None:
        """Take what somebody has to see, whatever a library thinks of itself."""
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Log it, with the library's name for itself."""
        try:
            said = record.getMessage().strip()
        except (TypeError, ValueError):
            said = f"{record.msg} {record.args}"
        # Libraries have levels of their own in between.
        level = max(known for known in (logging.WARNING, logging.ERROR, logging.CRITICAL) if known <= record.levelno)
        structlog.get_logger().log(level, said, library=record.name, exc_info=record.exc_info)


def _on_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    structlog.get_logger().critical("ended by an error that nobody caught", exc_info=(kind, error, trace))


def _on_uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    name = None if told.thread is None else told.thread.name
    error = (told.exc_type, told.exc_value, told.exc_traceback)
    structlog.get_logger().error("a thread was ended by an error that nobody caught", thread=name, exc_info=error)


def _on_unraisable(told: "sys.UnraisableHookArgs") -> None:
    error = (told.exc_type, told.exc_value, told.exc_traceback)
    what = told.err_msg or "an error that could not be raised"
    structlog.get_logger().error(what, where=repr(told.object), exc_info=error)


class _OnStderr:
    """Writes lines to stderr; one that cannot be written (a full disk) ends nobody's work, and is told of later."""

    # What is collected while a line is written may have something to say itself.
    _lock = threading.RLock()
    _lost = 0

    def __init__(self, *_of: object) -> None:
        """All are the same one: the logs' names are not told apart."""

    def msg(self, line: str) -> None:
        """Write a line, after how many were lost before it."""
        cls = type(self)
        with cls._lock:
            lost, cls._lost = cls._lost, 0
            try:
                if lost:
                    late = STAMP(None, "", {"event": LATE, "level": "warning", "lines": lost})
                    sys.stderr.write(json.dumps(late) + "\n")
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
            except (OSError, RuntimeError):
                # The latter where the buffer is just being written by this same thread.
                cls._lost += lost + 1

    debug = info = warning = error = critical = exception = msg
