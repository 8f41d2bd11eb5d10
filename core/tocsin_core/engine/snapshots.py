"""The state as bytes and back: whole, by name, and refused when damaged."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import fields
from io import BytesIO
from typing import Final
from zipfile import BadZipFile

import numpy as np

from tocsin_core import normal
from tocsin_core.detect import Surprise
from tocsin_core.detectors.columns import Columns
from tocsin_core.engine.outlook import look_ahead
from tocsin_core.engine.state import OURS_UNTIL_RETURN, State, initial
from tocsin_core.lifecycle import Phase
from tocsin_core.rules import Rules


class SnapshotError(ValueError):
    """Bytes that are no snapshot of the engine."""


_BY_DEFINITION: Final = (
    "phase",
    "active",
    "since_ns",
    "onset_ns",
    "shelved_until_ns",
    "shelved_once",
    "suppressed",
    "out_of_service",
    "elsewhere",
    "commanded_ns",
)
# Earlier versions decided everything themselves.
_LATER: Final = ("elsewhere", "commanded_ns")
_BY_POINT: Final = ("time_ns", "value", "quality", "seen_ns")
_BY_TREND: Final = ("trend_ns", "trend_value")
_BY_REALARM: Final = ("acknowledged_ns",)
_UNIT: Final = "unit/"

# What numpy's reader of a torn or altered file is known to raise.
_UNREADABLE: Final = (OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError, SyntaxError, MemoryError)


def _trend_keys(rules: Rules) -> list[str]:
    return [
        f"{rules.points[point]}@{tau!r}"
        for point, tau in zip(rules.trend_point.tolist(), rules.trend_tau_s.tolist(), strict=True)
    ]


def _realarm_keys(rules: Rules) -> list[str]:
    return [rules.definitions[number].id for number in rules.realarm.tolist()]


def snapshot(state: State, rules: Rules) -> bytes:
    """The whole state, by name, so that it can be restored under rules that have changed since."""
    columns: dict[str, np.ndarray] = {
        name: getattr(state, name) for name in (*_BY_DEFINITION, *_BY_POINT, *_BY_TREND, *_BY_REALARM)
    }
    columns |= _sums(state)
    for name, table in rules.special.tables.items():
        columns[f"{name}/keys"] = np.asarray(table.keys, np.str_)
        columns |= {f"{name}/{key}": column for key, column in _columns_of(state.tables[name]).items()}
    columns |= {
        f"{_UNIT}{name}": np.frombuffer(normal.state_to_bytes(unit), np.uint8) for name, unit in state.units.items()
    }
    columns["now_ns"] = np.asarray(state.now_ns, np.int64)
    columns["definitions"] = np.asarray([definition.id for definition in rules.definitions], np.str_)
    columns["realarms"] = np.asarray(_realarm_keys(rules), np.str_)
    columns["points"] = np.asarray(rules.points, np.str_)
    columns["trends"] = np.asarray(_trend_keys(rules), np.str_)
    buffer = BytesIO()
    np.savez(buffer, **columns)  # type: ignore[arg-type]
    return buffer.getvalue()


def _sums(state: State) -> dict[str, np.ndarray]:
    surprise = Surprise(*state.surprise)._asdict()
    return {f"trend.{name}": column for name, column in (state.trend._asdict() | surprise).items()}


def _columns_of(table: Columns) -> dict[str, np.ndarray]:
    return {field.name: getattr(table, field.name) for field in fields(table)}


def _lay(columns: dict[str, np.ndarray], key: str, names: Sequence[str], targets: dict[str, np.ndarray]) -> None:
    """Copy each column of `targets` for the `names` that `columns[key]` shares with them."""
    before = columns[key].tolist()
    place = {name: number for number, name in enumerate(before)}
    new = np.asarray([number for number, name in enumerate(names) if name in place], np.int64)
    old = np.asarray([place[names[number]] for number in new.tolist()], np.int64)
    for name, target in targets.items():
        column = columns[name]
        if column.shape != (len(before), *target.shape[1:]) or column.dtype != target.dtype:
            raise ValueError(f"column {name} is {column.dtype}{list(column.shape)}")
        target[new] = column[old]


def _lay_special(columns: dict[str, np.ndarray], rules: Rules, state: State) -> None:
    """Tables and units that `columns` hold; what the plant did not have then, or has otherwise now, starts fresh."""
    for name, table in rules.special.tables.items():
        if f"{name}/keys" in columns:
            targets = {f"{name}/{key}": column for key, column in _columns_of(state.tables[name]).items()}
            _lay(columns, f"{name}/keys", table.keys, targets)
    for name in state.units:
        if f"{_UNIT}{name}" in columns:
            state.units[name] = normal.state_from_bytes(columns[f"{_UNIT}{name}"].tobytes())
    # What nothing suppresses any more must not stay hidden: nobody would ever end it.
    suppressible = np.zeros(len(rules.definitions), np.bool_)
    if rules.special.suppressions is not None:
        suppressible[rules.special.suppressions.definition] = True
    state.suppressed &= suppressible


def restore(data: bytes, rules: Rules) -> State:
    """The state that `snapshot` kept, laid onto `rules`: alarms, points and trends that are new start fresh.

    Raises:
        SnapshotError: `data` is no snapshot.
    """
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        state = initial(rules, int(columns["now_ns"]))
        alarms = [definition.id for definition in rules.definitions]
        kept = [name for name in _BY_DEFINITION if name in columns or name not in _LATER]
        _lay(columns, "definitions", alarms, {name: getattr(state, name) for name in kept})
        _lay(columns, "points", rules.points, {name: getattr(state, name) for name in _BY_POINT})
        _lay(columns, "trends", _trend_keys(rules), _sums(state) | {name: getattr(state, name) for name in _BY_TREND})
        _lay(columns, "realarms", _realarm_keys(rules), {name: getattr(state, name) for name in _BY_REALARM})
        _lay_special(columns, rules, state)
        if len(rules.definitions) and state.phase.max() >= len(Phase):
            raise ValueError("a phase that does not exist")
        if len(rules.definitions) and state.elsewhere.max() > OURS_UNTIL_RETURN:
            raise ValueError("a decider that does not exist")
        look_ahead(state, rules)
    except (*_UNREADABLE, BadZipFile, zlib.error, struct.error) as error:
        raise SnapshotError(f"not a snapshot of the engine: {error}") from error
    return state
