"""Routes for machines that watch the process: alive, ready, metrics; and the description of the interface."""

import asyncio
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import select

from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.api import model, model_health
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.growth import samples_of
from tocsin_cloud.api.health import instruments_since, report
from tocsin_cloud.api.health_seen import see
from tocsin_cloud.api.ports import Latest, ReadingsUnknownError
from tocsin_cloud.api.problem import AGAIN, AWAY
from tocsin_cloud.api.security import Reader

probes = APIRouter(tags=["health"])
described = APIRouter(tags=["health"])

# Who asks whether we are ready does not wait for long.
ASKED_S: Final = 2.0


@probes.get("/healthz")
async def healthz() -> model.Health:
    """The process answers."""
    return model.Health(status="ok")


@probes.get("/readyz", responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": model.Health}})
async def readyz(api: Context) -> JSONResponse:
    """Whether the process can do its work: 200, or 503 with the reason; the database is asked too."""
    reason = api.ports.ready() or await _database_missing(api.ports.database)
    health = model.Health(status="ok" if reason is None else "not ready", reason=reason)
    if reason is None:
        return JSONResponse(health.model_dump())
    return JSONResponse(health.model_dump(), HTTPStatus.SERVICE_UNAVAILABLE, AGAIN)


async def _database_missing(database: Database) -> str | None:
    try:
        async with asyncio.timeout(ASKED_S), database.read() as session:
            await session.execute(select(1))
    except (DatabaseAwayError, TimeoutError):
        return AWAY
    return None


@probes.get("/metrics", response_class=Response)
async def metrics(api: Context) -> Response:
    """The process's figures in the Prometheus text format."""
    return Response(generate_latest(api.ports.metrics), media_type=CONTENT_TYPE_LATEST)


@described.get("/health")
async def health(_account: Reader, api: Context) -> model_health.HealthReport:
    """Whether the plant is being watched, and what is not: which gateways, points and roles, and since when."""
    since = await instruments_since(api.ports.database)
    try:
        latest = await api.ports.live.latest()
    except ReadingsUnknownError:
        # That belongs to what is asked here.
        latest = Latest.unknown(len(api.ports.plant.points))
    # The figures of workers in other processes come as text, which takes a moment to read.
    samples = await asyncio.to_thread(samples_of, api.ports.metrics)
    api.growth.look(samples, api.ports.clock.monotonic())
    seen = await asyncio.to_thread(see, api.ports, latest, api.points.allowed_ns, since, samples, api.growth)
    return report(seen, api.started_ns)


@described.get("/openapi.json")
async def openapi(_account: Reader, request: Request) -> dict[str, Any]:
    """The description of this interface (OpenAPI 3.1)."""
    description: dict[str, Any] = request.app.openapi()
    return description
