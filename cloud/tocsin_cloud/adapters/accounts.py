"""Who is signed in: passwords checked, sessions begun and ended, tokens turned into accounts."""

import asyncio
import hashlib
import secrets
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select, update

from tocsin_cloud.adapters.audit import append
from tocsin_cloud.adapters.audit_chain import Actor, Deed, Outcome
from tocsin_cloud.adapters.roles import Permission, granted
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import ApiToken, Session, User
from tocsin_core.clock import Clock

SESSION_S: Final = 12 * 3600
"""A sign-in lasts one long shift (12 h)."""

# Of one that was begun by a clock that was ahead no more is left than this.
LONGEST_NS: Final = 2 * SESSION_S * 1_000_000_000

TOKEN_BYTES: Final = 32
# Says at a glance, to people and to programs that look for leaked secrets, what it is.
API_TOKEN: Final = "tocsin_"  # noqa: S105 -- how one begins
# The use of a token is noted at most this often: not every call shall cost a write.
NOTE_USE_NS: Final = 60_000_000_000
# Each argon2 run takes 64 MiB: more than this many at a time would let the sign-in page exhaust a small machine.
HASHES_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who is signed in, and what they may do; `token` is the id of the API token, if it came by one."""

    name: str
    display: str
    role: str
    may: frozenset[Permission]
    token: str | None = None
    address: str = ""

    @property
    def actor(self) -> Actor:
        """Who this is in the audit log."""
        return Actor(self.name, self.role, f"{self.address} token {self.token}" if self.token else self.address)


def token_hash(token: str) -> str:
    """Return what is kept of `token`: SHA-256, so that a stolen database signs nobody in."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


class Accounts:
    """Sign-ins over the user and session tables; passwords are argon2id with the library's parameters (RFC 9106)."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Work on `database`."""
        self._database = database
        self._clock = clock
        self._hasher = PasswordHasher()
        self._hashing = asyncio.Semaphore(HASHES_AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """Return the argon2id hash of `password`, made in a thread."""
        async with self._hashing:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def sign_in(self, user: str, password: str, address: str = "") -> tuple[Account, str] | None:
        """Return the account and a new token if `password` is `user`'s, else None; as slow for unknown users."""
        row = await self._user(user)
        if not await self.is_password(row, password, address) or row is None:
            return None
        token = secrets.token_urlsafe(TOKEN_BYTES)
        now = self._clock.now_ns()
        account = Account(row.name, row.display, row.role, granted(row.role), address=address)
        async with self._database.write() as sql:
            await sql.execute(delete(Session).where(Session.expires_ns <= now))
            expires = now + SESSION_S * 1_000_000_000
            sql.add(Session(token_hash=token_hash(token), user=row.name, created_ns=now, expires_ns=expires))
            await append(sql, now, account.actor, Deed("session.open", row.name, Outcome.DONE, {}))
        return account, token

    async def known(self, user: str) -> bool:
        """Say whether somebody of that name may sign in."""
        return await self._user(user) is not None

    async def _user(self, user: str) -> User | None:
        async with self._database.read() as sql:
            row = await sql.get(User, user)
        return None if row is None or row.disabled else row

    async def is_password(self, user: User | None, password: str, address: str) -> bool:
        """Say whether `password`, which came from `address`, is that of `user`; False, as slowly, for nobody.

        Of each address one waits for its hash at a time: nobody waits behind more than one of each stranger's.
        """
        turn = self._turns.setdefault(address, asyncio.Lock())
        async with turn, self._hashing:
            if self._nobody is None:
                # Whoever comes first, somebody or nobody, waits for this.
                self._nobody = await asyncio.to_thread(self._hasher.hash, secrets.token_urlsafe(TOKEN_BYTES))
            hashed = self._nobody if user is None else user.password_hash
            try:
                await asyncio.to_thread(self._hasher.verify, hashed, password)
            except (VerificationError, InvalidHashError):
                return False
        return user is not None

    async def account(self, token: str) -> Account | None:
        """Return who holds `token`, or None if it is unknown, has expired or was revoked, or its user may no more."""
        return await (self._by_api_token(token) if token.startswith(API_TOKEN) else self._by_session(token))

    async def _by_session(self, token: str) -> Account | None:
        now = self._clock.now_ns()
        ends = Session.expires_ns > now, Session.expires_ns <= now + LONGEST_NS
        found = (
            select(User.name, User.display, User.role)
            .join(Session, Session.user == User.name)
            .where(Session.token_hash == token_hash(token), *ends, ~User.disabled)
        )
        async with self._database.read() as sql:
            row = (await sql.execute(found)).one_or_none()
        return None if row is None else Account(row.name, row.display, row.role, granted(row.role))

    async def _by_api_token(self, token: str) -> Account | None:
        now = self._clock.now_ns()
        found = (
            select(ApiToken, User)
            .join(User, ApiToken.user == User.name)
            .where(
                ApiToken.token_hash == token_hash(token),
                ApiToken.revoked_ns.is_(None),
                ApiToken.expires_ns.is_(None) | (ApiToken.expires_ns > now),
                ~User.disabled,
            )
        )
        async with self._database.read() as sql:
            row = (await sql.execute(found)).one_or_none()
        if row is None:
            return None
        held, user = row
        if held.last_used_ns is None or now - held.last_used_ns >= NOTE_USE_NS:
            async with self._database.write() as sql:
                await sql.execute(update(ApiToken).where(ApiToken.id == held.id).values(last_used_ns=now))
        # Never more than its user may: whoever loses a role loses it for their programs too.
        return Account(user.name, user.display, held.role, granted(held.role) & granted(user.role), held.id)

    async def sign_out(self, account: Account, token: str) -> None:
        """Forget the session of `token`."""
        async with self._database.write() as sql:
            await sql.execute(delete(Session).where(Session.token_hash == token_hash(token)))
            deed = Deed("session.close", account.name, Outcome.DONE, {})
            await append(sql, self._clock.now_ns(), account.actor, deed)
