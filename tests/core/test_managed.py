"""Holds what travels between cloud side and managed gateway to its promises: whole, signed, or refused by name."""

import random
from typing import Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tocsin_core.managed import (
    MAGIC,
    PART,
    PART_BYTES,
    Answer,
    Assembly,
    Offer,
    OfferError,
    Outcome,
    Refusal,
    Standing,
    parts_of,
    seal,
    unseal,
)
from tocsin_core.sparkplug import EdgeDevice, EdgeSession, HostSession, parse_command, slice_part

KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
MS: Final = 1_800_000_000_000
OFFER: Final = Offer("site", "gw", 7, b"the slice " * 50)
SEALED: Final = seal(OFFER, KEY.sign)


def verify(signature: bytes, content: bytes) -> bool:
    """Whether KEY signed it."""
    try:
        KEY.public_key().verify(signature, content)
    except InvalidSignature:
        return False
    return True


def refusal(sealed: bytes, gateway: str = "gw", site: str = "site") -> Refusal:
    """Why it is refused."""
    with pytest.raises(OfferError) as refused:
        unseal(sealed, verify, site, gateway)
    return refused.value.refusal


def test_what_was_sealed_is_opened() -> None:
    """The offer comes back as it was, and sealed once more it is the same bytes."""
    assert unseal(SEALED, verify, "site", "gw") == OFFER
    assert seal(OFFER, KEY.sign) == SEALED


def test_every_tampering_is_refused_with_its_reason() -> None:
    """Another bit anywhere, an end that is missing, another key, another gateway, another site."""
    for place in range(len(SEALED)):
        changed = SEALED[:place] + bytes([SEALED[place] ^ 1]) + SEALED[place + 1 :]
        assert refusal(changed) is (Refusal.DAMAGED if place < len(MAGIC) else Refusal.SIGNATURE)
        assert refusal(SEALED[:place]) in (Refusal.DAMAGED, Refusal.SIGNATURE)
    assert refusal(seal(OFFER, OTHER.sign)) is Refusal.SIGNATURE
    assert refusal(SEALED, gateway="gw2") is Refusal.NOT_MINE
    assert refusal(SEALED, site="elsewhere") is Refusal.NOT_MINE


@pytest.mark.parametrize("version", [0, -1, 2**64])
def test_a_version_that_is_none_is_damage(version: int) -> None:
    """Versions are counted from 1 and held in 64 bits."""
    assert refusal(seal(Offer("site", "gw", version, b"x"), KEY.sign)) is Refusal.DAMAGED
    assert unseal(seal(Offer("site", "gw", 2**64 - 1, b"x"), KEY.sign), verify, "site", "gw").version == 2**64 - 1


@pytest.mark.parametrize("head", [b"", b"[]", b"{}", b'{"site": "site"}', b"\xff", b"[" * 50])
def test_a_signed_head_that_cannot_be_read_is_damage(head: bytes) -> None:
    """A signature that holds over nonsense does not make it sense."""
    content = MAGIC + len(head).to_bytes(4, "big") + head
    assert refusal(content + KEY.sign(content)) is Refusal.DAMAGED


def test_a_slice_that_unpacks_to_more_than_it_says_is_refused() -> None:
    """What is unpacked is bounded by what the head says, and that by what any plant needs."""
    sealed = seal(Offer("site", "gw", 7, bytes(1 << 20)), KEY.sign)
    for size in (b'"bytes": 9048576', b'"bytes": 9999999999999'):
        content = sealed[:-64].replace(b'"bytes": 1048576', size)
        begin = len(MAGIC)
        more = len(size) - len(b'"bytes": 1048576')
        length = int.from_bytes(content[begin : begin + 4], "big") + more
        content = content[:begin] + length.to_bytes(4, "big") + content[begin + 4 :]
        assert refusal(content + KEY.sign(content)) is Refusal.DAMAGED


@given(st.integers(1, 5 * PART_BYTES), st.integers(0, 2**32))
def test_parts_make_the_whole_in_any_order(size: int, seed: int) -> None:
    """Shuffled, and with some that came twice, parts make the whole exactly once."""
    order = random.Random(seed)  # noqa: S311 - an order to be had again, no secret
    whole = order.randbytes(size)
    parts = parts_of(whole)
    sent = parts[:-1] * 2 + parts[-1:]
    order.shuffle(sent)
    assembly = Assembly()
    found = [done for part in sent if (done := assembly.take(part)) is not None]
    assert found[0] == whole
    assert all(len(part) <= PART_BYTES + PART.size for part in parts)


def test_a_newer_sending_takes_the_room_of_one_that_never_became_whole() -> None:
    """Of two sendings that are mixed the newer one comes out; damage in a part is told."""
    old, new = parts_of(b"a" * (PART_BYTES + 1)), parts_of(b"b" * (PART_BYTES + 1))
    assembly = Assembly()
    assert [assembly.take(part) for part in (old[0], new[0])] == [None, None]
    assert assembly.take(new[1]) == b"b" * (PART_BYTES + 1)
    assert assembly.take(old[0]) is None
    with pytest.raises(OfferError, match="not what was sent"):
        assembly.take(old[1][:-1] + b"x")


@pytest.mark.parametrize("part", [b"", b"x" * 19, PART.pack(bytes(16), 1, 1), PART.pack(bytes(16), 0, 9999)])
def test_what_is_no_part_is_refused(part: bytes) -> None:
    """A head that cannot be, or more parts than any slice has."""
    with pytest.raises(OfferError, match="damaged"):
        Assembly().take(part)


@given(
    st.integers(0, 2**64 - 1),
    st.text(),
    st.none() | st.builds(Answer, st.integers(0, 2**64 - 1), st.sampled_from(Outcome), st.text()),
)
def test_a_standing_is_read_as_it_was_told(version: int, content: str, answer: Answer | None) -> None:
    """Whatever the texts are."""
    told = Standing(version, content, answer)
    assert Standing.of_text(told.to_text()) == told


@pytest.mark.parametrize(
    "text", ["", "7", "{}", "[1]", '{"version": 1, "hash": "", "answer": {"version": 1}}', "[" * 99999]
)
def test_another_text_is_no_standing(text: str) -> None:
    """It raises ValueError and nothing else."""
    with pytest.raises(ValueError, match=r"\S"):
        Standing.of_text(text)


@given(st.text(), st.text(), st.binary())
def test_births_and_data_bring_what_a_gateway_stands_on(born: str, later: str, part: bytes) -> None:
    """The host hears it of a managed node and of no other; the node hears the parts that it is sent."""
    node = EdgeSession("site", "gw", [])
    host = HostSession(lambda *_: None)
    will = node.will(3, 1)
    told = [node.nbirth(0, 1, MS), node.nbirth(0, 1, MS, standing=born), node.standing(later, MS)]
    heard = [host.feed(message.topic, message.payload, MS * 1_000_000) for message in told]
    assert [fed.standing for fed in heard] == [None, born, later]
    assert not any(fed.faults for fed in heard)
    assert parse_command(slice_part(part, MS)).slice_parts == (part,)
    assert node.with_devices([EdgeDevice("d", ())]).ndeath(1) == will
