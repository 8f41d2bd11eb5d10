"""Who may do what over HTTP: tokens, the guard against forged requests, and the permission that each route needs."""

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Depends, Request

from tocsin_cloud.adapters.accounts import Account
from tocsin_cloud.adapters.audit_chain import Deed, Outcome
from tocsin_cloud.adapters.roles import Permission
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.problem import refusal

COOKIE: Final = "tocsin_session"
GUARD_HEADER: Final = "X-Tocsin"
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})


def token_of(request: Request) -> tuple[str | None, bool]:
    """Return the token that came with `request`, and whether it came by cookie; a header goes before a cookie."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip(), False
    return request.cookies.get(COOKIE), True


def address_of(request: Request) -> str:
    """Return the address that `request` came from."""
    return "" if request.client is None else request.client.host


@dataclass(frozen=True, slots=True)
class Needs:
    """A dependency: whoever is signed in, if the role has `permission` (None: whatever the role); else a problem."""

    permission: Permission | None

    async def __call__(self, request: Request, api: Context) -> Account:
        """Answer who asks, or refuse: 401 to strangers, 403 to a forged call or where the permission is missing."""
        token, by_cookie = token_of(request)
        found = None if not token else await api.accounts.account(token)
        if found is None:
            raise refusal(HTTPStatus.UNAUTHORIZED, "Sign in first.", {"WWW-Authenticate": "Bearer"})
        # Another site can make a browser send the cookie, but not this header.
        if by_cookie and request.method not in SAFE_METHODS and request.headers.get(GUARD_HEADER) != "1":
            raise refusal(
                HTTPStatus.FORBIDDEN, f"A call by cookie that changes something needs the header {GUARD_HEADER}: 1."
            )
        account = replace(found, address=address_of(request))
        if self.permission is not None and self.permission not in account.may:
            detail = {"permission": self.permission}
            asked = f"{request.method} {request.url.path}"
            await api.recorder.refused(account.actor, Deed("permission", asked, Outcome.REFUSED, detail))
            raise refusal(
                HTTPStatus.FORBIDDEN,
                f"The role {account.role} lacks the permission {self.permission}.",
                permission=self.permission,
            )
        return account


SignedIn = Annotated[Account, Depends(Needs(None))]
Reader = Annotated[Account, Depends(Needs(Permission.READ))]
