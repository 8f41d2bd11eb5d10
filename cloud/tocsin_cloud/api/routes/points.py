"""Routes of the points: what they are, what they read now, and what they read before."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import AwareDatetime

from tocsin_cloud.adapters.history import HOUR, MINUTE, HistoryError, Trend
from tocsin_cloud.api import model
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.listed import POINTS, joined
from tocsin_cloud.api.present import unsynchronised
from tocsin_cloud.api.problem import documented, refusal
from tocsin_cloud.api.security import Reader
from tocsin_core.readings import F64, I64

router = APIRouter(tags=["points"])

MOST_ROWS: Final = 20_000
PORTION: Final = 2_000
SHORTEST_STEP_S: Final = 0.001
NO_HISTORY: Final = "The database of readings does not answer."

Step = Annotated[
    float | None,
    Query(
        ge=SHORTEST_STEP_S,
        le=366 * 86400,
        allow_inf_nan=False,
        description="Seconds of one row; the samples themselves if left out. With whole minutes or hours `start` is "
        "taken down to the whole minute or hour, where what is kept for long trends begins.",
    ),
]


@router.get("/points", response_model=list[model.Point])
async def points(_account: Reader, api: Context) -> Response:
    """Every point with its latest reading."""
    now_ns = api.ports.clock.now_ns()
    latest = await api.ports.live.latest()
    # Of a large plant that takes seconds, and others are to be answered and heard meanwhile.
    return await asyncio.to_thread(lambda: _as_json(api.points.all(latest, now_ns)))


def _as_json(rows: list[model.Point]) -> Response:
    # While a portion is made, no other thread has its turn.
    return joined(POINTS.dump_json(rows[first : first + PORTION]) for first in range(0, len(rows), PORTION))


# An undeclared point has slashes in its id, so the longer address comes first.
@router.get(
    "/points/{point:path}/readings",
    response_model=model.Readings,
    responses=documented(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE),
)
async def readings(
    point: str, _account: Reader, api: Context, start: AwareDatetime, end: AwareDatetime, step: Step = None
) -> StreamingResponse:
    """Stored readings in [start, end), at most 20000 rows: a range that holds more is refused, never cut short."""
    found = api.points.bare(point, api.ports.live.undeclared())
    if found is None:
        raise refusal(HTTPStatus.NOT_FOUND, f"There is no point {point!r}.")
    start_ns, end_ns = model.nanoseconds(start), model.nanoseconds(end)
    if end_ns <= start_ns:
        raise refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "query.end: must be after start")
    step_ns = None if step is None else round(step * 1e9)
    start_ns -= start_ns % _unit(step_ns)
    too_many = f"This range holds more than {MOST_ROWS} rows; ask for a longer step or a shorter range."
    if step_ns is not None and math.ceil((end_ns - start_ns) / step_ns) > MOST_ROWS:
        raise refusal(HTTPStatus.UNPROCESSABLE_ENTITY, too_many)
    try:
        trend = await api.ports.history.read(point, start_ns, end_ns, step_ns, MOST_ROWS + 1)
    except HistoryError as error:
        raise refusal(HTTPStatus.SERVICE_UNAVAILABLE, NO_HISTORY) from error
    # A step that only begins inside the range counts as one row more than the division says.
    if len(trend.time_ns) > MOST_ROWS + (step_ns is not None):
        raise refusal(HTTPStatus.UNPROCESSABLE_ENTITY, too_many)
    head = {
        "point": point,
        "unit": found.unit,
        "start": model.rfc3339(start_ns),
        "end": model.rfc3339(end_ns),
        "step_s": step,
    }
    doubts = [each.model_dump() for each in unsynchronised(api.ports.live, found.gateway, start_ns, end_ns)]
    return StreamingResponse(_in_turns(_json(head, trend, doubts)), media_type="application/json")


@router.get("/points/{point:path}", responses=documented(HTTPStatus.NOT_FOUND))
async def point(point: str, _account: Reader, api: Context) -> model.PointInFull:
    """One point with its latest reading and its projection."""
    live, now_ns = api.ports.live, api.ports.clock.now_ns()
    found = api.points.one(point, live, await live.latest(), now_ns)
    if found is None:
        raise refusal(HTTPStatus.NOT_FOUND, f"There is no point {point!r}.")
    return found


def _unit(step_ns: int | None) -> int:
    """What the start of a trend by steps is a multiple of: a year of hours is else made of every reading in it."""
    return next((unit for unit in (HOUR, MINUTE) if step_ns is not None and step_ns % unit == 0), 1)


async def _in_turns(pieces: Iterator[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece
        # Others are served between two portions of a long answer.
        await asyncio.sleep(0)


def _json(head: Mapping[str, object], trend: Trend, doubts: list[dict[str, Any]]) -> Iterator[str]:
    yield json.dumps(head, ensure_ascii=False)[:-1]
    yield from _column("time", len(trend.time_ns), lambda rows: _times(trend.time_ns[rows]))
    yield from _column("value", len(trend.mean), lambda rows: _numbers(trend.mean[rows]))
    yield from _column("min", len(trend.low), lambda rows: _numbers(trend.low[rows]))
    yield from _column("max", len(trend.high), lambda rows: _numbers(trend.high[rows]))
    yield from _column("quality", len(trend.quality), lambda rows: trend.quality[rows].tolist())
    yield f', "unsynchronised": {json.dumps(doubts)}}}'


def _column(key: str, length: int, values: Callable[[slice], list[Any]]) -> Iterator[str]:
    yield f', "{key}": ['
    for begin in range(0, length, PORTION):
        yield (", " if begin else "") + json.dumps(values(slice(begin, begin + PORTION)))[1:-1]
    yield "]"


def _times(time_ns: I64) -> list[Any]:
    # numpy rounds down to the unit, as `rfc3339` does.
    stamps = np.datetime_as_string(time_ns.astype("datetime64[ns]").astype("datetime64[ms]"), timezone="UTC")
    return list(stamps.tolist())


def _numbers(values: F64) -> list[Any]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
