"""The decoder of a set of values: the words of all answers turned into columns of values and qualities at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np

from tocsin_core.readings import (
    BAD_CONFIGURATION,
    BAD_SENSOR_FAILURE,
    F64,
    GOOD,
    I64,
    LIMITED_HIGH,
    LIMITED_LOW,
    QUALITY_MASK,
    U8,
    UNCERTAIN,
    Bool,
    is_bad,
)
from tocsin_core.registers.codec import DTYPES, U16, numbers, part_of, text, to_numbers
from tocsin_core.registers.profile import FLOATS, INTEGERS, REGISTER_BITS, Profile, RegisterValue, StatusRule

# One decimal digit either way: no device shows more places.
MOST_DECIMALS: Final = 9


@dataclass(frozen=True, slots=True)
class Decoded:
    """Values f64[n] (NaN where bad) and OPC quality bytes u8[n], in the order in which they were wanted.

    A string is no number: its value is NaN, bad by configuration; `text` holds those that could be read, by name.
    """

    value: F64
    quality: U8
    text: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Group:
    """Values of one form: where their words i64[n, size] lie in the joined answers, and where the values go."""

    spec: RegisterValue
    order: str
    column: I64
    words: I64


@dataclass(frozen=True, slots=True)
class _Codes:
    """Numbers that mean "no value": column i64[k], code i64[k] (integers) or f64[k] (floats), quality u8[k]."""

    column: I64
    code: I64 | F64
    quality: U8

    def mark(self, content: I64 | F64, quality: U8) -> None:
        """Give each good value that is such a code the code's quality."""
        if not len(self.column):
            return
        hit = (content[self.column] == self.code) & (quality[self.column] == GOOD)
        quality[self.column[hit]] = self.quality[hit]


@dataclass(frozen=True, slots=True)
class _Rules:
    """Status rules in columns: each looks at a status, compares it with codes, and speaks for some values."""

    status: I64
    looked_at: I64
    negated: Bool
    quality: U8
    code_rule: I64
    code: I64
    pair_rule: I64
    pair_column: I64

    def apply(self, raw: I64, unread: Bool, quality: U8) -> None:
        """Bad outranks uncertain, which outranks good beyond an end; among equals the rule written first speaks.

        A status that could not be read makes what it speaks for uncertain.
        """
        if not len(self.status):
            return
        found = np.zeros(len(self.status), dtype=np.bool_)
        hit = (raw[self.status[self.code_rule]] & self.looked_at[self.code_rule]) == self.code
        np.logical_or.at(found, self.code_rule, hit)
        blind = unread[self.status]
        speaks = (found ^ self.negated) | blind
        byte = np.where(blind, np.uint8(UNCERTAIN), self.quality)
        rank = _rank(byte, np.arange(1, len(byte) + 1))
        # What is good without reserve gives way to any rule; what is not, to worse ones only.
        best = np.where(quality == GOOD, np.iinfo(np.int64).max, _rank(quality, np.zeros(len(quality), np.int64)))
        chosen = speaks[self.pair_rule]
        np.minimum.at(best, self.pair_column[chosen], rank[self.pair_rule[chosen]])
        quality[:] = np.where(best == np.iinfo(np.int64).max, np.uint8(GOOD), best & 0xFF)


def _rank(quality: U8, place: I64) -> I64:
    """A number that grows from bad to good, then with `place`, and that ends in the quality byte itself."""
    return (quality & QUALITY_MASK).astype(np.int64) << 40 | place << 8 | quality


@dataclass(frozen=True, slots=True)
class Decoder:
    """How the joined words of a plan's answers become the columns of `specs`, of which `wanted` are shown."""

    names: tuple[str, ...]
    wanted: int
    _groups: tuple[_Group, ...]
    _texts: tuple[tuple[int, str, I64], ...]
    _request: I64
    _scale: F64
    _offset: F64
    _whole_codes: _Codes
    _float_codes: _Codes
    _decimals: tuple[I64, I64]
    _rules: _Rules
    _plain: bool
    """Whether each value is a number of its own, and nothing else says what it is worth."""

    def decode(self, words: U16, failed: U8) -> Decoded:
        """Read the joined words u16[all] of all answers; `failed` u8[requests] is GOOD or why an answer is missing."""
        if self._plain and not (failed != GOOD).any():
            return self._decode_plain(words)
        quality = failed[self._request].astype(np.uint8)
        raw = np.zeros(len(self.names), dtype=np.int64)
        plain = np.full(len(self.names), np.nan)
        answered = quality == GOOD
        for group in self._groups:
            found = numbers(words[group.words], group.spec, group.order)
            raw[group.column], plain[group.column] = found.raw, found.value
            broken = group.column[found.broken]
            quality[broken] = np.where(answered[broken], np.uint8(BAD_CONFIGURATION), quality[broken])
        unread = quality != GOOD
        with np.errstate(over="ignore", invalid="ignore"):
            value = plain * self._scale + self._offset
        self._whole_codes.mark(raw, quality)
        self._float_codes.mark(plain, quality)
        texts = self._read_texts(words, answered, quality)
        self._scale_by_decimals(raw, value, quality)
        _mark_not_finite(value, quality)
        self._rules.apply(raw, unread, quality)
        value[is_bad(quality)] = np.nan
        return Decoded(value[: self.wanted], quality[: self.wanted], texts)

    def _decode_plain(self, words: U16) -> Decoded:
        value = np.empty(len(self.names))
        with np.errstate(over="ignore", invalid="ignore"):
            for group in self._groups:
                value[group.column] = to_numbers(words[group.words], group.spec.type, group.order)
            value = value * self._scale + self._offset
        quality = np.full(len(value), GOOD, dtype=np.uint8)
        _mark_not_finite(value, quality)
        value[is_bad(quality)] = np.nan
        return Decoded(value[: self.wanted], quality[: self.wanted], {})

    def _read_texts(self, words: U16, answered: Bool, quality: U8) -> dict[str, str]:
        found = {}
        for column, order, place in self._texts:
            if answered[column]:
                found[self.names[column]] = text(words[place], order)
                quality[column] = BAD_CONFIGURATION
        return found

    def _scale_by_decimals(self, raw: I64, value: F64, quality: U8) -> None:
        column, source = self._decimals
        if not len(column):
            return
        places = raw[source]
        missing = is_bad(quality[source])
        senseless = ~missing & (np.abs(places) > MOST_DECIMALS)
        quality[column[missing]] = quality[source[missing]]
        quality[column[senseless]] = BAD_CONFIGURATION
        with np.errstate(over="ignore", invalid="ignore"):
            value[column] /= 10.0 ** np.where(missing | senseless, 0, places)

    @classmethod
    def of(
        cls, profile: Profile, names: Sequence[str], wanted: int, home: Sequence[int], first_word: Sequence[int]
    ) -> Self:
        """Compile the decoder of `names` (the first `wanted` of which are shown).

        `home` is the request that reads each, `first_word` where it begins in the joined answers.
        """
        specs = [profile.values[name] for name in names]
        at = {name: column for column, name in enumerate(names)}
        scaled = [(column, spec.decimals_from) for column, spec in enumerate(specs) if spec.decimals_from is not None]
        whole_codes, float_codes = _codes(specs, floats=False), _codes(specs, floats=True)
        return cls(
            names=tuple(names),
            wanted=wanted,
            _groups=tuple(_groups(profile, names, first_word)),
            _texts=tuple(
                (column, profile.order_of(name), first_word[column] + np.arange(spec.words))
                for column, (name, spec) in enumerate(zip(names, specs, strict=True))
                if spec.type == "string"
            ),
            _request=_i64(home),
            _scale=np.array([spec.scale for spec in specs], dtype=np.float64),
            _offset=np.array([spec.offset for spec in specs], dtype=np.float64),
            _whole_codes=whole_codes,
            _float_codes=float_codes,
            _decimals=(_i64([column for column, _ in scaled]), _i64([at[source] for _, source in scaled])),
            _rules=_compile_rules(profile, at),
            _plain=not (scaled or profile.status or len(whole_codes.column) or len(float_codes.column))
            and all(spec.type in DTYPES and part_of(spec) is None for spec in specs),
        )


def _mark_not_finite(value: F64, quality: U8) -> None:
    if np.isfinite(value).all():
        return
    good = quality == GOOD
    quality[good & np.isnan(value)] = BAD_SENSOR_FAILURE
    quality[good & np.isposinf(value)] = BAD_SENSOR_FAILURE | LIMITED_HIGH
    quality[good & np.isneginf(value)] = BAD_SENSOR_FAILURE | LIMITED_LOW


def _i64(numbers_: Sequence[int]) -> I64:
    return np.array(numbers_, dtype=np.int64)


def _pattern(code: int) -> int:
    """A 64-bit code as the signed number of the same bits."""
    return (code + (1 << 63)) % (1 << 64) - (1 << 63)


def _as_read(code: int, spec: RegisterValue) -> int:
    """A code as the number that `spec` reads: manuals print 0x8000 of a signed register, too, which is -32768."""
    if spec.type not in INTEGERS:
        return code
    low, high = part_of(spec) or (0, spec.words * REGISTER_BITS - 1)
    size = 1 << high - low + 1
    if not -size // 2 <= code < size:
        return code
    return (code + size // 2) % size - size // 2 if spec.type[0] == "s" else code % size


def _groups(profile: Profile, names: Sequence[str], first_word: Sequence[int]) -> list[_Group]:
    members: dict[tuple[str, str, tuple[int, int] | None], list[int]] = {}
    for column, name in enumerate(names):
        spec = profile.values[name]
        if spec.type != "string":
            members.setdefault((spec.type, profile.order_of(name), part_of(spec)), []).append(column)
    groups = []
    for (_, order, _), columns in members.items():
        spec = profile.values[names[columns[0]]]
        starts = _i64([first_word[column] for column in columns])
        groups.append(_Group(spec, order, _i64(columns), starts[:, None] + np.arange(spec.words)))
    return groups


def _codes(specs: Sequence[RegisterValue], *, floats: bool) -> _Codes:
    rows = [
        (column, np.float32(raw) if spec.type == "f32" else raw, invalid.quality.byte)
        for column, spec in enumerate(specs)
        if (spec.type in FLOATS) == floats
        for invalid in spec.invalid or ()
        for raw in invalid.raw
    ]
    # A code that is named twice means what it meant first: of several assignments the last one stays.
    rows.reverse()
    return _Codes(
        column=_i64([column for column, _, _ in rows]),
        code=np.array([float(raw) for _, raw, _ in rows])
        if floats
        else _i64([_pattern(_as_read(int(raw), specs[column])) for column, raw, _ in rows]),
        quality=np.array([byte for _, _, byte in rows], dtype=np.uint8),
    )


def _compile_rules(profile: Profile, at: Mapping[str, int]) -> _Rules:
    kept = [rule for rule in profile.status if any(name in at for name in rule.affects)]
    codes = [(index, code) for index, rule in enumerate(kept) for code in _codes_of(rule, profile)]
    scaled: dict[str | None, list[int]] = {}
    for name, column in at.items():
        scaled.setdefault(profile.values[name].decimals_from, []).append(column)
    pairs = [
        (index, column)
        for index, rule in enumerate(kept)
        for name in rule.affects
        if name in at
        for column in (at[name], *scaled.get(name, ()))
    ]
    return _Rules(
        status=_i64([at[rule.value] for rule in kept]),
        looked_at=_i64([_pattern(rule.looked_at) for rule in kept]),
        negated=np.array([bool(rule.is_not_in) for rule in kept], dtype=np.bool_),
        quality=np.array([rule.quality.byte for rule in kept], dtype=np.uint8),
        code_rule=_i64([index for index, _ in codes]),
        code=_i64([_pattern(code) for _, code in codes]),
        pair_rule=_i64([index for index, _ in pairs]),
        pair_column=_i64([column for _, column in pairs]),
    )


def _codes_of(rule: StatusRule, profile: Profile) -> Sequence[int]:
    """What a status rule looks for: bits are those of the registers, whatever their sign."""
    spec = profile.values[rule.value]
    whole = rule.bit is None and rule.mask is None
    return [_as_read(code, spec) for code in rule.codes] if whole else rule.codes
