"""Signing in and out, what each role may do, and how the interface defends itself."""

import pytest
from sqlalchemy import select

from tests.cloud.api.conftest import PASSWORD, Bench
from tests.cloud.api.stand_ins import HandClock, occurrence, ticket
from tocsin_cloud.adapters.accounts import SESSION_S, Accounts, ensure_administrator
from tocsin_cloud.adapters.sql.models import Session, User
from tocsin_cloud.api.brake import FREE_FAILURES, MOST_KEYS, Brake

pytestmark = pytest.mark.anyio


async def test_a_password_buys_a_token_and_a_cookie(bench: Bench) -> None:
    """Both open the interface, and the cookie is out of reach of scripts and of other sites."""
    async with bench.client(None) as client:
        answer = await client.post("/session", json={"user": "operator", "password": PASSWORD})
        assert answer.status_code == 200
        token = answer.json().pop("token")
        assert answer.json() == {"user": "operator", "name": "Operator", "role": "operator", "token": token}
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert (await client.get("/session")).json() == {"user": "operator", "name": "Operator", "role": "operator"}
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


def test_the_record_of_guesses_is_bounded() -> None:
    """A flood of names pushes the oldest record out instead of filling the memory."""
    brake = Brake(HandClock())
    for _ in range(FREE_FAILURES):
        brake.failed("operator", "10.0.0.1")
    assert brake.wait_s("operator", "10.0.0.1") == 2
    assert brake.wait_s("operator", "10.0.0.2") == 0
    for number in range(MOST_KEYS):
        brake.failed(f"user {number}", "10.0.0.1")
    assert brake.wait_s("operator", "10.0.0.1") == 0


MAY = {
    f"/alarms/{1:016x}/ack": ({}, {"operator", "shift-leader", "safety-officer", "administrator"}),
    f"/alarms/{1:016x}/shelve": (
        {"duration_s": 60, "reason": "test"},
        {"operator", "shift-leader", "safety-officer", "administrator"},
    ),
    f"/alarms/{1:016x}/out-of-service": ({"reason": "test"}, {"shift-leader", "safety-officer", "administrator"}),
    "/tickets/HD-1/submit": ({"measures": "x"}, {"operator", "shift-leader", "safety-officer", "administrator"}),
    "/tickets/HD-2/accept": ({"comment": "x"}, {"safety-officer", "administrator"}),
    "/tickets/HD-2/reject": ({"comment": "x"}, {"safety-officer", "administrator"}),
}


@pytest.mark.parametrize("path", MAY)
@pytest.mark.parametrize("role", ["regulator", "operator", "shift-leader", "safety-officer", "administrator"])
async def test_each_role_may_do_its_part(bench: Bench, path: str, role: str) -> None:
    """A regulator only reads, a shift answers alarms, its leader takes them out, a safety officer accepts work."""
    await bench.put(
        occurrence(1, phase="normal"), ticket(1), ticket(2, state="awaiting-acceptance", submitted_by="wang")
    )
    body, allowed = MAY[path]
    async with bench.client(role) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == (200 if role in allowed else 403), answer.text


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
