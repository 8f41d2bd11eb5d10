"""The simulated gateways of the pipeline benchmark: a process that sends Sparkplug messages over MQTT on time."""

import asyncio
import json
import sys
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin_cli.bench.pipeline_plant import DEVICE, GATEWAY_POINTS, SITE, Course, gateway_id, point_id
from tocsin_core.clock import Clock, SystemClock
from tocsin_core.readings import F64, GOOD
from tocsin_core.sparkplug import EdgeDevice, EdgeMetric, EdgeSession
from tocsin_core.sparkplug.edge import SEQ_MODULUS, Columns, Message
from tocsin_core.sparkplug.payload import BATCH, put_number
from tocsin_core.sparkplug.sparkplug_b_pb2 import Payload
from tocsin_core.sparkplug.topics import Topic

HOST: Final = "127.0.0.1"
# The births of all gateways are spread over this many seconds before the first second of data.
BIRTHS_S: Final = 3
# Before it is known when it begins, a message holds these: nothing else in it looks the same.
_TIME_MS: Final = 0x1A2B3C4D5E6
_VALUE: Final = 1.2345678901234567e-200


class Encoder:
    """The data messages of one gateway: byte for byte those of `EdgeSession`, of which only one was asked.

    What changes from second to second (times, values, numbers) is written into a copy of it.
    """

    def __init__(self, gateway: int) -> None:
        """Make the model of all messages."""
        first = gateway * GATEWAY_POINTS
        metrics = tuple(EdgeMetric(point_id(first + n), "kPa", 0.0, 100.0) for n in range(GATEWAY_POINTS))
        self._session = EdgeSession(SITE, gateway_id(gateway), [EdgeDevice(DEVICE, metrics)])
        model = self._session.ddata(DEVICE, columns(_TIME_MS, np.full(GATEWAY_POINTS, _VALUE)), 0, 0, historical=False)
        self.topic = model.topic
        head, tail = _head(0, 0), _tail(0)
        body = model.payload[len(head) : -len(tail)]
        if head + body + tail != model.payload:
            raise AssertionError("a message is no longer its head, its readings and its tail")
        self._body = body
        self._times = _places(body, _varint(_TIME_MS))
        self._values = _places(body, np.float64(_VALUE).tobytes())

    def births(self, now_ms: int, values: F64) -> list[Message]:
        """Begin the session: the node's birth and the device's, with the readings of that moment."""
        node = self._session.nbirth(0, 1, now_ms)
        return [node, self._session.dbirth(DEVICE, columns(now_ms, values), 0, now_ms)]

    def data(self, number: int, time_ms: int, values: F64) -> bytes:
        """The payload of data message `number` (the first after the births is 1), all readings of `time_ms`."""
        body = bytearray(self._body)
        _write(body, self._times, np.full(GATEWAY_POINTS, np.void(_varint(time_ms))))
        _write(body, self._values, values)
        # Births have seq 0 and 1.
        return b"".join((_head(number, time_ms), body, _tail((number + 1) % SEQ_MODULUS)))


def columns(time_ms: int, values: F64) -> Columns:
    """A good reading of each metric."""
    n = len(values)
    return Columns(np.arange(n), np.full(n, time_ms), values, np.full(n, GOOD, np.uint8))


def _head(batch: int, now_ms: int) -> bytes:
    payload = Payload(timestamp=now_ms)
    put_number(payload, BATCH, batch, now_ms)
    return payload.SerializeToString()


def _tail(seq: int) -> bytes:
    return Payload(seq=seq).SerializeToString()


def _varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:  # noqa: PLR2004 -- seven bits a byte
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


class _Run(NamedTuple):
    """Metrics that stand at even distances: from which one on, before which one, where the first is, and how far on."""

    first: int
    end: int
    begin: int
    stride: int


def _write(body: bytearray, runs: list[_Run], items: NDArray[Any]) -> None:
    """Put the bytes of `items`, one for each metric, into `body`."""
    for run in runs:
        there = np.ndarray(run.end - run.first, items.dtype, body, run.begin, (run.stride,))
        there[:] = items[run.first : run.end]


def _places(body: bytes, what: bytes) -> list[_Run]:
    """Where `what` stands in `body`, once for each metric."""
    found, at = [], body.find(what)
    while at >= 0:
        found.append(at)
        at = body.find(what, at + len(what))
    if len(found) != GATEWAY_POINTS:
        raise AssertionError(f"{len(found)} places for {GATEWAY_POINTS} metrics")
    strides = np.diff(found)
    firsts = [0, *(np.flatnonzero(strides[1:] != strides[:-1]) + 1).tolist(), GATEWAY_POINTS - 1]
    return [
        _Run(first, end + (end == GATEWAY_POINTS - 1), found[first], int(strides[first]))
        for first, end in pairwise(firsts)
    ]


def _packet(kind: int, body: bytes) -> bytes:
    """An MQTT control packet (MQTT 3.1.1, 2.2)."""
    return bytes([kind]) + _varint(len(body)) + body


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2, "big") + text.encode()


class Link(asyncio.Protocol):
    """One gateway's MQTT connection: it subscribes to its commands and publishes with QoS 0, as our gateways do."""

    def __init__(self, name: str) -> None:
        """Call itself `name`."""
        self._name = name
        self._transport: asyncio.Transport | None = None
        self.welcomed = asyncio.Event()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sign in: a clean session without keep-alive (MQTT 3.1.1, 3.1)."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- that of a TCP connection is
        self._transport = transport
        transport.write(_packet(0x10, _text("MQTT") + b"\x04\x02\x00\x00" + _text(self._name)))
        commands = str(Topic(SITE, "NCMD", self._name))
        transport.write(_packet(0x82, b"\x00\x01" + _text(commands) + b"\x00"))

    def data_received(self, data: bytes) -> None:
        """Take in the answers and the acknowledgements; `pipeline` reads them elsewhere."""
        del data
        self.welcomed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it: the server does so with who is too slow."""
        del exc
        self.lost = True

    def publish(self, topic: str, payload: bytes) -> None:
        """Send one message."""
        if self._transport is not None:
            self._transport.write(_packet(0x30, _text(topic) + payload))

    def close(self) -> None:
        """Send what is left and hang up."""
        if self._transport is not None:
            self._transport.close()


async def _until(time_ms: float, clock: Clock) -> None:
    left = time_ms / 1e3 - clock.now_ns() / 1e9
    await asyncio.sleep(max(0.0, left))


async def _send(course: Course, encoders: list[Encoder], links: list[Link], clock: Clock) -> dict[str, object]:
    for number, (encoder, link) in enumerate(zip(encoders, links, strict=True)):
        at_ms = course.begin_ms - BIRTHS_S * 1000 + BIRTHS_S * 1000 * number // course.gateways
        await _until(at_ms, clock)
        for message in encoder.births(at_ms, course.values(number, 0)):
            link.publish(message.topic, message.payload)
    late_ms: list[float] = []
    for second in range(course.warm_s + course.seconds):
        for number, (encoder, link) in enumerate(zip(encoders, links, strict=True)):
            due_ms = course.due_ms(number, second)
            payload = encoder.data(second + 1, due_ms, course.values(number, second))
            await _until(due_ms, clock)
            link.publish(encoder.topic, payload)
            if second >= course.warm_s:
                late_ms.append(clock.now_ns() / 1e6 - due_ms)
    return {
        "sent": len(late_ms) * GATEWAY_POINTS,
        "late_p99_ms": float(np.percentile(late_ms, 99)),
        "lost_links": sum(link.lost for link in links),
    }


async def _run(gateways: int, mqtt: int) -> None:
    clock, loop = SystemClock(), asyncio.get_running_loop()
    encoders = [Encoder(number) for number in range(gateways)]
    links: list[Link] = []
    for number in range(gateways):
        _, link = await loop.create_connection(lambda number=number: Link(gateway_id(number)), HOST, mqtt)  # type: ignore[misc]
        await link.welcomed.wait()
        links.append(link)
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    told = json.loads(await asyncio.to_thread(sys.stdin.readline))
    course = Course.of(gateways, told["warm_s"], told["seconds"], told["begin_ms"])
    found = await _send(course.flooded() if told["flood"] else course, encoders, links, clock)
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    # Until its end is asked for: a gateway that leaves dies, and its points with it.
    await asyncio.to_thread(sys.stdin.readline)
    for link in links:
        link.close()


def main() -> None:
    """Be so many gateways (argv 1) on the MQTT port (argv 2); when they begin is told by standard input."""
    asyncio.run(_run(int(sys.argv[1]), int(sys.argv[2])))
