"""When things are due: ticks of a fixed period, each key's ticks shifted by a jitter of its own that never changes."""

from hashlib import blake2b


def phase_of(period_ns: int, key: str) -> int:
    """Tell the shift of `key`'s ticks within the period, 0 <= phase < `period_ns`: a hash, so the same on every start.

    Devices that share a period are spread over it instead of being asked all at once.
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") % period_ns


def first_due(period_ns: int, key: str, now_ns: int) -> int:
    """Tell the first tick of `key` at or after `now_ns`: the ticks are the times k * `period_ns` + phase, k whole.

    Raises:
        ValueError: the period is not positive.
    """
    if period_ns <= 0:
        raise ValueError(f"a period of {period_ns} ns")
    phase = phase_of(period_ns, key)
    return now_ns + (phase - now_ns) % period_ns
