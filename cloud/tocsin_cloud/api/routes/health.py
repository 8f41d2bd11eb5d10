"""Routes for machines that watch the process: alive, ready, metrics; and the description of the interface."""

import asyncio
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tocsin_cloud.api import model, model_health
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.health import instruments_since, report, see
from tocsin_cloud.api.security import Reader

probes = APIRouter(tags=["health"])
described = APIRouter(tags=["health"])


@probes.get("/healthz")
async def healthz() -> model.Health:
    """The process answers."""
    return model.Health(status="ok")


@probes.get("/readyz", responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": model.Health}})
async def readyz(api: Context) -> JSONResponse:
    """Whether the process can do its work: 200, or 503 with the reason."""
    reason = api.ports.ready()
    health = model.Health(status="ok" if reason is None else "not ready", reason=reason)
    return JSONResponse(health.model_dump(), HTTPStatus.OK if reason is None else HTTPStatus.SERVICE_UNAVAILABLE)


@probes.get("/metrics", response_class=Response)
async def metrics(api: Context) -> Response:
    """The process's figures in the Prometheus text format."""
    return Response(generate_latest(api.ports.metrics), media_type=CONTENT_TYPE_LATEST)


@described.get("/health")
async def health(_account: Reader, api: Context) -> model_health.HealthReport:
    """Whether the plant is being watched, and what is not: which gateways, points and roles, and since when."""
    since = await instruments_since(api.ports.database)
    # The figures of workers in other processes come as text, which takes a moment to read.
    seen = await asyncio.to_thread(see, api.ports, api.points.allowed_ns, since)
    return report(seen, api.started_ns)


@described.get("/openapi.json")
async def openapi(_account: Reader, request: Request) -> dict[str, Any]:
    """The description of this interface (OpenAPI 3.1)."""
    description: dict[str, Any] = request.app.openapi()
    return description
