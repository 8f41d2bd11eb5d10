"""Whole numbers and values in as few bytes as tell them exactly: only the bits in which they differ are written."""

import numpy as np
from numpy.typing import NDArray

from tocsin_core.readings import F64

U64 = NDArray[np.uint64]

# What comes before the bits of some numbers: how many bits each has, how many zeros follow them, and in how many bytes
# the lowest is told: 65, 64 and 9 possibilities.
_HEAD = 2
_SHIFTS, _LENGTHS = 64, 9
_WORD = 64
_SIGN = np.uint64(1 << 63)
_ONE = np.uint64(1)
_NAN = np.float64(np.nan).view(np.uint64)
# The bits of `form`. Below them: 0 for the bits of the values themselves, else what makes them of whole numbers.
_SOME_MISSING, _SOME_NEGATIVE = 0x80, 0x40
# A register is multiplied by its scale, a sensor's text is the number nearest to a decimal: these differ in some bits.
_DECIMALS = 4
# An f32 takes up to 34 bits. What takes more is of many digits, or of few decimal ones.
_PLAIN_BITS = 36
# Up to here an f64 counts one by one.
_MOST_WHOLE = float(1 << 53)


def pack_whole(numbers: U64) -> bytes:
    """Write whole numbers, at least one."""
    low, high = int(numbers.min()), int(numbers.max())
    if low == high:
        return _head(0, 0, low)
    every = int(np.bitwise_or.reduce(numbers))
    shift = (every & -every).bit_length() - 1
    low >>= shift
    width = ((high >> shift) - low).bit_length()
    above = (numbers >> np.uint64(shift)) - np.uint64(low)
    bits = np.unpackbits(above.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)
    return _head(width, shift, low) + np.packbits(bits[:, _WORD - width :]).tobytes()


def _head(width: int, shift: int, low: int) -> bytes:
    length = (low.bit_length() + 7) // 8
    head = (width * _SHIFTS + shift) * _LENGTHS + length
    return head.to_bytes(_HEAD, "little") + low.to_bytes(length, "little")


def unpack_whole(body: bytes, at: int, n: int) -> tuple[U64, int]:
    """Read the `n` numbers that begin at byte `at`, and tell where they end.

    Raises:
        ValueError: there is no such thing there.
    """
    rest, length = divmod(int.from_bytes(body[at : at + _HEAD], "little"), _LENGTHS)
    width, shift = divmod(rest, _SHIFTS)
    at += _HEAD + length
    end = at + (n * width + 7) // 8
    if end > len(body) or width + shift > _WORD:
        raise ValueError("numbers cut short")
    low = np.uint64(int.from_bytes(body[at - length : at], "little"))
    if not width:
        return np.full(n, low), end
    bits = np.zeros((n, _WORD), np.uint8)
    packed = np.frombuffer(body, np.uint8, end - at, at)
    bits[:, _WORD - width :] = np.unpackbits(packed, count=n * width).reshape(n, width)
    above = np.packbits(bits, axis=1).view(">u8").reshape(n).astype(np.uint64)
    return (above + low) << np.uint64(shift), end


def pack_values(values: F64) -> bytes:
    """Write values, at least one, so that each bit of each comes back.

    Missing ones (NaN as numpy makes it) and signs are told apart from the others' bits where there are both.
    """
    bits = np.ascontiguousarray(values, np.float64).view(np.uint64)
    form, columns = 0, b""
    missing = bits == _NAN
    if missing.any() and not missing.all():
        form |= _SOME_MISSING
        columns += pack_whole(missing.astype(np.uint64))
        bits = np.where(missing, bits[missing.argmin()], bits)
    negative = bits >= _SIGN
    if negative.any():
        form |= _SOME_NEGATIVE
        columns += pack_whole(negative.astype(np.uint64))
        bits = bits & ~_SIGN
    packed = pack_whole(bits)
    if len(packed) * 8 > len(bits) * _PLAIN_BITS:
        decimal, whole = _as_decimals(bits.view(np.float64))
        if whole is not None:
            form, packed = form | decimal, pack_whole(whole)
    return bytes((form,)) + columns + packed


def _as_decimals(values: F64) -> tuple[int, U64 | None]:
    """Find how values that are not negative come of whole numbers; None: they do not."""
    most = float(values.max())
    for decimal in range(1, 2 * _DECIMALS + 1):
        # Neither infinite ones nor those that are no number are less.
        if not most * 10.0 ** _places(decimal) < _MOST_WHOLE:
            break
        whole = np.rint(values * 10.0 ** _places(decimal))
        if np.array_equal(_of_decimals(whole, decimal), values):
            return decimal, whole.astype(np.uint64)
    return 0, None


def _places(decimal: int) -> int:
    return (decimal + 1) // 2


def _of_decimals(whole: F64, decimal: int) -> F64:
    places = _places(decimal)
    return whole * 10.0**-places if decimal % 2 else whole / 10.0**places


def unpack_values(body: bytes, at: int, n: int) -> tuple[F64, int]:
    """Read the `n` values that begin at byte `at`, and tell where they end.

    Raises:
        ValueError: there is no such thing there.
    """
    if at >= len(body):
        raise ValueError("no values")
    form, at = body[at], at + 1
    missing = negative = None
    if form & _SOME_MISSING:
        missing, at = unpack_whole(body, at, n)
    if form & _SOME_NEGATIVE:
        negative, at = unpack_whole(body, at, n)
    bits, at = unpack_whole(body, at, n)
    if decimal := form & ~(_SOME_MISSING | _SOME_NEGATIVE):
        if decimal > 2 * _DECIMALS:
            raise ValueError("another form")
        bits = _of_decimals(bits.astype(np.float64), decimal).view(np.uint64)
    if negative is not None:
        bits |= negative << np.uint64(63)
    if missing is not None:
        bits[missing == _ONE] = _NAN
    return bits.view(np.float64), at
