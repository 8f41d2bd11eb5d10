"""Who may sign in: users, their password hashes, their sign-ins, and the first administrator."""

import asyncio
import hashlib
import secrets
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select

from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import Session, User
from tocsin_core.clock import Clock

ADMINISTRATOR = "admin"
SESSION_S = 12 * 3600
"""A sign-in lasts one long shift (12 h)."""

TOKEN_BYTES = 32
# Each argon2 run takes 64 MiB: more than this many at a time would let the sign-in page exhaust a small machine.
HASHES_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who is signed in, until `expires_ns`."""

    name: str
    display: str
    role: str
    expires_ns: int


def token_hash(token: str) -> str:
    """Return what is kept of `token`: SHA-256, so that a stolen database signs nobody in."""
    return hashlib.sha256(token.encode()).hexdigest()


class Accounts:
    """Sign-ins over the user and session tables; passwords are argon2id with the library's parameters (RFC 9106)."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Work on `database`."""
        self._database = database
        self._clock = clock
        self._hasher = PasswordHasher()
        self._hashing = asyncio.Semaphore(HASHES_AT_ONCE)
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """Return the argon2id hash of `password`, made in a thread."""
        async with self._hashing:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def sign_in(self, user: str, password: str) -> tuple[Account, str] | None:
        """Return the account and a new token if `password` is `user`'s, else None; as slow for unknown users."""
        async with self._database.read() as sql:
            row = await sql.get(User, user)
        if not await self._matches(None if row is None else row.password_hash, password) or row is None:
            return None
        token = secrets.token_urlsafe(TOKEN_BYTES)
        now = self._clock.now_ns()
        expires = now + SESSION_S * 1_000_000_000
        async with self._database.write() as sql:
            await sql.execute(delete(Session).where(Session.expires_ns <= now))
            sql.add(Session(token_hash=token_hash(token), user=user, created_ns=now, expires_ns=expires))
        return Account(row.name, row.display, row.role, expires), token

    async def _matches(self, hashed: str | None, password: str) -> bool:
        if hashed is None:
            if self._nobody is None:
                self._nobody = await self.hash(secrets.token_urlsafe(TOKEN_BYTES))
            hashed, known = self._nobody, False
        else:
            known = True
        try:
            async with self._hashing:
                await asyncio.to_thread(self._hasher.verify, hashed, password)
        except (VerificationError, InvalidHashError):
            return False
        return known

    async def account(self, token: str) -> Account | None:
        """Return who holds `token`, or None if it is unknown or has expired."""
        found = (
            select(User.name, User.display, User.role, Session.expires_ns)
            .join(Session, Session.user == User.name)
            .where(Session.token_hash == token_hash(token), Session.expires_ns > self._clock.now_ns())
        )
        async with self._database.read() as sql:
            row = (await sql.execute(found)).one_or_none()
        return None if row is None else Account(row.name, row.display, row.role, row.expires_ns)

    async def sign_out(self, token: str) -> None:
        """Forget `token`."""
        async with self._database.write() as sql:
            await sql.execute(delete(Session).where(Session.token_hash == token_hash(token)))

    async def add(self, user: str, display: str, role: str, password: str) -> None:
        """Add a user.

        Raises:
            sqlalchemy.exc.IntegrityError: there is one of that name.
        """
        hashed = await self.hash(password)
        now = self._clock.now_ns()
        async with self._database.write() as sql:
            sql.add(User(name=user, display=display, role=role, password_hash=hashed, created_ns=now))


async def ensure_administrator(database: Database, clock: Clock, password: str | None = None) -> str | None:
    """Make the user `admin` if there is no user at all, and answer its password, which is kept nowhere else.

    `password` is for automated runs, which must know it beforehand; left out, it is made at random.
    None means that users exist already: nothing was changed.
    """
    async with database.read() as sql:
        if (await sql.execute(select(User.name).limit(1))).first() is not None:
            return None
    made = password or secrets.token_urlsafe(12)
    await Accounts(database, clock).add(ADMINISTRATOR, "Administrator", "administrator", made)
    return made
