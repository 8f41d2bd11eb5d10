"""What the interface's address answers while there are no tables to show anything of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tocsin_cloud.api import model
from tocsin_cloud.api.problem import AGAIN, WAITS, problem
from tocsin_cloud.api.server import serving
from tocsin_cloud.settings import Address


async def _healthz(_request: Request) -> JSONResponse:
    return JSONResponse(model.Health(status="ok").model_dump())


async def _readyz(_request: Request) -> JSONResponse:
    health = model.Health(status="not ready", reason=WAITS)
    return JSONResponse(health.model_dump(), HTTPStatus.SERVICE_UNAVAILABLE, AGAIN)


async def _other(_request: Request) -> JSONResponse:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, WAITS, AGAIN)


@asynccontextmanager
async def saying_so(address: Address) -> AsyncIterator[None]:
    """Answer at `address` that the database is waited for, while the context lasts.

    Raises:
        OSError: the address cannot be listened on.
    """
    others = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    routes = [Route("/healthz", _healthz), Route("/readyz", _readyz), Route("/{path:path}", _other, methods=others)]
    async with serving(Starlette(routes=routes), *address):
        yield
