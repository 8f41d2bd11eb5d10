"""The state as bytes and back: whole, by name, and refused when damaged."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from io import BytesIO
from operator import eq
from typing import Final, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tocsin_core import normal
from tocsin_core.detect import Surprise
from tocsin_core.detectors.columns import Columns
from tocsin_core.engine.outlook import look_ahead
from tocsin_core.engine.state import HERE, NEVER, OURS_UNTIL_TOLD, State, initial
from tocsin_core.lifecycle import Phase
from tocsin_core.readings import Bool
from tocsin_core.rules import MAX_SHELVE_S, NS, Rules


class SnapshotError(ValueError):
    """Bytes that are no snapshot of the engine."""


# By definition, and what they are where nothing has happened: an alarm at rest is not kept.
_BY_DEFINITION: Final[dict[str, int]] = {
    "phase": 0,
    "active": 0,
    "since_ns": int(NEVER),
    "onset_ns": 0,
    "shelved_until_ns": 0,
    "shelved_once": 0,
    "suppressed": 0,
    "unseen": 0,
    "out_of_service": 0,
    "elsewhere": int(HERE),
    "commanded_ns": 0,
}
# Earlier versions decided everything themselves, and asked for an answer to what nobody had seen.
_LATER: Final = ("elsewhere", "commanded_ns", "unseen")
_BY_POINT: Final = ("time_ns", "value", "quality", "seen_ns")
_BY_TREND: Final = ("trend_ns", "trend_value")
_BY_REALARM: Final = ("acknowledged_ns",)
_UNIT: Final = "unit/"

# What numpy's reader of a torn or altered file is known to raise.
_UNREADABLE: Final = (OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError, SyntaxError, MemoryError)


def _names(texts: Iterable[str]) -> NDArray[np.bytes_]:
    """Names in a column: a quarter of what numpy's own texts take."""
    return np.asarray([text.encode() for text in texts], np.bytes_)


def snapshot(state: State, rules: Rules) -> bytes:
    """The whole state, by name, so that it can be restored under rules that have changed since."""
    buffer = BytesIO()
    np.savez(buffer, **labelled(kept(state, rules), rules))  # type: ignore[arg-type]
    return buffer.getvalue()


def kept(state: State, rules: Rules, over: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """What a snapshot keeps of the state, in columns of its own: the state may go on, and `labelled` has time.

    `over` is what was kept before, if nobody needs that any more: its memory is written again, where it fits. To be
    given new memory for a large plant costs many times what it costs to copy into it.
    """
    room = {} if over is None else over
    known = np.flatnonzero(_has_happened(state))
    columns: dict[str, np.ndarray] = {name: getattr(state, name)[known] for name in _BY_DEFINITION}
    whole = {name: getattr(state, name) for name in (*_BY_POINT, *_BY_TREND, *_BY_REALARM)} | _sums(state)
    for name in rules.special.tables:
        whole |= {f"{name}/{key}": column for key, column in _columns_of(state.tables[name]).items()}
    columns |= {name: _copied(column, room.get(name)) for name, column in whole.items()}
    columns |= {
        f"{_UNIT}{name}": np.frombuffer(normal.state_to_bytes(unit), np.uint8) for name, unit in state.units.items()
    }
    columns["told"] = _names(rules.definitions[number].id for number in state.told_ns)
    columns["told_ns"] = np.asarray(list(state.told_ns.values()), np.int64)
    columns["now_ns"] = np.asarray(state.now_ns, np.int64)
    columns["definitions"] = _names(rules.definitions[number].id for number in known.tolist())
    columns["priority"] = rules.priority[known]
    return columns


def _copied(column: np.ndarray, room: np.ndarray | None) -> np.ndarray:
    if room is None or room.shape != column.shape or room.dtype != column.dtype:
        return column.copy()
    np.copyto(room, column)
    return room


def labelled(columns: Mapping[str, np.ndarray], rules: Rules) -> dict[str, np.ndarray]:
    """What was `kept` of a state of these rules, and of what each row is: all that `laid` needs."""
    names: dict[str, np.ndarray] = {f"{name}/keys": _names(table.keys) for name, table in rules.special.tables.items()}
    names["realarms"] = _names(rules.definitions[number].id for number in rules.realarm.tolist())
    names["points"] = _names(rules.points)
    names |= {"trend_point": rules.trend_point, "trend_tau_s": rules.trend_tau_s}
    return {**columns, **names}


def _has_happened(state: State) -> Bool:
    """Which definitions are otherwise than at rest, or have been commanded."""
    happened = np.zeros(len(state.phase), np.bool_)
    for name, at_rest in _BY_DEFINITION.items():
        other = getattr(state, name) != at_rest
        if other.ndim == 1:
            happened |= other
        else:
            # To reduce every row costs several times the comparison, and few are otherwise.
            happened[np.flatnonzero(other) // other.shape[1]] = True
    return happened


def _sums(state: State) -> dict[str, np.ndarray]:
    surprise = Surprise(*state.surprise)._asdict()
    return {f"trend.{name}": column for name, column in (state.trend._asdict() | surprise).items()}


def _columns_of(table: Columns) -> dict[str, np.ndarray]:
    return {field.name: getattr(table, field.name) for field in fields(table)}


def _texts(column: np.ndarray) -> list[str]:
    # Earlier versions kept texts as such.
    return [name.decode() if isinstance(name, bytes) else name for name in column.tolist()]


def _trend_keys(points: Sequence[str], columns: Mapping[str, np.ndarray]) -> list[str]:
    point, tau_s = columns["trend_point"].tolist(), columns["trend_tau_s"].tolist()
    return [f"{points[number]}@{tau!r}" for number, tau in zip(point, tau_s, strict=True)]


class _Rows(NamedTuple):
    """Where what was kept goes: of so `many` rows row `old[i]` to row `new[i]`."""

    many: int
    old: NDArray[np.int64] | slice
    new: NDArray[np.int64] | slice


def _rows(before: Sequence[str], names: Sequence[str]) -> _Rows:
    """The rows of `before` that are among `names`."""
    # To look up the names of a large plant, which is mostly what it was, takes longer than all else.
    if len(before) == len(names) and all(map(eq, before, names)):
        return _Rows(len(before), slice(None), slice(None))
    return _rows_in(before, {name: number for number, name in enumerate(names)})


def _rows_in(before: Sequence[str], index: Mapping[str, int]) -> _Rows:
    """As `_rows`, by where each name is."""
    old = np.asarray([number for number, name in enumerate(before) if name in index], np.int64)
    return _Rows(len(before), old, np.asarray([index[before[number]] for number in old.tolist()], np.int64))


def _trend_rows(columns: Mapping[str, np.ndarray], rules: Rules, points: Sequence[str], moved: _Rows) -> _Rows:
    """The rows of trends, by `points` as they were and where these are now."""
    ours = {"trend_point": rules.trend_point, "trend_tau_s": rules.trend_tau_s}
    if isinstance(moved.old, slice) and all(np.array_equal(columns.get(name, ()), our) for name, our in ours.items()):
        return _Rows(len(rules.trend_point), slice(None), slice(None))
    # Earlier versions kept the keys themselves.
    before = _texts(columns["trends"]) if "trends" in columns else _trend_keys(points, columns)
    return _rows(before, _trend_keys(rules.points, ours))


def _lay(columns: Mapping[str, np.ndarray], rows: _Rows, targets: dict[str, np.ndarray]) -> None:
    """Copy the `rows` of each column of `targets`."""
    for name, target in targets.items():
        column = columns[name]
        if column.shape != (rows.many, *target.shape[1:]) or column.dtype != target.dtype:
            raise ValueError(f"column {name} is {column.dtype}{list(column.shape)}")
        target[rows.new] = column[rows.old]


def _shorten_shelves(state: State, rules: Rules, before: np.ndarray, rows: _Rows) -> None:
    """Let no shelf last longer than the priority of its alarm allows, where that was lower when it was put there."""
    is_graver = np.zeros(len(rules.definitions), np.bool_)
    is_graver[rows.new] = rules.priority[rows.new] > before[rows.old]
    graver = np.flatnonzero(is_graver)
    longest_s = np.asarray([MAX_SHELVE_S[each] for each in rules.priority[graver].tolist()], np.int64)
    state.shelved_until_ns[graver] = np.minimum(state.shelved_until_ns[graver], state.now_ns + longest_s * NS)


def _lay_special(columns: Mapping[str, np.ndarray], rules: Rules, state: State) -> None:
    """Tables and units that `columns` hold; what the plant did not have then, or has otherwise now, starts fresh."""
    for name, table in rules.special.tables.items():
        if f"{name}/keys" in columns:
            targets = {f"{name}/{key}": column for key, column in _columns_of(state.tables[name]).items()}
            _lay(columns, _rows(_texts(columns[f"{name}/keys"]), table.keys), targets)
    for name in state.units:
        if f"{_UNIT}{name}" in columns:
            state.units[name] = normal.state_from_bytes(columns[f"{_UNIT}{name}"].tobytes())
    # What nothing suppresses any more must not stay hidden: nobody would ever end it.
    suppressible = np.zeros(len(rules.definitions), np.bool_)
    if rules.special.suppressions is not None:
        suppressible[rules.special.suppressions.definition] = True
    state.suppressed &= suppressible
    state.unseen &= state.suppressed


def restore(data: bytes, rules: Rules) -> State:
    """The state that `snapshot` kept, laid onto `rules`: alarms, points and trends that are new start fresh.

    Raises:
        SnapshotError: `data` is no snapshot.
    """
    return laid(unpacked(data), rules)


def unpacked(data: bytes) -> dict[str, np.ndarray]:
    """The columns of which `snapshot` made bytes.

    Raises:
        SnapshotError: `data` is no snapshot.
    """
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (*_UNREADABLE, BadZipFile, zlib.error, struct.error) as error:
        raise SnapshotError(f"not a snapshot of the engine: {error}") from error


def laid(columns: Mapping[str, np.ndarray], rules: Rules) -> State:
    """The state of which these are the `labelled` columns, laid onto `rules`, as `restore` does.

    Raises:
        SnapshotError: the columns are not such.
    """
    try:
        state = initial(rules, int(columns["now_ns"]))
        kept = [name for name in _BY_DEFINITION if name in columns or name not in _LATER]
        happened = _rows_in(_texts(columns["definitions"]), rules.index)
        _lay(columns, happened, {name: getattr(state, name) for name in kept})
        if "priority" in columns:
            _shorten_shelves(state, rules, columns["priority"], happened)
        before = _texts(columns["points"])
        points = _rows(before, rules.points)
        _lay(columns, points, {name: getattr(state, name) for name in _BY_POINT})
        targets = _sums(state) | {name: getattr(state, name) for name in _BY_TREND}
        _lay(columns, _trend_rows(columns, rules, before, points), targets)
        realarms = _rows(
            _texts(columns["realarms"]), [rules.definitions[number].id for number in rules.realarm.tolist()]
        )
        _lay(columns, realarms, {name: getattr(state, name) for name in _BY_REALARM})
        _lay_special(columns, rules, state)
        if "told" in columns:
            told = zip(_texts(columns["told"]), columns["told_ns"].tolist(), strict=True)
            state.told_ns = {rules.index[name]: told_ns for name, told_ns in told if name in rules.index}
        if len(rules.definitions) and state.phase.max() >= len(Phase):
            raise ValueError("a phase that does not exist")
        if len(rules.definitions) and state.elsewhere.max() > OURS_UNTIL_TOLD:
            raise ValueError("a decider that does not exist")
        look_ahead(state, rules)
    except (*_UNREADABLE, BadZipFile, zlib.error, struct.error) as error:
        raise SnapshotError(f"not a snapshot of the engine: {error}") from error
    return state
