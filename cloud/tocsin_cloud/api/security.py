"""Who may do what over HTTP: tokens, the guard against forged requests, and what each role may do."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Depends, Request

from tocsin_cloud.adapters.accounts import Account
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.problem import refusal

COOKIE: Final = "tocsin_session"
GUARD_HEADER: Final = "X-Tocsin"
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})


class Right(StrEnum):
    """What a role may be allowed beyond reading."""

    ANSWER = "answer alarms"
    TAKE_OUT = "take alarms out of service"
    RECTIFY = "report a ticket as put right"
    ACCEPT = "accept or reject a ticket"


_SHIFT = frozenset({Right.ANSWER, Right.RECTIFY})
RIGHTS: Final[dict[str, frozenset[Right]]] = {
    "regulator": frozenset(),
    "operator": _SHIFT,
    "shift-leader": _SHIFT | {Right.TAKE_OUT},
    "safety-officer": _SHIFT | {Right.TAKE_OUT, Right.ACCEPT},
    "administrator": frozenset(Right),
}


def token_of(request: Request) -> tuple[str | None, bool]:
    """Return the token that came with `request`, and whether it came by cookie; a header goes before a cookie."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip(), False
    return request.cookies.get(COOKIE), True


async def _signed_in(request: Request, api: Context) -> Account:
    token, by_cookie = token_of(request)
    account = None if not token else await api.accounts.account(token)
    if account is None:
        raise refusal(HTTPStatus.UNAUTHORIZED, "Sign in first.", {"WWW-Authenticate": "Bearer"})
    # Another site can make a browser send the cookie, but not this header.
    if by_cookie and request.method not in SAFE_METHODS and request.headers.get(GUARD_HEADER) != "1":
        raise refusal(
            HTTPStatus.FORBIDDEN, f"A call by cookie that changes something needs the header {GUARD_HEADER}: 1."
        )
    return account


Reader = Annotated[Account, Depends(_signed_in)]


def holder_of(right: Right) -> Callable[[Reader], Awaitable[Account]]:
    """Return a dependency: whoever is signed in, if the role has `right`; else a 403 problem."""

    async def check(account: Reader) -> Account:
        if right not in RIGHTS.get(account.role, frozenset()):
            raise refusal(HTTPStatus.FORBIDDEN, f"The role {account.role} may not {right}.")
        return account

    return check
