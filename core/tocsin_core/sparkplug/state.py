"""A host's STATE message: whether it is online, and since when (Sparkplug 3.0, 6.4.28)."""

from dataclasses import dataclass

from tocsin_core.foreign import parsed
from tocsin_core.sparkplug.payload import PayloadError


@dataclass(frozen=True, slots=True)
class HostState:
    """What a host says of itself; `time_ms` orders its words: an older one than the last is not heeded."""

    online: bool
    time_ms: int


def parse_state(data: bytes) -> HostState:
    """Read the payload of a STATE message.

    Raises:
        PayloadError: it is no JSON object with a boolean `online` and a number `timestamp`.
    """
    try:
        held = parsed(data)
    except ValueError as error:
        raise PayloadError(f"STATE is {error}") from error
    online, time_ms = (held.get("online"), held.get("timestamp")) if isinstance(held, dict) else (None, None)
    if not isinstance(online, bool) or isinstance(time_ms, bool) or not isinstance(time_ms, int):
        raise PayloadError("STATE without a boolean `online` and a number `timestamp`")
    return HostState(online, time_ms)
