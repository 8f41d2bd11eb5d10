"""The shapes of sign-in, users, API tokens and audit log, as `model` holds those of the plant."""

from typing import Any

from pydantic import Field

from tocsin_cloud.adapters.audit_chain import Outcome
from tocsin_cloud.adapters.roles import Permission, Role
from tocsin_cloud.api.model import Asked, Instant, Shape


class Credentials(Asked):
    """Who signs in."""

    user: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=1, max_length=1024)


class SignedIn(Shape):
    """Who is signed in, and what they may do."""

    user: str
    name: str
    role: Role
    may: list[Permission]


class NewSession(SignedIn):
    """Who is signed in now, and the token for `Authorization: Bearer`."""

    token: str


class NewPassword(Asked):
    """One's own password, before and after."""

    old: str = Field(min_length=1, max_length=1024)
    new: str = Field(min_length=1, max_length=1024)


class User(Shape):
    """Somebody who may sign in, unless disabled."""

    user: str
    name: str
    role: Role
    disabled: bool
    created_at: Instant


class NewUser(Asked):
    """Somebody who is to become a user."""

    user: str = Field(min_length=1, max_length=64)
    name: str = Field(min_length=1, max_length=200)
    role: Role
    password: str = Field(min_length=1, max_length=1024)


class UserChange(Asked):
    """What is to be different about a user; what is left out stays."""

    name: str | None = Field(default=None, min_length=1, max_length=200)
    role: Role | None = None
    password: str | None = Field(default=None, min_length=1, max_length=1024)
    disabled: bool | None = None


class ApiToken(Shape):
    """A program's right to act for a user; worth nothing after `expires_at` and from `revoked_at` on."""

    id: str
    label: str
    user: str
    role: Role
    created_at: Instant
    expires_at: Instant | None
    last_used_at: Instant | None = Field(description="To the minute.")
    revoked_at: Instant | None


class NewApiToken(Asked):
    """A token that is to be made. It may what both its role and its user may."""

    label: str = Field(min_length=1, max_length=200)
    role: Role
    days: int | None = Field(default=None, ge=1, le=3660, description="For how long; for ever if left out.")


class MadeApiToken(ApiToken):
    """A new token; `token` is shown this once."""

    token: str


class AuditEntry(Shape):
    """One entry of the audit log: who did what to what, when, from where, and what came of it."""

    seq: int
    at: Instant | None = Field(description="null where somebody has put something else in its place.")
    who: str = Field(description="`tocsin`: the system by itself. Empty: nobody who is known.")
    role: str
    origin: str
    action: str
    target: str
    outcome: Outcome | None = Field(description="null as `at`.")
    detail: dict[str, Any]
    hash: str = Field(description="SHA-256 over the entry and the hash of the one before it.")
    broken: bool = Field(description="Whether it is another than was written: somebody has altered it.")
