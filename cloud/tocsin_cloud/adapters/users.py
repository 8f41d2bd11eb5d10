"""The users and their API tokens: made, changed, shut out; every change stands in the audit log with who made it."""

import re
import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tocsin_cloud.adapters.accounts import API_TOKEN, TOKEN_BYTES, Accounts, token_hash
from tocsin_cloud.adapters.audit import append
from tocsin_cloud.adapters.audit_chain import SYSTEM, Actor, Deed, Outcome
from tocsin_cloud.adapters.roles import Role
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import ApiToken, Session, User
from tocsin_core.clock import Clock

ADMINISTRATOR: Final = "admin"
"""The user that the first start makes."""

SHORTEST_PASSWORD: Final = 10
NAME: Final = re.compile(r"[\w.@-]{1,64}")
DAY_NS: Final = 86_400_000_000_000


class UnknownError(LookupError):
    """There is no such user or token."""


class UserError(ValueError):
    """A user or token cannot be made or changed like that."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be different about a user; None leaves a thing as it is."""

    display: str | None = None
    role: Role | None = None
    password: str | None = None
    disabled: bool | None = None

    def told(self) -> dict[str, str]:
        """What the audit log says of it: never the password."""
        told = {"name": self.display, "role": self.role, "password": self.password and "changed"}
        if self.disabled is not None:
            told["disabled"] = str(self.disabled).lower()
        return {key: str(value) for key, value in told.items() if value is not None}


class Users:
    """The user and token tables.

    Each change appends its entry first: the lock that this takes keeps apart two changes that would each be right
    alone, as two administrators who shut each other out.
    """

    def __init__(self, database: Database, clock: Clock, accounts: Accounts) -> None:
        """Work on `database`; `accounts` hashes the passwords."""
        self._database = database
        self._clock = clock
        self._accounts = accounts

    async def everybody(self) -> list[User]:
        """All users, also those who may no longer sign in, by name."""
        async with self._database.read() as session:
            return list(await session.scalars(select(User).order_by(User.name)))

    async def add(self, by: Actor, user: str, display: str, role: Role, password: str) -> None:
        """Add a user.

        Raises:
            UserError: there is one of that name, or the name or the password will not do.
        """
        # `tocsin` is who does what the system does by itself.
        if NAME.fullmatch(user) is None or user.lower() == SYSTEM.who:
            raise UserError(f"{user!r} cannot be a user's name: letters, digits and . @ _ - only, and not {SYSTEM.who}")
        hashed = await self._hash(password)
        now = self._clock.now_ns()
        async with self._database.write() as session:
            await append(session, now, by, Deed("user.add", user, Outcome.DONE, {"name": display, "role": role}))
            if await session.get(User, user) is not None:
                raise UserError(f"there is a user {user} already")
            if role is not Role.ADMINISTRATOR and await _administrators(session) == 0:
                raise UserError("the first user has to be an administrator")
            session.add(User(name=user, display=display, role=role, password_hash=hashed, created_ns=now))

    async def change(self, by: Actor, user: str, change: Change) -> None:
        """Change a user; a new password and shutting out end every session.

        Raises:
            UnknownError: there is no such user.
            UserError: nobody would be administrator any more, or the password will not do.
        """
        hashed = None if change.password is None else await self._hash(change.password)
        async with self._database.write() as session:
            await append(session, self._clock.now_ns(), by, Deed("user.change", user, Outcome.DONE, change.told()))
            row = await _get(session, user)
            row.display = row.display if change.display is None else change.display
            row.role = row.role if change.role is None else change.role
            row.disabled = row.disabled if change.disabled is None else change.disabled
            row.password_hash = hashed or row.password_hash
            await session.flush()
            if await _administrators(session) == 0:
                raise UserError("nobody would be administrator any more")
            if hashed is not None or change.disabled:
                await session.execute(delete(Session).where(Session.user == user))

    async def change_own_password(self, by: Actor, old: str, new: str) -> bool:
        """Give `by` a new password if `old` is the present one, and end every session; False if it is not.

        Raises:
            UserError: the new one will not do.
        """
        async with self._database.read() as session:
            row = await session.get(User, by.who)
        if not await self._accounts.is_password(row, old, by.origin):
            return False
        await self.change(by, by.who, Change(password=new))
        return True

    async def sign_out_everywhere(self, by: Actor, user: str) -> None:
        """End every session of a user; API tokens stay.

        Raises:
            UnknownError: there is no such user.
        """
        async with self._database.write() as session:
            await append(session, self._clock.now_ns(), by, Deed("session.close-all", user, Outcome.DONE, {}))
            await _get(session, user)
            await session.execute(delete(Session).where(Session.user == user))

    async def tokens(self) -> list[ApiToken]:
        """All API tokens, also those that are over, the newest first."""
        async with self._database.read() as session:
            return list(await session.scalars(select(ApiToken).order_by(ApiToken.created_ns.desc(), ApiToken.id)))

    async def make_token(self, by: Actor, user: str, label: str, role: Role, days: int | None) -> tuple[ApiToken, str]:
        """Make an API token for programs of `user`, which may what `role` and the user may; it is told only here.

        Raises:
            UnknownError: there is no such user.
        """
        token = API_TOKEN + secrets.token_urlsafe(TOKEN_BYTES)
        now = self._clock.now_ns()
        made = ApiToken(
            id=secrets.token_hex(4),
            label=label,
            user=user,
            role=role,
            token_hash=token_hash(token),
            created_ns=now,
            expires_ns=None if days is None else now + days * DAY_NS,
        )
        detail = {"user": user, "label": label, "role": str(role)}
        async with self._database.write() as session:
            await append(session, now, by, Deed("token.make", made.id, Outcome.DONE, detail))
            await _get(session, user)
            session.add(made)
        return made, token

    async def revoke(self, by: Actor, token: str) -> None:
        """Make the API token with the id `token` worthless from now on; one that is already stays as it is.

        Raises:
            UnknownError: there is none.
        """
        now = self._clock.now_ns()
        async with self._database.write() as session:
            await append(session, now, by, Deed("token.revoke", token, Outcome.DONE, {}))
            row = await session.get(ApiToken, token)
            if row is None:
                raise UnknownError(f"There is no token {token!r}.")
            row.revoked_ns = row.revoked_ns or now

    async def _hash(self, password: str) -> str:
        if len(password) < SHORTEST_PASSWORD:
            raise UserError(f"a password has at least {SHORTEST_PASSWORD} characters")
        return await self._accounts.hash(password)


async def _get(session: AsyncSession, user: str) -> User:
    row = await session.get(User, user)
    if row is None:
        raise UnknownError(f"There is no user {user!r}.")
    return row


async def _administrators(session: AsyncSession) -> int:
    able = select(func.count()).select_from(User).where(User.role == Role.ADMINISTRATOR, ~User.disabled)
    return await session.scalar(able) or 0


async def ensure_administrator(database: Database, clock: Clock, password: str | None = None) -> str | None:
    """Make the user `admin` if there is no user at all, and answer its password, which is kept nowhere else.

    `password` is for automated runs, which must know it beforehand; left out, it is made at random.
    None means that users exist already: nothing was changed.

    Raises:
        UserError: `password` will not do.
    """
    users = Users(database, clock, Accounts(database, clock))
    if await users.everybody():
        return None
    made = password or secrets.token_urlsafe(12)
    await users.add(SYSTEM, ADMINISTRATOR, "Administrator", Role.ADMINISTRATOR, made)
    return made
