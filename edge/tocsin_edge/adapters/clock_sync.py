"""Whether this machine's clock is set by somebody who knows the time, as the kernel tells (adjtimex)."""

import ctypes
import os
from dataclasses import dataclass
from typing import Final

# Linux, include/uapi/linux/timex.h. chronyd (rtcsync), ntpd and systemd-timesyncd clear the flag when they have set the
# clock; the kernel sets it again when nobody has steered the clock for so long that the error may be 16 s.
STA_UNSYNC: Final = 0x0040
TIME_ERROR: Final = 5
US_PER_MS: Final = 1000


class _Timex(ctypes.Structure):
    """`struct timex`, as far as it is read, and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


@dataclass(frozen=True, slots=True)
class ClockSync:
    """Whether the clock is synchronised, by how many ms it may be wrong (None: not known), and why it is not."""

    synchronised: bool
    error_ms: float | None = None
    reason: str = ""


def clock_sync() -> ClockSync:
    """Ask the kernel; a system that cannot say counts as not synchronised."""
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return ClockSync(synchronised=False, reason="this system does not tell")
    if state < 0:
        return ClockSync(synchronised=False, reason=os.strerror(ctypes.get_errno()))
    return judged(int(state), int(timex.status), int(timex.maxerror))


def judged(state: int, status: int, maxerror_us: int) -> ClockSync:
    """What the kernel's answer comes to."""
    if state == TIME_ERROR or status & STA_UNSYNC:
        return ClockSync(synchronised=False, reason="nobody sets the clock")
    return ClockSync(synchronised=True, error_ms=maxerror_us / US_PER_MS)
