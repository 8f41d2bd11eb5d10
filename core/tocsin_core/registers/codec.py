"""Register words to numbers and texts and back: every type, in all orders of their bytes."""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin_core.readings import F64, I64, Bool
from tocsin_core.registers.profile import BCD, FLOATS, REGISTER_BITS, WORDS, Profile, RegisterValue

U16 = NDArray[np.uint16]

DTYPES: Final[Mapping[str, np.dtype[np.generic]]] = {
    "u16": np.dtype(">u2"),
    "s16": np.dtype(">i2"),
    "u32": np.dtype(">u4"),
    "s32": np.dtype(">i4"),
    "f32": np.dtype(">f4"),
    "u64": np.dtype(">u8"),
    "s64": np.dtype(">i8"),
    "f64": np.dtype(">f8"),
}
DIGIT_BITS: Final = 4
DIGITS: Final = 10
BYTE: Final = 0xFF
TEXT_END: Final = "\0"


class EncodeError(ValueError):
    """A number or text that the register's type cannot hold."""


class Numbers(NamedTuple):
    """What n values of one form hold.

    raw i64[n] is the number before scale and offset (of u64 its bit pattern, of floats 0); value f64[n] the same as a
    number; broken bool[n] says which words are none of this type (a digit above 9).
    """

    raw: I64
    value: F64
    broken: Bool


def numbers(words: U16, spec: RegisterValue, order: str) -> Numbers:
    """Read words as they came (u16[n, size]) as n values of the form of `spec`, before scale and offset."""
    if spec.type in BCD:
        return _from_digits(_wide(words, order))
    if spec.type == "whole-tenths":
        whole, tenths = np.divmod(_wide(words, order), BYTE + 1)
        raw = whole * DIGITS + tenths
        return Numbers(raw, raw / DIGITS, tenths >= DIGITS)
    kind = "u16" if spec.type == "bool" else spec.type
    found = to_numbers(words, kind, order)
    sound = np.zeros(len(words), dtype=np.bool_)
    if spec.type in FLOATS:
        return Numbers(np.zeros(len(words), dtype=np.int64), as_f64(found), sound)
    raw = found.astype(np.int64)
    part = part_of(spec)
    if part is None:
        return Numbers(raw, as_f64(found), sound)
    low, high = part
    raw = raw >> low & ((1 << high - low + 1) - 1)
    if spec.type[0] == "s":
        sign = 1 << high - low
        raw = (raw ^ sign) - sign
    return Numbers(raw, raw.astype(np.float64), sound)


def text(words: U16, order: str) -> str:
    """Read words as they came (u16[size]) as ASCII: up to the first NUL, blanks around it dropped, � for no ASCII."""
    content = _reordered(words.reshape(1, -1), order).astype(">u2").tobytes()
    return content.decode("ascii", errors="replace").split(TEXT_END, 1)[0].strip()


def to_numbers(words: U16, kind: str, order: str) -> NDArray[np.generic]:
    """Words as they came (u16[n, size]) to raw numbers [n] of type `kind`.

    The letters of `order` name the number's bytes, A the most significant, in the order in which they travel; longer
    numbers have theirs in the same manner.
    """
    return np.ascontiguousarray(_reordered(words, order).astype(">u2")).view(DTYPES[kind])[:, 0]


def to_words(numbers: NDArray[np.generic], kind: str, order: str) -> U16:
    """Raw numbers [n] to words u16[n, size] in the order in which they travel: the inverse of `to_numbers`."""
    big_endian = np.ascontiguousarray(numbers.astype(DTYPES[kind]).reshape(-1, 1))
    return _reordered(big_endian.view(">u2").astype(np.uint16), order)


def as_f64(numbers: NDArray[np.generic]) -> F64:
    """Raw numbers as f64, signalling NaNs kept quiet."""
    with np.errstate(invalid="ignore"):
        return numbers.astype(np.float64)


def _reordered(words: U16, order: str) -> U16:
    """Each order is its own inverse, so this serves both ways; one word has only its two bytes to swap."""
    if order in {"CDAB", "DCBA"}:
        words = words[:, ::-1]
    swapped = order == "BA" or (words.shape[1] > 1 and order in {"DCBA", "BADC"})
    return words.byteswap() if swapped else words


def _wide(words: U16, order: str) -> I64:
    """Up to four words as one number, zeros before them."""
    ordered = _reordered(words, order).astype(np.int64)
    wide = ordered[:, 0]
    for column in range(1, ordered.shape[1]):
        wide = wide << REGISTER_BITS | ordered[:, column]
    return wide


def _from_digits(packed: I64) -> Numbers:
    raw, broken = np.zeros_like(packed), np.zeros(len(packed), dtype=np.bool_)
    for place in range(64 // DIGIT_BITS):
        digit = packed >> place * DIGIT_BITS & (1 << DIGIT_BITS) - 1
        broken |= digit >= DIGITS
        raw += np.where(digit < DIGITS, digit, 0) * DIGITS**place
    return Numbers(raw, raw.astype(np.float64), broken)


def part_of(spec: RegisterValue) -> tuple[int, int] | None:
    """Lowest and highest bit of a value that is part of its registers."""
    return spec.bits if spec.bit is None else (spec.bit, spec.bit)


def encode(profile: Profile, name: str, value: float, beside: Mapping[int, int] | None = None) -> dict[int, int]:
    """Return the registers (or the bit) that show `value` (engineering unit) under `name`: {wire address: content}.

    Where the number of decimals stands in another register, that one is meant to hold the profile's own `decimals`.
    A value that is some bits of its registers leaves the others as they are in `beside`, the content so far of the same
    function's registers (0 where it has none).

    Raises:
        EncodeError: the type cannot hold it, it is a text, or it shares its register and `beside` is not given.
    """
    spec = profile.values[name]
    order = profile.order_of(name)
    if spec.type == "string":
        raise EncodeError(f"{name} is a text: encode_text writes it")
    if spec.type == "bool" and spec.bit is None:
        return {spec.address: int(bool(value))}
    part = part_of(spec)
    if part is not None:
        if beside is None:
            raise EncodeError(
                f"{name} is {'some bits' if spec.bit is None else 'one bit'} of a register: write the register"
            )
        return _put_part(spec, order, _part(name, spec, part, value), beside)
    if spec.type in DTYPES:
        words = to_words(np.array([_raw(name, spec, value)], dtype=DTYPES[spec.type]), spec.type, order)[0]
    else:
        words = _own_words(_packed(name, spec, value), spec, order)
    return {spec.address + index: int(word) for index, word in enumerate(words)}


def encode_text(profile: Profile, name: str, content: str) -> dict[int, int]:
    """Return the registers that show the ASCII text `content` under `name`, filled with NULs.

    Raises:
        EncodeError: too long, not ASCII, or `name` is not a string.
    """
    spec = profile.values[name]
    if spec.characters is None:
        raise EncodeError(f"{name} is a number: encode writes it")
    if not content.isascii() or len(content) > spec.characters:
        raise EncodeError(f"{name}: {content!r} is not {spec.characters} characters of ASCII")
    plain = np.frombuffer(content.encode("ascii").ljust(2 * spec.words, b"\0"), dtype=">u2").astype(np.uint16)
    words = _reordered(plain.reshape(1, -1), profile.order_of(name))[0]
    return {spec.address + index: int(word) for index, word in enumerate(words)}


def _own_words(number: int, spec: RegisterValue, order: str) -> U16:
    """A whole number's words in the order in which they travel."""
    count = WORDS[spec.type]
    plain = [number >> REGISTER_BITS * (count - 1 - index) & 0xFFFF for index in range(count)]
    words: U16 = _reordered(np.array([plain], dtype=np.uint16), order)[0]
    return words


def _packed(name: str, spec: RegisterValue, value: float) -> int:
    """The decimal digits of BCD, or the whole and the tenths, as the number that the registers hold."""
    raw = _whole(name, spec, value)
    if spec.type == "whole-tenths":
        whole, tenths = divmod(raw, DIGITS)
        if not 0 <= whole <= BYTE:
            raise EncodeError(f"{name}: {value} is beyond {spec.type}")
        return whole << 8 | tenths
    if not 0 <= raw < DIGITS ** (WORDS[spec.type] * REGISTER_BITS // DIGIT_BITS):
        raise EncodeError(f"{name}: {value} is beyond {spec.type}")
    return int(str(raw), 16)


def _part(name: str, spec: RegisterValue, part: tuple[int, int], value: float) -> tuple[int, int]:
    """The bits that show `value`, in their place, and the mask of that place."""
    low, high = part
    size = 1 << high - low + 1
    raw = int(bool(value)) if spec.type == "bool" else _whole(name, spec, value)
    least = -size // 2 if spec.type[0] == "s" else 0
    if not least <= raw < least + size:
        raise EncodeError(f"{name}: {value} is beyond {high - low + 1} bits")
    return (raw & size - 1) << low, size - 1 << low


def _put_part(spec: RegisterValue, order: str, part: tuple[int, int], beside: Mapping[int, int]) -> dict[int, int]:
    content, mask = part
    before = np.array([[beside.get(spec.address + index, 0) for index in range(spec.words)]], dtype=np.uint16)
    held = int.from_bytes(_reordered(before, order).astype(">u2").tobytes(), "big")
    words = _own_words(held & ~mask | content, spec, order)
    return {spec.address + index: int(word) for index, word in enumerate(words)}


def _unscaled(spec: RegisterValue, value: float) -> float:
    raw = (value - spec.offset) / spec.scale
    if spec.decimals_from is not None:
        raw *= 10.0 ** (spec.decimals or 0)
    return raw * DIGITS if spec.type == "whole-tenths" else raw


def _whole(name: str, spec: RegisterValue, value: float) -> int:
    raw = _unscaled(spec, value)
    if not math.isfinite(raw):
        raise EncodeError(f"{name}: {value} has no place in {spec.type}")
    return round(raw)


def _raw(name: str, spec: RegisterValue, value: float) -> float | int:
    kind = DTYPES[spec.type]
    if kind.kind == "f":
        raw = _unscaled(spec, value)
        if math.isfinite(raw) and abs(raw) > float(np.finfo(kind.str[1:]).max):
            raise EncodeError(f"{name}: {value} is beyond {spec.type}")
        return raw
    whole = _whole(name, spec, value)
    limits = np.iinfo(kind.str[1:])
    if not int(limits.min) <= whole <= int(limits.max):
        raise EncodeError(f"{name}: {value} is beyond {spec.type}")
    return whole
