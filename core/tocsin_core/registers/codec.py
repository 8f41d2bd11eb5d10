"""Register words to numbers and back, in all four word orders."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tocsin_core.readings import F64
from tocsin_core.registers.profile import Profile, RegisterValue

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


class EncodeError(ValueError):
    """A number that the register's type cannot hold."""


def to_numbers(words: U16, kind: str, order: str) -> NDArray[np.generic]:
    """Words as they came (u16[n, size]) to raw numbers [n] of type `kind`.

    The letters of `order` name the number's bytes, A the most significant, in the order in which they travel.
    """
    return np.ascontiguousarray(_reordered(words, order).astype(">u2")).view(DTYPES[kind])[:, 0]


def to_words(numbers: NDArray[np.generic], kind: str, order: str) -> U16:
    """Raw numbers [n] to words u16[n, size] in the order in which they travel: the inverse of `to_numbers`."""
    big_endian = np.ascontiguousarray(numbers.astype(DTYPES[kind]).reshape(-1, 1))
    return _reordered(big_endian.view(">u2").astype(np.uint16), order)


def _reordered(words: U16, order: str) -> U16:
    """Each of the four orders is its own inverse, so this serves both ways; one word has no order."""
    if words.shape[1] == 1:
        return words
    if order in {"CDAB", "DCBA"}:
        words = words[:, ::-1]
    return words.byteswap() if order in {"DCBA", "BADC"} else words


def encode(profile: Profile, name: str, value: float) -> dict[int, int]:
    """Return the registers (or the bit) that show `value` (engineering unit) under `name`: {wire address: content}.

    Where the number of decimals stands in another register, that one is meant to hold the profile's own `decimals`.

    Raises:
        EncodeError: the type cannot hold it, or it is one bit of a register shared with others.
    """
    spec = profile.values[name]
    if spec.type == "bool":
        if spec.bit is not None:
            raise EncodeError(f"{name} is one bit of a register: write the register")
        return {spec.address: int(bool(value))}
    words = to_words(np.array([_raw(name, spec, value)], dtype=DTYPES[spec.type]), spec.type, profile.order_of(name))
    return {spec.address + index: int(word) for index, word in enumerate(words[0])}


def _raw(name: str, spec: RegisterValue, value: float) -> float | int:
    raw = (value - spec.offset) / spec.scale
    if spec.decimals_from is not None:
        raw *= 10.0 ** (spec.decimals or 0)
    kind = DTYPES[spec.type]
    if kind.kind == "f":
        if math.isfinite(raw) and abs(raw) > float(np.finfo(kind.str[1:]).max):
            raise EncodeError(f"{name}: {value} is beyond {spec.type}")
        return raw
    if not math.isfinite(raw):
        raise EncodeError(f"{name}: {value} has no place in {spec.type}")
    whole = round(raw)
    limits = np.iinfo(kind.str[1:])
    if not int(limits.min) <= whole <= int(limits.max):
        raise EncodeError(f"{name}: {value} is beyond {spec.type}")
    return whole


def as_f64(numbers: NDArray[np.generic]) -> F64:
    """Raw numbers as f64, signalling NaNs kept quiet."""
    with np.errstate(invalid="ignore"):
        return numbers.astype(np.float64)
