"""The Sparkplug payload: protobuf bytes to numbers and quality bytes, and back; no state."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from google.protobuf.message import DecodeError

from tocsin_core import readings
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload

BATCH: Final = "Tocsin/Batch"
OLDEST: Final = "Tocsin/Oldest"
COMMITTED: Final = "Tocsin/Committed"
JOURNAL: Final = "Tocsin/Journal"
JOURNAL_RULES: Final = "Tocsin/Journal/Rules"
JOURNAL_OLDEST: Final = "Tocsin/Journal/Oldest"
JOURNAL_FIRST: Final = "Tocsin/Journal/First"
JOURNAL_ENTRY: Final = "Tocsin/Journal/Entry"
JOURNAL_COMMITTED: Final = "Tocsin/JournalCommitted"
ORDER: Final = "Tocsin/Order"
KNOWN_AS: Final = "Tocsin/KnownAs"
# Of a managed node: the version of its slice of the plant that is in force; and to it, a part of the next.
SLICE: Final = "Tocsin/Slice"
SLICE_PART: Final = "Tocsin/Slice/Part"
# Of a node, in its birth and when it changes: the state of the clock that stamps its readings. Times are UInt64, ms
# since 1970: there are hosts that cannot decode a DateTime, nor then the rest of the birth.
CLOCK_SYNCHRONISED: Final = "Tocsin/Clock/Synchronised"
CLOCK_SINCE: Final = "Tocsin/Clock/Since"
CLOCK_ERROR: Final = "Tocsin/Clock/Error"
CLOCK_STEP: Final = "Tocsin/Clock/Step"
# Of a device, with data that were stamped by a clock that nobody had set: since when it was so.
UNSYNCHRONISED: Final = "Tocsin/Clock/Unsynchronised"
REBIRTH: Final = "Node Control/Rebirth"
BD_SEQ: Final = "bdSeq"
QUALITY: Final = "Quality"
OPC_QUALITY: Final = "OpcQuality"
NS_PER_MS: Final = 1_000_000
# Protobuf: field 1, a varint; of 10 bytes at most, each but the last with its highest bit set.
TIMESTAMP_TAG: Final = b"\x08"
VARINT_BYTES: Final = 11
VARINT_MORE: Final = 0x80

# Sparkplug 3.0, 6.4.14: the three values that the property Quality may have.
QUALITY_BAD: Final = 0
QUALITY_GOOD: Final = 192
QUALITY_STALE: Final = 500


NO_PROPERTIES: Final[Mapping[str, Payload.PropertyValue]] = {}


class PayloadError(ValueError):
    """Bytes that are not a Sparkplug payload."""


class DataType(IntEnum):
    """Sparkplug data types that hold one number (Sparkplug 3.0, 6.4.16), String and Bytes."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    BYTES = 17


SIGNED_BITS: Final = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
INTEGERS: Final = frozenset(range(DataType.INT8, DataType.UINT64 + 1))
FLOATS: Final = frozenset({DataType.FLOAT, DataType.DOUBLE})
NUMERIC: Final = frozenset(range(DataType.INT8, DataType.BOOLEAN + 1))


def parse(data: bytes) -> Payload:
    """Read the payload in `data`.

    Raises:
        PayloadError: the bytes are not protobuf of this shape.
    """
    payload = Payload()
    try:
        payload.ParseFromString(data)
    except DecodeError as error:
        raise PayloadError(str(error)) from error
    return payload


def sent_ms(data: bytes) -> int | None:
    """When the payload in `data` says that it was sent (ms since 1970); None where that is not its first field.

    The field of the lowest number comes first where an encoder writes them in order, as all that are known do; looked
    at by itself so that nobody has to read the rest twice.
    """
    if data[:1] != TIMESTAMP_TAG:
        return None
    number = 0
    for place, byte in enumerate(data[1:VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < VARINT_MORE:
            return number
    return None


def text(message: Payload.Metric | Payload.PropertyValue, field: str) -> str | None:
    """Get the string in `field`, or None where its bytes are not UTF-8 (proto2 runtimes hand those on, or raise)."""
    try:
        value: object = getattr(message, field)
    except (UnicodeDecodeError, DecodeError):
        return None
    return value if isinstance(value, str) else None


def number(metric: Payload.Metric, datatype: int) -> float | None:
    """Get the metric's value as a float, or None where the field that is set does not belong to `datatype`.

    Signed integers travel as two's complement in an unsigned field. Either width of field is taken for either width of
    type, because encoders differ there (Tahu writes UInt32 into long_value).
    """
    field = metric.WhichOneof("value")
    if datatype in INTEGERS:
        if field == "int_value":
            raw = metric.int_value
        elif field == "long_value":
            raw = metric.long_value
        else:
            return None
        bits = SIGNED_BITS.get(DataType(datatype))
        if bits is not None:
            raw &= (1 << bits) - 1
            raw -= (raw >> (bits - 1)) << bits
        return float(raw)
    if datatype in FLOATS:
        if field == "double_value":
            return metric.double_value
        return metric.float_value if field == "float_value" else None
    if datatype == DataType.BOOLEAN and field == "boolean_value":
        return float(metric.boolean_value)
    return None


def guess_type(metric: Payload.Metric) -> int | None:
    """Name the data type that the set field shows by itself; integers do not show their sign."""
    return {
        "float_value": DataType.FLOAT,
        "double_value": DataType.DOUBLE,
        "boolean_value": DataType.BOOLEAN,
        "string_value": DataType.STRING,
    }.get(metric.WhichOneof("value") or "")


def _integer(value: Payload.PropertyValue) -> int | None:
    field = value.WhichOneof("value")
    if value.is_null or field not in ("int_value", "long_value"):
        return None
    return value.int_value if field == "int_value" else value.long_value


Properties = Mapping[str, Payload.PropertyValue]


def properties(metric: Payload.Metric) -> Properties:
    """Get the metric's properties by name; a key without a value is left out."""
    if not metric.HasField("properties"):
        return NO_PROPERTIES
    held = metric.properties
    keys: list[object] = list(held.keys)
    return {key: value for key, value in zip(keys, held.values, strict=False) if isinstance(key, str)}


def quality(known: Properties) -> int:
    """Tell the OPC quality byte of a metric by its properties: `OpcQuality` if given, else `Quality`, else good.

    Sparkplug's STALE (500) becomes "uncertain: last usable value"; some senders put the OPC byte itself into `Quality`.
    A code that nobody knows counts as bad.
    """
    exact = _integer(known[OPC_QUALITY]) if OPC_QUALITY in known else None
    if exact is not None:
        return exact if 0 <= exact <= 0xFF else readings.BAD  # noqa: PLR2004 - one byte
    if QUALITY not in known:
        return readings.GOOD
    coarse = _integer(known[QUALITY])
    if coarse == QUALITY_STALE:
        return readings.UNCERTAIN_LAST_USABLE
    return coarse if coarse is not None and 0 <= coarse <= 0xFF else readings.BAD  # noqa: PLR2004 - one byte


def put_reading(metric: Payload.Metric, value: float, opc: int) -> None:
    """Write a value (Double) and its OPC quality byte into `metric`: bad is null, and plain good needs no property."""
    bad = (opc & readings.QUALITY_MASK) not in (readings.GOOD, readings.UNCERTAIN)
    if bad or not math.isfinite(value):
        metric.is_null = True
    else:
        metric.double_value = value
    if opc == readings.GOOD:
        return
    good = (opc & readings.QUALITY_MASK) == readings.GOOD
    put_property(metric, QUALITY, QUALITY_BAD if bad else QUALITY_GOOD if good else QUALITY_STALE)
    put_property(metric, OPC_QUALITY, opc)


def put_property(metric: Payload.Metric, key: str, value: float | str) -> None:
    """Add one property: an int as Int32, a float as Double, a text as String."""
    metric.properties.keys.append(key)
    entry = metric.properties.values.add()
    if isinstance(value, str):
        entry.type, entry.string_value = DataType.STRING, value
    elif isinstance(value, int):
        entry.type, entry.int_value = DataType.INT32, value
    else:
        entry.type, entry.double_value = DataType.DOUBLE, value


def put_number(payload: Payload, name: str, value: int, now_ms: int) -> None:
    """Add a metric UInt64."""
    payload.metrics.add(name=name, timestamp=now_ms, datatype=DataType.UINT64, long_value=value)


def put_bytes(payload: Payload, name: str, value: bytes, now_ms: int) -> None:
    """Add a metric Bytes."""
    payload.metrics.add(name=name, timestamp=now_ms, datatype=DataType.BYTES, bytes_value=value)


@dataclass(frozen=True, slots=True)
class Command:
    """What an NCMD asks of a gateway of ours.

    `orders` are bodies for `tocsin_core.journal.decode_order`, in order, `known_as` for `decode_naming` there;
    `slice_parts` for `managed.Assembly`.
    """

    rebirth: bool = False
    committed: int | None = None
    journal_committed: int | None = None
    orders: tuple[bytes, ...] = ()
    known_as: tuple[bytes, ...] = ()
    slice_parts: tuple[bytes, ...] = ()


def rebirth(now_ms: int) -> bytes:
    """Payload of an NCMD that asks an edge node for its births."""
    payload = Payload(timestamp=now_ms)
    payload.metrics.add(name=REBIRTH, timestamp=now_ms, datatype=DataType.BOOLEAN, boolean_value=True)
    return payload.SerializeToString()


def committed(batch: int, now_ms: int) -> bytes:
    """Payload of an NCMD that says that the database holds all batches up to number `batch`."""
    payload = Payload(timestamp=now_ms)
    put_number(payload, COMMITTED, batch, now_ms)
    return payload.SerializeToString()


def journal_committed(number: int, now_ms: int, known_as: Iterable[bytes] = ()) -> bytes:
    """Payload of an NCMD that says that the database holds what came of all journal entries up to `number`.

    `known_as` are bodies that tell under which onsets occurrences of the gateway are known there.
    """
    payload = Payload(timestamp=now_ms)
    put_number(payload, JOURNAL_COMMITTED, number, now_ms)
    for body in known_as:
        put_bytes(payload, KNOWN_AS, body, now_ms)
    return payload.SerializeToString()


def orders(bodies: Iterable[bytes], now_ms: int) -> bytes:
    """Payload of an NCMD that brings a gateway people's orders, oldest first."""
    payload = Payload(timestamp=now_ms)
    for body in bodies:
        put_bytes(payload, ORDER, body, now_ms)
    return payload.SerializeToString()


def slice_part(part: bytes, now_ms: int) -> bytes:
    """Payload of an NCMD that brings a gateway one part of its slice of the plant, sealed by `managed.seal`."""
    payload = Payload(timestamp=now_ms)
    put_bytes(payload, SLICE_PART, part, now_ms)
    return payload.SerializeToString()


def parse_command(data: bytes) -> Command:
    """Read what the NCMD payload `data` asks; metrics that are not ours are left alone.

    Raises:
        PayloadError: the bytes are not a Sparkplug payload.
    """
    again = False
    bodies: dict[str, list[bytes]] = {ORDER: [], KNOWN_AS: [], SLICE_PART: []}
    said: dict[str, int] = {}
    for metric in parse(data).metrics:
        name = text(metric, "name")
        if name == REBIRTH:
            again = metric.boolean_value
        elif name in (COMMITTED, JOURNAL_COMMITTED):
            if number(metric, DataType.UINT64) is not None:
                said[name] = metric.long_value or metric.int_value
        elif name in bodies:
            bodies[name].append(metric.bytes_value)
    return Command(
        again,
        said.get(COMMITTED),
        said.get(JOURNAL_COMMITTED),
        tuple(bodies[ORDER]),
        tuple(bodies[KNOWN_AS]),
        tuple(bodies[SLICE_PART]),
    )
