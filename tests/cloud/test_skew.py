"""How far a gateway's clock is off, by what its messages say of when they were sent."""

import pytest

from tests.cloud.rig import now_ms
from tocsin_cloud.loops.skew import Skew, is_skewed
from tocsin_core.sparkplug import EdgeSession
from tocsin_core.sparkplug.payload import rebirth, sent_ms

S = 1_000_000_000
AT_NS = 1_790_000_000 * S


def test_the_message_that_looks_least_late_tells() -> None:
    """A clock 40 s behind is seen through delays of up to 20 s, and one that was set is right at once."""
    skew = Skew()
    assert (skew.seconds, is_skewed(skew.seconds)) == (None, False)
    for second in range(50):
        delay_s = 20 * (second % 5) // 4
        skew.hear((AT_NS // S + second - 40 - delay_s) * 1000, AT_NS + second * S)
    assert skew.seconds == -40
    assert is_skewed(skew.seconds)
    skew.hear((AT_NS // S + 51) * 1000, AT_NS + 51 * S)
    assert skew.seconds == 0


def test_a_clock_that_was_ahead_is_forgotten_within_two_minutes() -> None:
    """What was measured counts in the minute it was and the one after; a silent gateway keeps the last word."""
    skew = Skew()
    skew.hear((AT_NS // S + 3600) * 1000, AT_NS)
    assert skew.seconds == 3600
    assert is_skewed(skew.seconds)
    for minute in (1, 2):
        skew.hear((AT_NS // S + 60 * minute) * 1000, AT_NS + 60 * minute * S)
    assert skew.seconds == 0
    skew.hear((AT_NS // S + 6000) * 1000, AT_NS + 6000 * S)
    assert skew.seconds == 0


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"", None), (b"\x08", None), (b"\x18\x01", None), (b"\x08" + b"\xff" * 20, None), (b"\x08\x05rest", 5)],
)
def test_what_is_no_time_stamp_tells_nothing(data: bytes, told: int | None) -> None:
    """Cut off, endless or another field first: nothing is told, nothing is raised."""
    assert sent_ms(data) == told


def test_our_own_messages_say_when_they_were_sent() -> None:
    """As the encoders of this repository write them."""
    session, now = EdgeSession("site", "gw", []), now_ms()
    assert sent_ms(session.nbirth(0, 1, now).payload) == now
    assert sent_ms(rebirth(now)) == now
