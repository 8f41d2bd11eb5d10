"""How a line is polled: whose turn it is, who is left alone, and what of the bytes that arrive is an answer."""

from tocsin_core.polling.bus import Bus, Job, JobFigures, Moment, Next, Outcome, Turn
from tocsin_core.polling.frames import (
    Content,
    Question,
    Search,
    different,
    rtu_begun,
    rtu_frame,
    rtu_search,
    rtu_trouble,
    tcp_frame,
    tcp_search,
)
from tocsin_core.polling.health import FAILURES_UNTIL_DEAD, Backoff, Health, grace_s
from tocsin_core.polling.writes import WriteRequest

__all__ = [
    "FAILURES_UNTIL_DEAD",
    "Backoff",
    "Bus",
    "Content",
    "Health",
    "Job",
    "JobFigures",
    "Moment",
    "Next",
    "Outcome",
    "Question",
    "Search",
    "Turn",
    "WriteRequest",
    "different",
    "grace_s",
    "rtu_begun",
    "rtu_frame",
    "rtu_search",
    "rtu_trouble",
    "tcp_frame",
    "tcp_search",
]
