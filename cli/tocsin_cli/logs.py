"""How every verb logs: to stderr, readable on a terminal, JSON otherwise."""

import logging
import sys

from tocsin_cli.hidden import hidden

# For tracebacks that are not these logs' it would import rich: 6 MB and 0.1 s of each start of a gateway. And greenlet,
# where the cloud side is installed too, for threads that nobody here has: 1 MB.
with hidden("rich"), hidden("greenlet"):
    import structlog


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
