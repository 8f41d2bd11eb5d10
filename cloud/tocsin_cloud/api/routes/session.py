"""Routes of the sign-in: who is signed in, signing in, signing out."""

from http import HTTPStatus

import structlog
from fastapi import APIRouter, Request, Response

from tocsin_cloud.adapters.accounts import SESSION_S
from tocsin_cloud.api import model
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.problem import documented, refusal
from tocsin_cloud.api.security import COOKIE, Reader, token_of

log = structlog.get_logger(__name__)
router = APIRouter(tags=["session"])


@router.post("/session", responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS))
async def sign_in(
    credentials: model.Credentials, request: Request, response: Response, api: Context
) -> model.NewSession:
    """Sign in; the token comes as a cookie for the page and in the body for programs."""
    address = "" if request.client is None else request.client.host
    wait_s = api.brake.wait_s(credentials.user, address)
    if wait_s:
        detail = f"Too many failed sign-ins; try again in {wait_s} s."
        raise refusal(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(wait_s)})
    # Counted before it is known: many guesses sent at once must not all pass the brake.
    api.brake.failed(credentials.user, address)
    found = await api.accounts.sign_in(credentials.user, credentials.password)
    if found is None:
        log.warning("sign-in refused", user=credentials.user, address=address)
        raise refusal(HTTPStatus.UNAUTHORIZED, "User or password is wrong.")
    api.brake.succeeded(credentials.user, address)
    account, token = found
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, token, max_age=SESSION_S, httponly=True, samesite="strict", secure=secure)
    log.info("signed in", user=account.name, address=address)
    return model.NewSession.model_validate(
        {"user": account.name, "name": account.display, "role": account.role, "token": token}
    )


@router.get("/session")
async def who(account: Reader) -> model.SignedIn:
    """Who is signed in."""
    return model.SignedIn.model_validate({"user": account.name, "name": account.display, "role": account.role})


@router.delete("/session", status_code=HTTPStatus.NO_CONTENT)
async def sign_out(_account: Reader, request: Request, response: Response, api: Context) -> None:
    """Sign out: the token is worth nothing afterwards."""
    token, _ = token_of(request)
    if token is not None:
        await api.accounts.sign_out(token)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
