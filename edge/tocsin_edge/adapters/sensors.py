"""MQTT sensors: the subscription to their topics, and a JSON payload turned into columns, quality and reason."""

import json
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import aiomqtt
import numpy as np

from tocsin_core.plant.model import Broker
from tocsin_core.readings import (
    BAD_CONFIGURATION,
    BAD_DEVICE_FAILURE,
    BAD_SENSOR_FAILURE,
    EARLIEST_NS,
    F64,
    GOOD,
    LATEST_NS,
    U8,
)

NS_PER_MS: Final = 1_000_000
MS_PER_S: Final = 1000
LARGEST_PAYLOAD: Final = 65_536
# Epoch numbers below this are seconds: as milliseconds they would lie in 1970.
FIRST_MS: Final = 100_000_000_000
FUTURE_MS: Final = 86_400_000
CONNECT_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Parsed:
    """One payload: a value and a quality for each field, its own time (None: none or absurd), and what is wrong."""

    value: F64
    quality: U8
    time_ms: int | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message of a sensor; `retained` ones are old, nobody knows how old."""

    topic: str
    payload: bytes
    retained: bool


async def arrivals(broker: Broker, topics: Sequence[str]) -> AsyncIterator[Arrival]:
    """Yield the messages on `topics` until the connection ends.

    Raises:
        aiomqtt.MqttError: the broker cannot be reached, or is gone.
    """
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username,
        password=broker.password,
        timeout=CONNECT_TIMEOUT_S,
        keepalive=15,
    )
    async with client:
        for topic in topics:
            await client.subscribe(topic, qos=1)
        async for message in client.messages:
            yield Arrival(str(message.topic), message.payload, retained=message.retain)


def parse(payload: bytes, fields: Sequence[str], time_field: str | None, now_ms: int) -> Parsed:
    """Read `fields` (dotted paths, "" for the payload itself) and the time out of a JSON payload.

    What is missing or is no number is bad, with the reason; nothing is made up for it.
    """
    if len(payload) > LARGEST_PAYLOAD:
        return _useless(len(fields), f"payload of {len(payload)} bytes")
    try:
        content: object = json.loads(payload)
    except (ValueError, RecursionError) as error:
        return _useless(len(fields), f"not JSON: {error}")
    value = np.full(len(fields), np.nan)
    quality = np.full(len(fields), GOOD, dtype=np.uint8)
    reasons = []
    for index, path in enumerate(fields):
        number, bad, reason = _number(_find(content, path), path)
        value[index] = number
        if reason:
            quality[index] = bad
            reasons.append(reason)
    time_ms = None
    if time_field is not None:
        time_ms = _time_ms(_find(content, time_field), now_ms)
        if time_ms is None:
            reasons.append(f"no usable time at {time_field!r}; its arrival is taken")
    return Parsed(value, quality, time_ms, tuple(reasons))


def _useless(n: int, reason: str) -> Parsed:
    return Parsed(np.full(n, np.nan), np.full(n, BAD_DEVICE_FAILURE, dtype=np.uint8), None, (reason,))


_MISSING: Final = object()


def _find(content: object, path: str) -> object:
    for key in path.split(".") if path else ():
        if isinstance(content, dict):
            content = content.get(key, _MISSING)
        elif isinstance(content, list) and key.isdecimal() and int(key) < len(content):
            content = content[int(key)]
        else:
            return _MISSING
    return content


def _number(found: object, path: str) -> tuple[float, int, str]:
    if found is _MISSING:
        return math.nan, BAD_CONFIGURATION, f"nothing at {path!r}"
    if found is None:
        return math.nan, BAD_SENSOR_FAILURE, f"null at {path!r}"
    if not isinstance(found, int | float):
        return math.nan, BAD_CONFIGURATION, f"no number at {path!r}"
    try:
        number = float(found)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        return math.nan, BAD_SENSOR_FAILURE, f"not finite at {path!r}"
    return number, GOOD, ""


def _time_ms(found: object, now_ms: int) -> int | None:
    if isinstance(found, str):
        try:
            stamp = datetime.fromisoformat(found)
        except ValueError:
            return None
        if stamp.tzinfo is None:
            return None
        time_ms = round(stamp.timestamp() * MS_PER_S)
    elif isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
        time_ms = int(found if abs(found) >= FIRST_MS else found * MS_PER_S)
    else:
        return None
    fits = EARLIEST_NS <= time_ms * NS_PER_MS < LATEST_NS and time_ms <= now_ms + FUTURE_MS
    return time_ms if fits else None
