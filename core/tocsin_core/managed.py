"""Managed from above: a slice of the plant as the cloud side signs and sends it, and what a gateway answers."""

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, Self

from tocsin_core.foreign import LONGEST_TEXT, parsed
from tocsin_core.plant.slice import hash_of

MAGIC: Final = b"tocsin slice 1\n"
LENGTH: Final = struct.Struct(">I")
SIGNATURE_BYTES: Final = 64
"""Of Ed25519 (RFC 8032)."""
MOST_VERSION: Final = 2**64 - 1
MOST_BYTES: Final = 64 << 20
"""Of a slice, unpacked: some hundred thousand points."""

KEY_FILE: Final = "cloud.pub"
"""The cloud side's public key (PEM): in its data folder, and copied by hand into the folder of a managed gateway."""

PART: Final = struct.Struct(">16sHH")
PART_BYTES: Final = 96 << 10
"""Of one command, well below the least that MQTT brokers commonly allow a packet to have (128 KiB)."""
MOST_PARTS: Final = 256

CUT_SHORT: Final = "the gateway ended in its trial"
"""Why a version was rolled back that may be sound: a power cut ends a gateway too."""

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], bool]
"""Whether a signature (first) is that of the bytes (second)."""


class Refusal(StrEnum):
    """Why a gateway does not take what it was sent; what is in force stays in force."""

    DAMAGED = "damaged"
    SIGNATURE = "signature"
    NOT_MINE = "not for this gateway"
    OLD = "old version"
    INVALID = "invalid plant"
    NOT_KEPT = "cannot be kept"


class OfferError(ValueError):
    """An offer that is refused: `refusal` names the reason, the message gives the detail."""

    def __init__(self, refusal: Refusal, detail: str, version: int = 0) -> None:
        """`version` is that of the offer, where it could be read."""
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
        self.detail = detail
        self.version = version


@dataclass(frozen=True, slots=True)
class Offer:
    """A slice for one gateway of one site; of two versions (1 to 2**64 - 1) the higher counts."""

    site: str
    gateway: str
    version: int
    data: bytes


def seal(offer: Offer, sign: Sign) -> bytes:
    """The offer as it is sent and kept: the slice compressed, and the signature over all that stands before it."""
    head = {
        "site": offer.site,
        "gateway": offer.gateway,
        "version": offer.version,
        "hash": hash_of(offer.data),
        "bytes": len(offer.data),
    }
    text = json.dumps(head, sort_keys=True).encode()
    content = MAGIC + LENGTH.pack(len(text)) + text + zlib.compress(offer.data, 9)
    return content + sign(content)


def unseal(sealed: bytes, verify: Verify, site: str, gateway: str) -> Offer:
    """The offer in `sealed`, which is for `gateway` of `site` and signed by whom `verify` knows.

    Nothing behind the signature is looked at before it holds.

    Raises:
        OfferError: damaged, wrongly signed, or for another gateway.
    """
    content, signature = sealed[:-SIGNATURE_BYTES], sealed[-SIGNATURE_BYTES:]
    if not content.startswith(MAGIC):
        raise OfferError(Refusal.DAMAGED, "these bytes are no signed slice")
    if not verify(signature, content):
        raise OfferError(Refusal.SIGNATURE, "not signed with the key that this gateway trusts")
    try:
        (length,) = LENGTH.unpack_from(content, len(MAGIC))
        begin = len(MAGIC) + LENGTH.size
        head = json.loads(content[begin : begin + length])
        offer = Offer(str(head["site"]), str(head["gateway"]), _version(head["version"]), b"")
        size, said = int(head["bytes"]), str(head["hash"])
        data = _unpacked(content[begin + length :], size)
    except (struct.error, ValueError, KeyError, TypeError, zlib.error) as error:
        raise OfferError(Refusal.DAMAGED, f"signed, but not to be read: {error}") from error
    if (offer.site, offer.gateway) != (site, gateway):
        raise OfferError(Refusal.NOT_MINE, f"it is for {offer.gateway} of {offer.site}", offer.version)
    if len(data) != size or hash_of(data) != said:
        raise OfferError(Refusal.DAMAGED, "the slice is not the one that was signed", offer.version)
    return Offer(site, gateway, offer.version, data)


def _version(found: object) -> int:
    if not isinstance(found, int) or not 0 < found < 1 << 64:
        raise ValueError(f"version {found!r}")
    return found


def _unpacked(packed: bytes, size: int) -> bytes:
    if not 0 < size <= MOST_BYTES:
        raise ValueError(f"a slice of {size} bytes")
    return zlib.decompressobj().decompress(packed, size)


def parts_of(sealed: bytes) -> list[bytes]:
    """`sealed` in pieces that fit into one command each, for `Assembly`."""
    mark = sha256(sealed).digest()[:16]
    chunks = [sealed[begin : begin + PART_BYTES] for begin in range(0, len(sealed), PART_BYTES)]
    return [PART.pack(mark, number, len(chunks)) + chunk for number, chunk in enumerate(chunks)]


class Assembly:
    """Puts parts together; of the newest sending alone, so that what never becomes whole takes no more room."""

    def __init__(self) -> None:
        """Start with nothing heard."""
        self._mark = b""
        self._chunks: dict[int, bytes] = {}

    def take(self, part: bytes) -> bytes | None:
        """Take one part in any order; gives the whole once it is there.

        Raises:
            OfferError: this is no part, or the parts together are not what was sent.
        """
        if len(part) < PART.size:
            raise OfferError(Refusal.DAMAGED, "a part without its head")
        mark, number, count = PART.unpack_from(part)
        if not number < count <= MOST_PARTS or len(part) > PART.size + PART_BYTES:
            raise OfferError(Refusal.DAMAGED, f"part {number} of {count}, {len(part)} bytes")
        if mark != self._mark:
            self._mark, self._chunks = mark, {}
        self._chunks[number] = part[PART.size :]
        if len(self._chunks) < count:
            return None
        whole = b"".join(self._chunks[number] for number in sorted(self._chunks))
        self._mark, self._chunks = b"", {}
        if sha256(whole).digest()[: len(mark)] != mark:
            raise OfferError(Refusal.DAMAGED, "the parts together are not what was sent")
        return whole


class Outcome(StrEnum):
    """What became of a version that a gateway was sent."""

    ON_TRIAL = "on trial"
    APPLIED = "applied"
    REFUSED = "refused"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the newest version that came, and why; version 0 where it could not be read."""

    version: int
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a gateway says of itself: the version in force (0: its own plant file) and its hash, and its last answer."""

    version: int
    hash: str
    answer: Answer | None = None

    def to_text(self) -> str:
        """As `of_text` reads it."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Read what a gateway said.

        Raises:
            ValueError: it is something else.
        """
        try:
            held: dict[str, Any] = parsed(text)
            told = held["answer"]
            answer = None
            if told is not None:
                answer = Answer(int(told["version"]), Outcome(told["outcome"]), str(told["reason"]))
            standing = cls(int(held["version"]), str(held["hash"]), answer)
        except (TypeError, KeyError, OverflowError) as error:
            raise ValueError(f"no standing of a gateway: {error!r}") from error
        versions = [standing.version, *([] if answer is None else [answer.version])]
        texts = [standing.hash, *([] if answer is None else [answer.reason])]
        if not all(0 <= each <= MOST_VERSION for each in versions) or any(len(each) > LONGEST_TEXT for each in texts):
            raise ValueError("no standing of a gateway: a version or a text that cannot be")
        return standing
