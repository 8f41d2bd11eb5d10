"""Builds the HTTP interface from its ports: routes, errors, sign-in, event streams, the console page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from fastapi import Depends, FastAPI
from fastapi.telemetry import TelemetryConfig
from prometheus_client import Counter, Gauge
from starlette.types import Lifespan

from tocsin_cloud.adapters.accounts import Accounts
from tocsin_cloud.adapters.users import Users
from tocsin_cloud.api import problem
from tocsin_cloud.api.brake import Brake
from tocsin_cloud.api.console import Console, built, not_built
from tocsin_cloud.api.context import Api
from tocsin_cloud.api.growth import Growth
from tocsin_cloud.api.guard import Guard
from tocsin_cloud.api.hub import Hub
from tocsin_cloud.api.ports import ApiPorts
from tocsin_cloud.api.present import Points
from tocsin_cloud.api.query import known_query
from tocsin_cloud.api.recorder import Recorder
from tocsin_cloud.api.routes import (
    alarms,
    audit,
    events,
    gateways,
    health,
    kpi,
    notifications,
    plant,
    points,
    quarantine,
    session,
    tickets,
    users,
)
from tocsin_cloud.api.security import COOKIE
from tocsin_cloud.api.watch import watching

PREFIX: Final = "/api/v1"
MAX_BODY: Final = 64 * 1024
NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
RESOURCES: Final = (
    session,
    users,
    plant,
    points,
    alarms,
    tickets,
    notifications,
    gateways,
    kpi,
    quarantine,
    audit,
    events,
)
KNOWN_QUERY: Final = (Depends(known_query),)


COMMON_PROBLEMS: Final = problem.documented(
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


class Interface(FastAPI):
    """The routes with their description, over nothing yet."""

    def __init__(self, lifespan: Lifespan[FastAPI] | None = None) -> None:
        """Put every resource under /api/v1 and the probes beside it."""
        super().__init__(
            title="Tocsin",
            summary="Early warning for major hazard sources.",
            version=version("tocsin"),
            openapi_url=None,
            redirect_slashes=False,
            max_body_size=MAX_BODY,
            lifespan=lifespan,
            # Its records would hold the texts of exceptions; our own log and metrics say what they may.
            telemetry=NO_TELEMETRY,
        )
        problem.install(self)
        for resource in RESOURCES:
            self.include_router(resource.router, prefix=PREFIX, responses=COMMON_PROBLEMS, dependencies=KNOWN_QUERY)
        self.include_router(health.described, prefix=PREFIX, responses=COMMON_PROBLEMS, dependencies=KNOWN_QUERY)
        self.include_router(health.probes)

    def openapi(self) -> dict[str, Any]:
        """Return the description, with the problem document and the two ways to show a token."""
        if self.openapi_schema is None:
            schema = super().openapi()
            parts = schema["components"]
            parts["schemas"]["Problem"] = problem.Problem.model_json_schema()
            parts["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            }
            schema["security"] = [{"bearer": []}, {"cookie": []}]
        return super().openapi()


def build_api(ports: ApiPorts) -> FastAPI:
    """Return the ASGI application over `ports`; its lifespan runs what feeds the event streams."""
    accounts = Accounts(ports.database, ports.clock)
    what = "Readers of events for whom too much waited, or some may be missing: each was told to read all anew."
    resets = Counter("tocsin_event_resets", what, registry=ports.metrics)
    what = "Refusals beyond 60 in a minute: of these the audit log's next entry tells only how many there were."
    unwritten = Counter("tocsin_audit_refusals_unwritten", what, registry=ports.metrics)
    api = Api(
        ports=ports,
        accounts=accounts,
        users=Users(ports.database, ports.clock, accounts),
        brake=Brake(ports.clock),
        recorder=Recorder(ports.database, ports.clock, unwritten.inc),
        hub=Hub(ports.plant, resets.inc),
        points=Points(ports.plant),
        growth=Growth(),
        version=version("tocsin"),
        started_ns=ports.clock.now_ns(),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with watching(ports, api.hub, api.growth):
            yield

    streams = Gauge("tocsin_event_streams", "Event streams that are open.", registry=ports.metrics)
    streams.set_function(lambda: api.hub.readers)
    app = Interface(lifespan)
    app.state.api = api
    app.add_middleware(Guard, clock=ports.clock, metrics=ports.metrics)
    page = built(ports.console)
    if page is None:
        app.add_api_route("/{path:path}", not_built, include_in_schema=False)
    else:
        app.mount("/", Console(page))
    return app
