"""What a stranger, a broken gateway or one in the wrong hands may send: topics and bodies for hypothesis to choose."""

import json
from typing import Any, Final

from hypothesis import strategies as st

from tocsin_core.journal import Entry, encode
from tocsin_core.lifecycle import Event, Phase
from tocsin_core.sparkplug import payload as codec
from tocsin_core.sparkplug.payload import DataType
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload

NOW_NS: Final = 1_790_000_000_000_000_000
NOW_MS: Final = NOW_NS // 1_000_000
KINDS: Final = ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH", "NCMD", "DCMD", "STATE")
ALARMS: Final = ("P1/H", "V1/H", "X1/H", "P1/HH", "", "nobody/H")
U64: Final = st.one_of(
    st.sampled_from([0, 1, 2, NOW_MS, NOW_MS - 1, NOW_MS + 86_400_000, 2**31, 2**63 - 1, 2**63, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
    st.integers(NOW_MS - 1000, NOW_MS + 1000),
)
U32: Final = st.one_of(st.sampled_from([0, 1, 192, 500, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))
# Text that SQL, JSON, a log or a file name may stumble over; a giant now and then.
TEXT: Final = st.one_of(
    st.sampled_from(["", "\0", "\u2028", "😀", "../../x", "'; --", "NaN", "null"]),
    st.text(max_size=20),
    st.just(100_000).map("x".__mul__),
)
LEVEL: Final = st.one_of(
    st.sampled_from(["site", "gw", "theirs", "D1", "plc", "a*b", "$x", ".."]),
    st.just(2000).map("x".__mul__),
    st.text(st.characters(exclude_characters="/+#\0", codec="utf-8"), min_size=1, max_size=8),
)
JSON: Final = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.just("\ud800")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


def _keys(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={key: st.one_of(value, JSON) for key, value in known.items()})


def _written(told: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    # Lone surrogates and NaN are among them: JSON can write both.
    return told.map(lambda value: json.dumps(value).encode())


@st.composite
def mutated(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes in which some were changed, cut off, put in or repeated."""
    body = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        match draw(st.integers(0, 3)):
            case 0:
                body[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del body[at:]
            case 2:
                body[at:at] = draw(st.binary(max_size=6))
            case _:
                body += body[: at or 1]
    return bytes(body)


def standings() -> st.SearchStrategy[str]:
    """What a managed gateway says of its slice."""
    answer = st.one_of(st.none(), _keys(version=U64, outcome=st.just("applied"), reason=TEXT))
    return st.one_of(
        _keys(version=U64, hash=TEXT, answer=answer).map(json.dumps),
        st.just('{"version":Infinity,"hash":"","answer":null}'),
        st.just(20_000).map("[".__mul__),
    )


def entries() -> st.SearchStrategy[bytes]:
    """Bodies of journal entries: sound ones, and such in which a key has another value."""
    sound = st.builds(
        Entry,
        alarm=st.sampled_from(ALARMS),
        event=st.sampled_from(Event),
        time_ns=st.integers(0, NOW_NS),
        phase=st.sampled_from(Phase),
        onset_ns=st.one_of(st.just(0), st.integers(0, NOW_NS)),
        value=st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        until_ns=st.one_of(st.just(0), st.integers(0, NOW_NS)),
        once=st.booleans(),
        out_of_service=st.booleans(),
        suppressed=st.booleans(),
        who=st.text(max_size=5).filter(lambda text: "\0" not in text),
        command=st.sampled_from(["", "c1", "c2"]),
    ).map(encode)
    return st.one_of(sound, sound, mutated(sound))


VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "int_value": U32,
    "long_value": U64,
    "float_value": st.floats(width=32),
    "double_value": st.floats(),
    "boolean_value": st.booleans(),
    "string_value": st.one_of(TEXT, standings()),
    "bytes_value": st.one_of(st.binary(max_size=40), entries()),
}
# What our gateways say beside their readings, and in which field.
OWN: Final = {
    codec.BATCH: "long_value",
    codec.OLDEST: "long_value",
    codec.JOURNAL: "long_value",
    codec.JOURNAL_RULES: "bytes_value",
    codec.JOURNAL_OLDEST: "long_value",
    codec.JOURNAL_FIRST: "long_value",
    codec.JOURNAL_ENTRY: "bytes_value",
    codec.SLICE: "string_value",
    codec.CLOCK_SYNCHRONISED: "boolean_value",
    codec.CLOCK_SINCE: "long_value",
    codec.CLOCK_ERROR: "double_value",
    codec.CLOCK_STEP: "double_value",
    codec.UNSYNCHRONISED: "long_value",
    codec.BD_SEQ: "long_value",
    codec.REBIRTH: "boolean_value",
}
NAMES: Final = st.one_of(st.sampled_from(["P1", "P2", "V1", "tank/pressure", "D1/P1"]), st.sampled_from([*OWN]), TEXT)


@st.composite
def metrics(draw: st.DrawFn) -> Payload.Metric:
    """One metric: any type beside any value, with a name, an alias, both or neither."""
    metric = Payload.Metric()
    if draw(st.booleans()):
        metric.name = draw(NAMES)
    if draw(st.booleans()):
        metric.alias = draw(st.one_of(st.integers(0, 3), U64))
    if draw(st.booleans()):
        metric.datatype = draw(st.one_of(st.integers(0, 20), U32))
    if draw(st.booleans()):
        metric.timestamp = draw(U64)
    field = draw(st.sampled_from((*VALUES, None)))
    if field is not None:
        setattr(metric, field, draw(VALUES[field]))
    metric.is_null = draw(st.booleans()) and draw(st.booleans())
    metric.is_historical = draw(st.booleans())
    for key in draw(st.lists(st.sampled_from([codec.QUALITY, codec.OPC_QUALITY, "engUnit", "engLow", ""]), max_size=2)):
        metric.properties.keys.append(key)
        value = metric.properties.values.add(type=draw(U32))
        if draw(st.booleans()):
            value.int_value = draw(U32)
        else:
            value.string_value = draw(TEXT)
    return metric


@st.composite
def own(draw: st.DrawFn) -> Payload.Metric:
    """What only a gateway of ours says, in the right field."""
    name = draw(st.sampled_from([*OWN]))
    metric = Payload.Metric(name=name, timestamp=NOW_MS, datatype=DataType.UINT64)
    setattr(metric, OWN[name], draw(VALUES[OWN[name]]))
    return metric


@st.composite
def owns(draw: st.DrawFn) -> bytes:
    """A payload with nothing but what only a gateway of ours says."""
    payload = Payload(
        timestamp=NOW_MS, seq=draw(st.integers(0, 3)), metrics=draw(st.lists(own(), min_size=1, max_size=4))
    )
    return payload.SerializeToString()


@st.composite
def born(draw: st.DrawFn) -> bytes:
    """A payload of the real form: now and then one that a gateway of ours could have sent."""
    payload = Payload()
    if draw(st.booleans()):
        payload.timestamp = draw(U64)
    if draw(st.booleans()):
        payload.seq = draw(st.one_of(st.integers(0, 3), U64))
    if draw(st.booleans()):
        payload.metrics.add(name=codec.BD_SEQ, datatype=DataType.UINT64, long_value=draw(st.integers(0, 2)))
    for point, alias in (("P1", 1), ("P2", 2)):
        if draw(st.booleans()):
            time_ms, value = draw(st.one_of(st.just(NOW_MS), U64)), draw(st.floats())
            payload.metrics.add(name=point, alias=alias, datatype=10, timestamp=time_ms, double_value=value)
    payload.metrics.extend(draw(st.lists(st.one_of(metrics(), own()), max_size=4)))
    return payload.SerializeToString()


def nested(tag: int, depth: int) -> bytes:
    """A protobuf field within itself, so many times."""
    body = b""
    for _ in range(depth):
        body = bytes([tag]) + _varint(len(body)) + body
    return body


def crowd(count: int) -> bytes:
    """So many metrics, each of two bytes; the last of them says that it is longer than all there is."""
    return b"\x12\x00" * count + b"\x12" + _varint(2**31)


def _varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


PAYLOADS: Final = st.one_of(
    born(),
    born(),
    mutated(born()),
    st.binary(max_size=60),
    st.sampled_from([b"", b"\x12\x04\x0a\x02\xff\xfe"]),
    st.builds(nested, st.sampled_from([0x12, 0x4A]), st.just(150)),
    st.builds(crowd, st.just(5000)),
)
TOPICS: Final = st.one_of(
    st.builds(lambda kind, *levels: "/".join(("spBv1.0", "site", kind, *levels)), st.sampled_from(KINDS), LEVEL),
    st.builds("spBv1.0/site/{}/gw".format, st.sampled_from(("NBIRTH", "NDATA", "NDEATH", "NDATA"))),
    st.builds("spBv1.0/site/{}/gw/D1".format, st.sampled_from(("DBIRTH", "DDATA", "DDEATH", "DDATA"))),
    st.builds("/".join, st.lists(LEVEL, min_size=1, max_size=6)),
    st.builds("spBv1.0/{}/{}/{}/{}".format, LEVEL, st.sampled_from(KINDS), LEVEL, LEVEL),
)


COMMANDS: Final = st.one_of(
    _written(
        _keys(
            id=st.sampled_from(["c1", "c2", "x" * 80]),
            verb=st.sampled_from(["acknowledge", "shelve", "unshelve", "reset", "out-of-service", "suppress"]),
            alarm=st.sampled_from(ALARMS),
            who=TEXT,
            reason=TEXT,
            duration_s=st.one_of(st.integers(), st.floats()),
            once=st.booleans(),
            occurrence=TEXT,
        )
    ),
    st.binary(max_size=40),
    st.just(20_000).map(b'{"id":'.__mul__),
    st.just(5000).map(lambda zeros: b'{"id":"c","alarm":"P1/H","duration_s":1' + b"0" * zeros + b"}"),
)
COMPUTED: Final = st.one_of(
    _written(
        _keys(
            point=st.lists(st.one_of(st.just("V1"), JSON), max_size=3),
            time_ns=st.lists(st.one_of(st.integers(), JSON), max_size=3),
            value=st.lists(st.one_of(st.floats(), JSON), max_size=3),
            quality=st.lists(st.one_of(st.integers(0, 300), JSON), max_size=3),
        )
    ),
    st.binary(max_size=40),
    st.just(20_000).map(b"[".__mul__),
    st.just(b'{"point":["V1"],"time_ns":[1e400],"value":[1],"quality":[192]}'),
)


class Said:
    """A message of the stream; its body is shown as far as a person can read it."""

    def __init__(self, topic: str, body: bytes) -> None:
        """Say it."""
        self.topic = topic
        self.body = body

    def __repr__(self) -> str:
        return f"Said({self.topic[:200]!r}, {self.body[:400]!r}{'…' if len(self.body) > 400 else ''})"


def _said(topic: st.SearchStrategy[str], body: st.SearchStrategy[bytes]) -> st.SearchStrategy[Said]:
    return st.builds(Said, topic, body)


MESSAGES: Final = st.one_of(
    _said(TOPICS, PAYLOADS),
    _said(TOPICS, PAYLOADS),
    _said(st.sampled_from(["spBv1.0/site/NDATA/gw", "spBv1.0/site/NBIRTH/gw", "spBv1.0/site/DDATA/gw/D1"]), owns()),
    _said(st.just("spBv1.0/site/NDATA/gw"), owns()),
    _said(st.just("tocsin/command/site"), COMMANDS),
    _said(st.just("tocsin/computed/site"), COMPUTED),
    _said(st.just("tocsin/tick/site"), st.just(b"")),
)
