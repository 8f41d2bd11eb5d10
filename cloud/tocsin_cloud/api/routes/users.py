"""Routes of the users and of their API tokens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends

from tocsin_cloud.adapters.accounts import Account
from tocsin_cloud.adapters.audit_chain import Deed, Outcome
from tocsin_cloud.adapters.roles import Permission
from tocsin_cloud.adapters.sql import models as sql
from tocsin_cloud.adapters.users import Change, UnknownError, UserError
from tocsin_cloud.api import model_accounts as model
from tocsin_cloud.api.context import Api, Context
from tocsin_cloud.api.problem import documented, refusal
from tocsin_cloud.api.security import Needs

router = APIRouter(tags=["users"])

Manager = Annotated[Account, Depends(Needs(Permission.MANAGE_USERS))]
REFUSALS: Final = documented(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)


@router.get("/users", responses=documented(HTTPStatus.FORBIDDEN))
async def users(_account: Manager, api: Context) -> list[model.User]:
    """Every user, by name; also those who may no longer sign in."""
    return [_user(row) for row in await api.users.everybody()]


@router.post("/users", status_code=HTTPStatus.CREATED, responses=REFUSALS)
async def add(body: model.NewUser, account: Manager, api: Context) -> model.User:
    """Add a user."""
    async with _refusing(api, account, "user.add", body.user):
        await api.users.add(account.actor, body.user, body.name, body.role, body.password)
    return await _one(api, body.user)


@router.patch("/users/{user}", responses=REFUSALS)
async def change(user: str, body: model.UserChange, account: Manager, api: Context) -> model.User:
    """Change a user; a new password and `disabled` end every session of theirs."""
    async with _refusing(api, account, "user.change", user):
        await api.users.change(account.actor, user, Change(body.name, body.role, body.password, body.disabled))
    return await _one(api, user)


@router.delete("/users/{user}/sessions", status_code=HTTPStatus.NO_CONTENT, responses=REFUSALS)
async def end_sessions(user: str, account: Manager, api: Context) -> None:
    """Sign a user out everywhere."""
    async with _refusing(api, account, "session.close-all", user):
        await api.users.sign_out_everywhere(account.actor, user)


@router.get("/tokens", responses=documented(HTTPStatus.FORBIDDEN))
async def tokens(_account: Manager, api: Context) -> list[model.ApiToken]:
    """Every API token, also those that are over, the newest first; never the token itself."""
    return [model.ApiToken(**_token(row)) for row in await api.users.tokens()]


@router.post("/users/{user}/tokens", status_code=HTTPStatus.CREATED, responses=REFUSALS)
async def make_token(user: str, body: model.NewApiToken, account: Manager, api: Context) -> model.MadeApiToken:
    """Make an API token, with which a program may what its role and its user may; it is told only here."""
    async with _refusing(api, account, "token.make", user):
        made, token = await api.users.make_token(account.actor, user, body.label, body.role, body.days)
    return model.MadeApiToken(**_token(made), token=token)


@router.delete("/tokens/{token}", status_code=HTTPStatus.NO_CONTENT, responses=REFUSALS)
async def revoke(token: str, account: Manager, api: Context) -> None:
    """Make an API token, by its id, worthless from now on."""
    async with _refusing(api, account, "token.revoke", token):
        await api.users.revoke(account.actor, token)


@asynccontextmanager
async def _refusing(api: Api, account: Account, action: str, target: str) -> AsyncIterator[None]:
    """Turn what the users refuse into problems, and put the refusal into the audit log."""
    try:
        yield
    except (UserError, UnknownError) as error:
        deed = Deed(action, target, Outcome.REFUSED, {"why": str(error)})
        await api.recorder.refused(account.actor, deed)
        unknown = isinstance(error, UnknownError)
        raise refusal(HTTPStatus.NOT_FOUND if unknown else HTTPStatus.CONFLICT, str(error)) from error


async def _one(api: Api, user: str) -> model.User:
    async with api.ports.database.read() as session:
        return _user(await session.get_one(sql.User, user))


def _user(row: sql.User) -> model.User:
    return model.User.model_validate(
        {
            "user": row.name,
            "name": row.display,
            "role": row.role,
            "disabled": row.disabled,
            "created_at": row.created_ns,
        }
    )


def _token(row: sql.ApiToken) -> dict[str, object]:
    return {
        "id": row.id,
        "label": row.label,
        "user": row.user,
        "role": row.role,
        "created_at": row.created_ns,
        "expires_at": row.expires_ns,
        "last_used_at": row.last_used_ns,
        "revoked_at": row.revoked_ns,
    }
