"""Signing in and out, one's own password, and how the interface defends itself."""

import asyncio

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from tests.cloud.api.conftest import PASSWORD, Bench
from tests.cloud.api.stand_ins import HandClock, occurrence
from tests.support.postgres import on_both
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.accounts import SESSION_S, Accounts
from tocsin_cloud.adapters.sql.models import Session, User
from tocsin_cloud.adapters.users import ensure_administrator
from tocsin_cloud.api.brake import (
    FREE_FAILURES,
    MOST_ADDRESSES,
    MOST_FAMILIAR,
    MOST_NAMES,
    OF_ADDRESS,
    OF_NAME,
    Brake,
    place_of,
)

pytestmark = pytest.mark.anyio


async def test_a_password_buys_a_token_and_a_cookie(bench: Bench) -> None:
    """Both open the interface, and the cookie is out of reach of scripts and of other sites."""
    async with bench.client(None) as client:
        answer = await client.post("/session", json={"user": "operator", "password": PASSWORD})
        assert answer.status_code == 200
        token = answer.json().pop("token")
        may = ["alarms.answer", "plant.read", "tickets.rectify"]
        who = {"user": "operator", "name": "Operator", "role": "operator", "may": may}
        assert answer.json() == {**who, "token": token}
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert (await client.get("/session")).json() == who
        client.cookies.clear()
        assert (await client.get("/session", headers={"Authorization": f"Bearer {token}"})).status_code == 200


async def test_the_database_holds_neither_password_nor_token(bench: Bench) -> None:
    """Only an argon2id hash and a digest are kept."""
    async with bench.database.read() as session:
        user = await session.get_one(User, "operator")
        kept = set(await session.scalars(select(Session.token_hash)))
    assert user.password_hash.startswith("$argon2id$")
    assert PASSWORD not in user.password_hash
    assert not kept & set(bench.tokens.values())


@pytest.mark.parametrize("path", ["/plant", "/points", "/alarms", "/kpi", "/events", "/session", "/openapi.json"])
async def test_nothing_is_shown_to_strangers(bench: Bench, path: str) -> None:
    """Without a token every resource answers 401 with a problem document."""
    async with bench.client(None) as client:
        answer = await client.get(path)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json() == {
            "type": "about:blank",
            "title": "Unauthorized",
            "status": 401,
            "detail": "Sign in first.",
        }
        wrong = await client.get(path, headers={"Authorization": "Bearer nonsense"})
        assert wrong.status_code == 401


async def test_a_token_ends_with_the_shift_and_with_signing_out(bench: Bench) -> None:
    """A signed-out or expired token is worth nothing."""
    async with bench.client("operator") as client, bench.client("regulator") as other:
        assert (await client.delete("/session")).status_code == 204
        assert (await client.get("/session")).status_code == 401
        assert (await other.get("/session")).status_code == 200
        bench.clock.move(SESSION_S)
        assert (await other.get("/session")).status_code == 401


async def test_a_token_of_a_clock_that_was_ahead_ends_too(bench: Bench) -> None:
    """Set back by hours nobody is signed out, by a year nobody stays signed in for one."""
    async with bench.client("regulator") as client:
        bench.clock.set_back(SESSION_S)
        assert (await client.get("/session")).status_code == 200
        bench.clock.set_back(365 * 86400)
        assert (await client.get("/session")).status_code == 401


async def test_a_cookie_alone_changes_nothing(bench: Bench) -> None:
    """A call by cookie without the guard header is refused, as another site's forged form would be."""
    await bench.put(occurrence(1))
    async with bench.client(None) as client:
        client.cookies.set("tocsin_session", bench.tokens["operator"])
        path = f"/alarms/{1:016x}/ack"
        assert (await client.post(path)).status_code == 403
        assert not bench.worker.commands
        assert (await client.post(path, headers={"X-Tocsin": "1"})).status_code == 200


async def test_guessing_is_slowed_down(bench: Bench) -> None:
    """After five wrong passwords even the right one has to wait, for that user and address only."""
    async with bench.client(None) as client:
        for _ in range(5):
            wrong = await client.post("/session", json={"user": "operator", "password": "guess"})
            assert wrong.status_code == 401
        right = {"user": "operator", "password": PASSWORD}
        slowed = await client.post("/session", json=right)
        assert slowed.status_code == 429
        assert slowed.headers["retry-after"] == "2"
        other = await client.post("/session", json={"user": "regulator", "password": PASSWORD})
        assert other.status_code == 200
        bench.clock.move(2)
        assert (await client.post("/session", json=right)).status_code == 200


def test_made_up_names_free_no_guesser_and_keep_nobody_out() -> None:
    """A flood of names comes to a steady pace, whoever signed in there before does not, and old records stay."""
    clock = HandClock()
    brake = Brake(clock)
    brake.failed("regulator", "10.0.0.1")
    brake.succeeded("regulator", "10.0.0.1")
    for _ in range(FREE_FAILURES):
        brake.failed("operator", "10.0.0.1")
    passed = 0
    for number in range(1000):
        if brake.wait_s(f"user {number}", "10.0.0.1") == 0:
            brake.failed(f"user {number}", "10.0.0.1")
            passed += 1
    assert passed == OF_ADDRESS.free - FREE_FAILURES
    assert brake.wait_s("operator", "10.0.0.1") == 2
    assert brake.wait_s("user 0", "10.0.0.1") == OF_ADDRESS.each_s
    assert brake.wait_s("regulator", "10.0.0.1") == brake.wait_s("operator", "10.0.0.2") == 0
    clock.move(OF_ADDRESS.each_s)
    assert brake.wait_s("user 0", "10.0.0.1") == 0


def test_a_password_guessed_from_everywhere_is_guessed_slowly() -> None:
    """From more and more addresses a name comes to a steady pace; its owner's own address and other names do not."""
    brake = Brake(HandClock())
    brake.failed("operator", "10.9.9.9")
    brake.succeeded("operator", "10.9.9.9")
    passed = 0
    for number in range(1000):
        address = f"10.0.{number // 200}.{number % 200}"
        if brake.wait_s("operator", address) == 0:
            brake.failed("operator", address)
            passed += 1
    assert passed == OF_NAME.free
    assert brake.wait_s("operator", "10.8.8.8") == OF_NAME.each_s
    assert brake.wait_s("operator", "10.9.9.9") == brake.wait_s("regulator", "10.8.8.8") == 0


def test_the_record_of_guesses_is_bounded() -> None:
    """By the addresses and by an address's names, of which the one that was guessed most stays."""
    clock = HandClock()
    brake = Brake(clock)
    for number in range(3 * MOST_ADDRESSES):
        brake.failed(f"user {number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        brake.succeeded(f"user {number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    for _ in range(FREE_FAILURES):
        brake.failed("operator", "10.0.0.1")
    for number in range(3 * MOST_NAMES):
        clock.move(1)
        brake.failed(f"user {number}", "10.0.0.1")
    assert (len(brake._addresses), len(brake._familiar)) == (MOST_ADDRESSES, MOST_FAMILIAR)  # noqa: SLF001 -- memory is what it is about
    held = brake._addresses["10.0.0.1"].names  # noqa: SLF001 -- the same
    assert (len(held), held["operator"][0]) == (MOST_NAMES, FREE_FAILURES)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::2:1", "2001:db8::/64"),
        ("", ""),
    ],
)
def test_an_owner_of_many_addresses_is_one_stranger(address: str, place: str) -> None:
    """An IPv6 network counts as one, and an IPv4 address as itself however it is written."""
    assert place_of(address) == place


async def test_strangers_hold_nobody_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a crowd of one address's guesses, somebody elsewhere waits for one of them; made-up names cost as much."""
    checked: list[str] = []
    verify = PasswordHasher.verify

    def note(hasher: PasswordHasher, hashed: str, password: str) -> bool:
        checked.append(password)
        return bool(verify(hasher, hashed, password))

    monkeypatch.setattr(PasswordHasher, "verify", note)
    accounts = Accounts(bench.database, bench.clock)
    guesses = [asyncio.create_task(accounts.sign_in(f"user {n}", f"guess {n}", "10.0.0.1")) for n in range(8)]
    await eventually_async(lambda: checked)
    assert await accounts.sign_in("operator", PASSWORD, "10.0.0.2") is not None
    assert checked.index(PASSWORD) <= 3
    assert await asyncio.gather(*guesses) == [None] * 8
    assert len(checked) == 9


async def test_the_first_start_makes_one_administrator(bench: Bench) -> None:
    """The password is told once and works; a second start makes nobody."""
    assert await ensure_administrator(bench.database, bench.clock) is None
    async with bench.database.write() as session:
        for table in (Session, User):
            for row in await session.scalars(select(table)):
                await session.delete(row)
            await session.flush()
    password = await ensure_administrator(bench.database, bench.clock)
    assert password is not None
    assert len(password) >= 16
    signed_in = await Accounts(bench.database, bench.clock).sign_in("admin", password)
    assert signed_in is not None
    assert signed_in[0].role == "administrator"
    assert await ensure_administrator(bench.database, bench.clock) is None


async def test_signing_out_everywhere_ends_every_session_of_the_user(bench: Bench) -> None:
    """Both of two sessions are over, another user's goes on."""
    async with bench.client(None) as client, bench.client("operator") as second, bench.client("regulator") as other:
        token = (await client.post("/session", json={"user": "operator", "password": PASSWORD})).json()["token"]
        client.cookies.clear()
        answer = await client.delete(
            "/session", params={"everywhere": True}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 204
        assert (await second.get("/session")).status_code == 401
        assert (await other.get("/session")).status_code == 200


async def test_one_s_own_password_wants_the_old_one_and_ends_every_session(bench: Bench) -> None:
    """A wrong old one and a short new one are refused; afterwards only the new one signs in, and sessions are over."""
    async with bench.client("operator") as client:
        wrong = await client.post("/session/password", json={"old": "guess", "new": "a longer password"})
        assert (wrong.status_code, wrong.json()["detail"]) == (403, "The old password is wrong.")
        for _ in range(FREE_FAILURES):
            short = await client.post("/session/password", json={"old": PASSWORD, "new": "short"})
            assert (short.status_code, short.json()["detail"]) == (409, "a password has at least 10 characters")
        done = await client.post("/session/password", json={"old": PASSWORD, "new": "a longer password"})
        assert done.status_code == 204
        assert (await client.get("/session")).status_code == 401
        old = await client.post("/session", json={"user": "operator", "password": PASSWORD})
        new = await client.post("/session", json={"user": "operator", "password": "a longer password"})
        assert (old.status_code, new.status_code) == (401, 200)


async def test_old_passwords_cannot_be_guessed_at_leisure(bench: Bench) -> None:
    """Whoever found an open session is slowed down like whoever signs in."""
    async with bench.client("operator") as client:
        for _ in range(FREE_FAILURES):
            await client.post("/session/password", json={"old": "guess", "new": "a longer password"})
        slowed = await client.post("/session/password", json={"old": PASSWORD, "new": "a longer password"})
        assert slowed.status_code == 429


@on_both
async def test_odd_characters_are_a_wrong_password(bench: Bench) -> None:
    """What no database takes as a text is refused like any wrong user or password."""
    async with bench.client(None) as client:
        for body in (b'{"user": "\\ud800", "password": "x"}', b'{"user": "a\\u0000", "password": "\\udfff"}'):
            answer = await client.post("/session", content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in {401, 422}, answer.text
        odd = await client.get("/session", headers={b"Authorization": b"Bearer tocsin_\xff"})
        assert odd.status_code == 401
