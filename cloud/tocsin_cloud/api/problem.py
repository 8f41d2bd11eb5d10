"""Errors as RFC 9457 problem documents: one shape for refusals, bad requests and our own failures."""

from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.api.ports import ReadingsUnknownError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

# Said in both languages, for it reaches people who can do nothing about it.
AWAY: Final = "数据库暂时无法访问，请稍后再试。The database is away at the moment; try again soon."
WAITS: Final = "正在等待数据库。Waiting for the database."
UNTOLD: Final = (
    "报警进程暂时没有给出读数，请稍后再试。The alarms worker does not tell the readings at the moment; try again soon."
)
AGAIN: Final = {"Retry-After": "2"}


class Problem(BaseModel):
    """RFC 9457: what went wrong, for a person (`title`, `detail`) and for a program (`type`, `status`)."""

    type: str = Field(description="`about:blank`: the status code says it all.")
    title: str = Field(description="The HTTP status in words.")
    status: int
    detail: str = Field(description="What was wrong with this very request.")
    permission: str | None = Field(default=None, description="The permission that was missing, if one was.")


class ProblemResponse(JSONResponse):
    """A response that carries a `Problem`."""

    media_type = MEDIA_TYPE


class Refusal(HTTPException):
    """What is raised for an answer with a problem document; `permission` names the one that was missing."""

    permission: str | None = None


def refusal(
    status: HTTPStatus, detail: str, headers: dict[str, str] | None = None, *, permission: str | None = None
) -> Refusal:
    """Return the exception to raise for an answer with `status` and the reason `detail`."""
    raised = Refusal(status, detail, headers)
    raised.permission = permission
    return raised


def problem(
    status: int, detail: str, headers: dict[str, str] | None = None, *, permission: str | None = None
) -> ProblemResponse:
    """Return the answer with `status` and the reason `detail`."""
    title = HTTPStatus(status).phrase
    body = Problem(type="about:blank", title=title, status=status, detail=detail, permission=permission)
    return ProblemResponse(body.model_dump(exclude_none=True), status, headers)


def documented(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` argument of a route that may answer with these problems."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        int(status): {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }


async def _refused(_request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 -- the registration below says so
    headers = None if error.headers is None else dict(error.headers)
    permission = error.permission if isinstance(error, Refusal) else None
    return problem(error.status_code, str(error.detail), headers, permission=permission)


async def _invalid(_request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- the registration below says so
    # The value itself is left out: it may be a password.
    told = (f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}" for found in error.errors())
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(told))


async def _away(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, DatabaseAwayError)  # noqa: S101 -- the registration below says so
    log.warning("request without the database", method=request.method, path=request.url.path, reason=error.reason)
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, AWAY, AGAIN)


async def _untold(_request: Request, _error: Exception) -> ProblemResponse:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, UNTOLD, AGAIN)


def install(app: FastAPI) -> None:
    """Make `app` answer refusals, invalid requests and what is away for a while with problem documents."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(DatabaseAwayError, _away)
    app.add_exception_handler(ReadingsUnknownError, _untold)
