"""Routes of the sign-in: who is signed in, signing in, signing out here or everywhere, one's own password."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from tocsin_cloud.adapters.accounts import SESSION_S, Account
from tocsin_cloud.adapters.audit_chain import Actor, Deed, Outcome
from tocsin_cloud.adapters.users import UserError
from tocsin_cloud.api import model_accounts as model
from tocsin_cloud.api.context import Api, Context
from tocsin_cloud.api.problem import documented, refusal
from tocsin_cloud.api.security import COOKIE, SignedIn, address_of, token_of

router = APIRouter(tags=["session"])

NO_SESSION: Final = "An API token has no session; it is revoked, not signed out."


@router.post("/session", responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS))
async def sign_in(
    credentials: model.Credentials, request: Request, response: Response, api: Context
) -> model.NewSession:
    """Sign in; the token comes as a cookie for the page and in the body for programs."""
    address = address_of(request)
    async with _braked(api, "session.open", Actor(credentials.user, "", address)):
        found = await api.accounts.sign_in(credentials.user, credentials.password, address)
    if found is None:
        await _refused(api, "session.open", Actor(credentials.user, "", address), "wrong user or password")
        raise refusal(HTTPStatus.UNAUTHORIZED, "User or password is wrong.")
    api.brake.succeeded(credentials.user, address)
    account, token = found
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, token, max_age=SESSION_S, httponly=True, samesite="strict", secure=secure)
    return model.NewSession(**_who(account), token=token)


@router.get("/session")
async def who(account: SignedIn) -> model.SignedIn:
    """Who is signed in, and what they may do."""
    return model.SignedIn(**_who(account))


@router.delete("/session", status_code=HTTPStatus.NO_CONTENT, responses=documented(HTTPStatus.CONFLICT))
async def sign_out(
    account: SignedIn,
    request: Request,
    response: Response,
    api: Context,
    *,
    everywhere: Annotated[bool, Query(description="End one's sessions on every machine.")] = False,
) -> None:
    """Sign out: the token is worth nothing afterwards."""
    token, _ = token_of(request)
    if token is None or account.token is not None:
        raise refusal(HTTPStatus.CONFLICT, NO_SESSION)
    if everywhere:
        await api.users.sign_out_everywhere(account.actor, account.name)
    else:
        await api.accounts.sign_out(account, token)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


@router.post(
    "/session/password",
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented(HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS),
)
async def password(body: model.NewPassword, account: SignedIn, response: Response, api: Context) -> None:
    """Give oneself a new password; every session ends, this one too."""
    if account.token is not None:
        raise refusal(HTTPStatus.CONFLICT, NO_SESSION)
    try:
        async with _braked(api, "user.change", account.actor):
            changed = await api.users.change_own_password(account.actor, body.old, body.new)
    except UserError as error:
        raise refusal(HTTPStatus.CONFLICT, str(error)) from error
    if not changed:
        await _refused(api, "user.change", account.actor, "wrong old password")
        raise refusal(HTTPStatus.FORBIDDEN, "The old password is wrong.")
    api.brake.succeeded(account.name, account.address)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


def _who(account: Account) -> dict[str, object]:
    return {"user": account.name, "name": account.display, "role": account.role, "may": sorted(account.may)}


@asynccontextmanager
async def _braked(api: Api, action: str, who: Actor) -> AsyncIterator[None]:
    """Refuse whoever guessed too often; count one more guess otherwise, which `succeeded` or an error takes back."""
    wait_s = api.brake.wait_s(who.who, who.origin)
    if wait_s:
        await _refused(api, action, who, "too many guesses")
        detail = f"Too many failed sign-ins; try again in {wait_s} s."
        raise refusal(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(wait_s)})
    # Counted before it is known: many guesses sent at once must not all pass the brake.
    api.brake.failed(who.who, who.origin)
    try:
        yield
    except Exception:
        # Nobody knows whether the password was right, or it was and the new one will not do.
        api.brake.undecided(who.who, who.origin)
        raise


async def _refused(api: Api, action: str, who: Actor, why: str) -> None:
    # People type their password into the wrong field: what is no user's name is not written down for ever.
    known = await api.accounts.known(who.who)
    actor = who if known else Actor("", "", who.origin)
    await api.recorder.refused(actor, Deed(action, actor.who, Outcome.REFUSED, {"why": why}))
