"""Whatever bytes a stranger sends, whoever reads them refuses them with the error that its caller expects."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from tocsin_cloud.adapters.host_state import says_offline
from tocsin_core.foreign import parsed
from tocsin_core.journal import decode, decode_order
from tocsin_core.managed import Standing
from tocsin_core.sparkplug import PayloadError, parse_state
from tocsin_edge.loops.alarm_report import wish_of

# Deeper than Python may go; and as deep as it may just go, so that whoever goes one deeper falls.
DEEP = [b"[" * 100_000, b'{"alarm":' * 100_000, b'{"id":' + b"[" * 100_000]
JUST = [b'{"%s":' % key + b"[" * n + b"]" * n + b"}" for key in (b"id", b"who") for n in range(700, 1000, 7)]
HOSTILE = [b"", b"\xff", b"\x00", b"[]", b"{", b"1" * 5000, b"NaN", b'"\\ud800"', *DEEP, *JUST]


@pytest.mark.parametrize("read", [decode, decode_order, wish_of, lambda body: Standing.of_text(body.decode("latin-1"))])
def test_what_is_sent_by_a_stranger_is_a_value_error(read: Callable[[bytes], Any]) -> None:
    """Neither the gateway nor the cloud side ends of what anybody may send."""
    for body in HOSTILE:
        with pytest.raises(ValueError, match=r"."):
            read(body)


def test_a_state_of_a_stranger_is_no_state() -> None:
    """With the error of payloads at the gateway; the host says again that it is online."""
    for body in HOSTILE:
        with pytest.raises(PayloadError):
            parse_state(body)
        assert says_offline(body)


def test_what_is_nested_deeper_than_can_be_read_is_no_json() -> None:
    """The limit is the interpreter's; far beyond it nothing else happens."""
    for depth in (sys.getrecursionlimit(), 1_000_000):
        with pytest.raises(ValueError, match="nested"):
            parsed(b"[" * depth)
