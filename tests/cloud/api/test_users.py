"""Users and API tokens: made, changed and shut out by administrators, each change with its entry in the audit log."""

import asyncio

import httpx
import pytest
from sqlalchemy import select

from tests.cloud.api.conftest import PASSWORD, Bench
from tests.cloud.api.stand_ins import occurrence
from tests.support.postgres import on_both
from tocsin_cloud.adapters.accounts import Accounts
from tocsin_cloud.adapters.audit_chain import Actor
from tocsin_cloud.adapters.roles import Role
from tocsin_cloud.adapters.sql.models import ApiToken
from tocsin_cloud.adapters.users import Change, UserError, Users

pytestmark = pytest.mark.anyio

LI = {"user": "li", "name": "李工", "role": "operator", "password": "a long password"}


def bearer(token: str) -> dict[str, str]:
    """The header that shows `token`."""
    return {"Authorization": f"Bearer {token}"}


async def actions(client: httpx.AsyncClient) -> list[tuple[str, str, str]]:
    """What the audit log says was done, to what, and with what outcome; the earliest first."""
    found = (await client.get("/audit")).json()[::-1]
    return [(each["action"], each["target"], each["outcome"]) for each in found]


@on_both
async def test_a_user_is_made_changed_and_shut_out(bench: Bench) -> None:
    """A role counts at once; a new password and shutting out end the sessions; nothing shows a password."""
    async with bench.client("administrator") as admin, bench.client(None) as client:
        made = await admin.post("/users", json=LI)
        assert made.status_code == 201
        assert made.json() | {"created_at": ""} == {
            "user": "li", "name": "李工", "role": "operator", "disabled": False, "created_at": ""
        }  # fmt: skip
        session = await client.post("/session", json={"user": "li", "password": LI["password"]})
        shown = bearer(session.json()["token"])
        client.cookies.clear()
        assert (await admin.patch("/users/li", json={"role": "regulator"})).json()["role"] == "regulator"
        assert (await client.get("/session", headers=shown)).json()["may"] == ["audit.read", "plant.read"]
        assert (await admin.patch("/users/li", json={"disabled": True})).json()["disabled"] is True
        assert (await client.get("/session", headers=shown)).status_code == 401
        assert (await client.post("/session", json={"user": "li", "password": LI["password"]})).status_code == 401
        assert (await admin.patch("/users/li", json={"disabled": False})).status_code == 200
        # A session that was ended stays so.
        assert (await client.get("/session", headers=shown)).status_code == 401
        users = await admin.get("/users")
        assert [each["user"] for each in users.json()] == sorted([*bench.tokens, "li"])
        assert "argon2" not in users.text
        assert await actions(admin) == [
            ("user.add", "li", "done"),
            ("session.open", "li", "done"),
            ("user.change", "li", "done"),
            ("user.change", "li", "done"),
            ("session.open", "", "refused"),
            ("user.change", "li", "done"),
        ]


async def test_what_cannot_be_is_refused_and_recorded(bench: Bench) -> None:
    """A name that is taken or will not do, a short password, nobody known, and a plant without administrator."""
    async with bench.client("administrator") as admin:
        for body, status in (
            (LI | {"user": "operator"}, 409),
            (LI | {"user": "a b/c"}, 409),
            (LI | {"user": "Tocsin"}, 409),
            (LI | {"password": "short"}, 409),
            (LI | {"role": "king"}, 422),
        ):
            assert (await admin.post("/users", json=body)).status_code == status, body
        assert (await admin.patch("/users/nobody", json={"name": "x"})).status_code == 404
        assert (await admin.delete("/users/nobody/sessions")).status_code == 404
        for change in ({"disabled": True}, {"role": "operator"}):
            answer = await admin.patch("/users/administrator", json=change)
            assert (answer.status_code, answer.json()["detail"]) == (409, "nobody would be administrator any more")
        assert (await admin.get("/session")).json()["role"] == "administrator"
        assert {outcome for _, _, outcome in await actions(admin)} == {"refused"}
        assert len(await actions(admin)) == 8


@on_both
async def test_two_administrators_cannot_shut_each_other_out_at_once(bench: Bench) -> None:
    """Asked at the same moment, one is carried out and the other refused."""
    users = Users(bench.database, bench.clock, Accounts(bench.database, bench.clock))
    here = Actor("root", "", "command line")
    await users.add(here, "li", "李工", Role.ADMINISTRATOR, LI["password"])
    asked = (users.change(here, user, Change(role=Role.REGULATOR)) for user in ("li", "administrator"))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers].count(UserError) == 1
    assert [each.role for each in await users.everybody()].count("administrator") == 1


async def test_an_administrator_signs_somebody_out_everywhere(bench: Bench) -> None:
    """Every session of that user is over, and no other."""
    async with bench.client("administrator") as admin, bench.client("operator") as client:
        assert (await admin.delete("/users/operator/sessions")).status_code == 204
        assert (await client.get("/session")).status_code == 401
        assert (await admin.get("/session")).status_code == 200


@on_both
async def test_a_token_acts_for_its_user_until_it_is_revoked(bench: Bench) -> None:
    """It is told once and kept as a digest; its use is noted to the minute; the log names it and its user."""
    await bench.put(occurrence(1))
    async with bench.client("administrator") as admin, bench.client(None) as program:
        wanted = {"label": "SMS gateway", "role": "operator"}
        made = (await admin.post("/users/shift-leader/tokens", json=wanted)).json()
        token = made.pop("token")
        assert token.startswith("tocsin_")
        assert (await admin.get("/tokens")).json() == [made]
        assert (made["user"], made["role"], made["last_used_at"]) == ("shift-leader", "operator", None)
        async with bench.database.read() as session:
            kept = (await session.scalars(select(ApiToken))).one()
        assert token not in {kept.id, kept.token_hash}
        program.headers.update(bearer(token))
        assert (await program.post(f"/alarms/{1:016x}/ack")).status_code == 200
        assert (await program.post(f"/alarms/{1:016x}/out-of-service", json={"reason": "x"})).status_code == 403
        assert (await admin.get("/tokens")).json()[0]["last_used_at"] is not None
        assert (await program.delete("/session")).status_code == 409
        own = await program.post("/session/password", json={"old": PASSWORD, "new": "another password"})
        assert own.status_code == 409
        acknowledged = (await admin.get("/audit", params={"limit": 2})).json()[-1]
        assert (acknowledged["who"], acknowledged["origin"]) == ("shift-leader", f"127.0.0.1 token {made['id']}")
        assert (await admin.delete(f"/tokens/{made['id']}")).status_code == 204
        assert (await program.get("/session")).status_code == 401
        assert (await admin.delete("/tokens/nothing")).status_code == 404


async def test_a_token_may_no_more_than_its_user(bench: Bench) -> None:
    """A token made too wide, a user who loses a role, one who is shut out, a time that is over: each narrows it."""
    async with bench.client("administrator") as admin, bench.client(None) as program:
        wanted = {"label": "x", "role": "administrator", "days": 1}
        made = (await admin.post("/users/operator/tokens", json=wanted)).json()
        program.headers.update(bearer(made["token"]))
        may = ["alarms.answer", "plant.read", "tickets.rectify"]
        assert (await program.get("/session")).json()["may"] == may
        assert (await program.get("/users")).status_code == 403
        await admin.patch("/users/operator", json={"role": "regulator"})
        assert (await program.get("/session")).json()["may"] == ["audit.read", "plant.read"]
        await admin.patch("/users/operator", json={"disabled": True})
        assert (await program.get("/session")).status_code == 401
        await admin.patch("/users/operator", json={"disabled": False})
        assert (await program.get("/session")).status_code == 200
        bench.clock.move(86_400)
        assert (await program.get("/session")).status_code == 401
