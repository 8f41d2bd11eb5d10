"""What gateway and cloud write to each other about alarms: every entry and order goes through, nothing else does."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.foreign import LONGEST_TEXT, is_writable
from tocsin_core.journal import (
    Entry,
    Naming,
    Order,
    decode,
    decode_naming,
    decode_order,
    encode,
    encode_naming,
    encode_order,
)
from tocsin_core.lifecycle import Event, Phase, Verb
from tocsin_core.readings import EARLIEST_NS, LATEST_NS
from tocsin_core.sparkplug import (
    EdgeSession,
    HostSession,
    JournalNumbers,
    JournalPart,
    PayloadError,
    journal_committed,
    orders,
    parse_command,
)

MS = 1_790_000_000_000
NOW = MS * 1_000_000
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20).filter(is_writable)
TIMES = st.integers(0, LATEST_NS - 1)
Read = Callable[[bytes], Entry | Order]
NUMBERS = st.integers(0, 2**64 - 1)
COUNTED = st.integers(0, 2**63 - 2)

ENTRIES = st.builds(
    Entry,
    alarm=TEXTS,
    event=st.sampled_from(Event),
    time_ns=TIMES,
    phase=st.sampled_from(Phase),
    onset_ns=TIMES,
    superseded_ns=TIMES,
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    until_ns=TIMES,
    once=st.booleans(),
    out_of_service=st.booleans(),
    suppressed=st.booleans(),
    who=TEXTS,
    reason=TEXTS,
    command=TEXTS,
    refusal=st.just(""),
)
ORDERS = st.builds(
    Order,
    id=TEXTS,
    verb=st.sampled_from(Verb),
    alarm=TEXTS,
    at_ns=st.integers(EARLIEST_NS, LATEST_NS - 1),
    who=TEXTS,
    reason=TEXTS,
    onset_ns=TIMES,
    until_ns=TIMES,
    once=st.booleans(),
)
ENTRY = Entry("t/high", Event.RAISE, NOW, Phase.UNACKNOWLEDGED, NOW, value=1.5)
ORDER = Order("1", Verb.SHELVE, "t/high", NOW, "li", "calibration", until_ns=NOW + 1)


@given(ENTRIES, TEXTS.filter(bool))
def test_an_entry_goes_through(entry: Entry, refusal: str) -> None:
    """As a step, and as the refusal of an order."""
    assert decode(encode(entry)) == entry
    instead = replace(entry, event=None, refusal=refusal)
    assert decode(encode(instead)) == instead


@given(ORDERS)
def test_an_order_goes_through(order: Order) -> None:
    """Whatever a person may have written into it."""
    assert decode_order(encode_order(order)) == order


@given(st.sampled_from(sorted(json.loads(encode(ENTRY)))), st.sampled_from([[], {}, -1, 2**63, float("nan"), "?", 0.5]))
def test_a_value_that_cannot_be_is_refused_by_its_name(key: str, value: Any) -> None:  # noqa: ANN401 - anything JSON has
    """Where the value happens to be one of the key's, it is read as that."""
    body = json.dumps(json.loads(encode(ENTRY)) | {key: value}).encode()
    try:
        read = decode(body)
    except ValueError as error:
        assert str(error).startswith(f"{key}:")  # noqa: PT017 - both outcomes are checked
    else:
        assert getattr(read, key) == value


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no JSON object"),
        (encode(ENTRY).replace(b'"who"', b'"whom"'), "who"),
        (encode(ENTRY)[:-1] + b',"more":1}', "more: nobody knows it"),
        (encode(ENTRY).replace(b'"event":"raise"', b'"event":null'), "refusal"),
        (encode(ENTRY).replace(b'"refusal":""', b'"refusal":"overtaken"'), "refusal"),
    ],
)
def test_a_body_that_is_no_entry_is_refused(body: bytes, reason: str) -> None:
    """With the key that is wrong, missing or one too many."""
    with pytest.raises(ValueError, match=reason):
        decode(body)


@pytest.mark.parametrize("body", [b"{}", encode(ENTRY), encode_order(ORDER).replace(b"shelve", b"hide")])
def test_a_body_that_is_no_order_is_refused(body: bytes) -> None:
    """A gateway does nothing that it does not understand whole."""
    with pytest.raises(ValueError, match=r"^\w+: "):
        decode_order(body)


@pytest.mark.parametrize("key", ["alarm", "who", "reason", "command"])
@pytest.mark.parametrize("text", ["\ud800", "a\0b", "x" * (LONGEST_TEXT + 1)], ids=["half", "nul", "long"])
def test_text_that_no_disk_or_database_would_take_is_refused(key: str, text: str) -> None:
    """In an entry as in an order, also where it is escaped so that the JSON itself is sound."""
    for sound, read in ((encode(ENTRY), decode), (encode_order(ORDER), decode_order)):
        told = json.loads(sound)
        key = key if key in told else "id"
        with pytest.raises(ValueError, match=f"^{key}: "):
            read(json.dumps(told | {key: text}).encode())


@pytest.mark.parametrize(
    ("sound", "read", "key", "time_ns"),
    [
        *((encode(ENTRY), decode, key, LATEST_NS) for key in ("time_ns", "onset_ns", "superseded_ns", "until_ns")),
        *((encode_order(ORDER), decode_order, key, 2**63 - 1) for key in ("at_ns", "onset_ns", "until_ns")),
        (encode_order(ORDER), decode_order, "at_ns", EARLIEST_NS - 1),
    ],
)
def test_a_time_that_no_reading_may_have_is_refused(sound: bytes, read: Read, key: str, time_ns: int) -> None:
    """Nothing can come after the last one, and what nobody could overtake would silence an alarm for good."""
    with pytest.raises(ValueError, match=f"^{key}: "):
        read(json.dumps(json.loads(sound) | {key: time_ns}).encode())


def test_a_gateway_whose_clock_was_never_set_reads_its_own_journal() -> None:
    """It warns alone in 1970 too, and goes on after a power cut."""
    assert decode(encode(replace(ENTRY, time_ns=5, onset_ns=4))).time_ns == 5


@given(st.builds(Naming, alarm=TEXTS, onset_ns=TIMES, known_ns=TIMES))
def test_as_what_an_occurrence_is_known_goes_through(naming: Naming) -> None:
    """Whole or not at all."""
    assert decode_naming(encode_naming(naming)) == naming
    with pytest.raises(ValueError, match=r"known(_ns)?: "):
        decode_naming(encode_naming(naming).replace(b"known_ns", b"unknown"))


@given(COUNTED, COUNTED, st.binary(max_size=50), COUNTED, st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_what_our_edge_says_of_its_journal_our_host_hears(
    newest: int, oldest: int, rules: bytes, first: int, bodies: list[bytes]
) -> None:
    """In the birth that it decides, in data the entries in their order, in other messages nothing."""
    edge = EdgeSession("g", "n", [])
    host = HostSession(lambda *_: None)
    birth = edge.nbirth(1, 1, MS, journal=JournalNumbers(newest, oldest, rules))
    fed = host.feed(birth.topic, birth.payload, NOW)
    assert (fed.journal, fed.faults) == (JournalPart(newest, rules, oldest), ())
    data = edge.journal(first, bodies, oldest, MS)
    fed = host.feed(data.topic, data.payload, NOW)
    assert (fed.journal, fed.faults) == (JournalPart(None, b"", oldest, first, tuple(bodies)), ())
    assert (len(fed.frame), fed.batch, fed.rebirth) == (0, None, False)
    for silent in (edge.nbirth(1, 1, MS), edge.ndata(1, MS)):
        assert host.feed(silent.topic, silent.payload, NOW).journal is None


@given(NUMBERS, st.lists(st.binary(max_size=50), max_size=5))
def test_what_our_host_orders_our_edge_hears(number: int, bodies: list[bytes]) -> None:
    """Acknowledgements of the journal, and orders in their order."""
    assert parse_command(journal_committed(number, MS)).journal_committed == number
    assert parse_command(journal_committed(number, MS)).committed is None
    assert parse_command(journal_committed(number, MS, bodies)).known_as == tuple(bodies)
    assert parse_command(orders(bodies, MS)).orders == tuple(bodies)
    with pytest.raises(PayloadError):
        parse_command(b"\xff")
