"""The outermost layer: safe headers on every answer, our failures turned into problems, requests counted."""

from http import HTTPStatus
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tocsin_cloud.api.problem import problem
from tocsin_core.clock import Clock

log = structlog.get_logger(__name__)

SAFE_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """ASGI middleware; nothing behind it can answer without the safe headers or let an exception out unlogged."""

    def __init__(self, app: ASGIApp, clock: Clock, metrics: CollectorRegistry) -> None:
        """Wrap `app`; its requests are counted in `metrics`."""
        self._app = app
        self._clock = clock
        labels = ("method", "route", "status")
        self._requests = Counter("tocsin_http_requests", "HTTP requests answered.", labels, registry=metrics)
        self._seconds = Histogram("tocsin_http_seconds", "Time until the answer began.", ("route",), registry=metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = self._clock.monotonic()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
                self._seconds.labels(_route(scope)).observe(self._clock.monotonic() - begun)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            log.exception("request failed", method=scope["method"], path=scope["path"])
            if status:
                # Half an answer is out: only breaking the connection tells the client that the rest is missing.
                raise
            answer = problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed at this request; its log says why.")
            await answer(scope, receive, watched)
        finally:
            self._requests.labels(scope["method"], _route(scope), str(status)).inc()


def _route(scope: Scope) -> str:
    # The pattern, not the path: a label value for each path asked for would grow without bound.
    return str(getattr(scope.get("route"), "path", "other"))
