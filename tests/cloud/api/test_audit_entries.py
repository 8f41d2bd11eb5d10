"""What the interface writes into the audit log: every command, every sign-in and every refusal, once and in order."""

import asyncio
import json
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import text

from tests.cloud.api.conftest import PASSWORD, Bench
from tests.cloud.api.stand_ins import occurrence, ticket
from tests.cloud.api.test_permissions import RULES
from tests.support.wait import eventually_async
from tocsin_cloud.adapters.audit import verify
from tocsin_cloud.api.build import PREFIX
from tocsin_cloud.api.recorder import REFUSALS_A_MINUTE
from tocsin_cloud.api.server import serving

pytestmark = pytest.mark.anyio


async def entries(bench: Bench) -> list[dict[str, Any]]:
    """The log as the regulator reads it, the earliest first; its chain holds."""
    async with bench.client("regulator") as client:
        found: list[dict[str, Any]] = (await client.get("/audit", params={"limit": 1000})).json()
    async with bench.database.read() as session:
        verdict = await verify(session, None, lambda _done, _total: None)
    assert (verdict.broken, verdict.entries) == (None, len(found))
    return found[::-1]


def brief(entry: dict[str, Any]) -> tuple[str, str, str, str]:
    """Who did what, to what, and what came of it."""
    return entry["who"], entry["action"], entry["target"], entry["outcome"]


async def test_a_command_stands_before_and_after_its_answer(bench: Bench) -> None:
    """What was asked is there whatever becomes of it; then that it was done, by whom and from where."""
    await bench.put(occurrence(1))
    identity = f"{1:016x}"
    async with bench.client("operator") as client:
        body = {"duration_s": 60, "reason": "维修"}
        assert (await client.post(f"/alarms/{identity}/shelve", json=body)).status_code == 200
    asked, done = await entries(bench)
    assert [brief(asked), brief(done)] == [
        ("operator", "alarm.shelve", identity, "asked"),
        ("operator", "alarm.shelve", identity, "done"),
    ]
    assert (asked["role"], asked["origin"]) == ("operator", "127.0.0.1")
    assert asked["detail"] == done["detail"]
    assert (asked["detail"]["reason"], asked["detail"]["duration_s"]) == ("维修", "60")
    assert asked["detail"]["command"] == bench.worker.commands[0].id


async def test_what_became_of_a_command_is_told_however_it_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the worker with its reason, not taken by the stream, never answered: each after what was asked."""
    monkeypatch.setattr("tocsin_cloud.api.routes.alarms.ANSWER_TIMEOUT_S", 0.05)
    await bench.put(occurrence(1))
    path = f"/alarms/{1:016x}/ack"
    async with bench.client("operator") as client:
        bench.worker.refuses = "the alarm is not active"
        assert (await client.post(path)).status_code == 409
        bench.worker.unreachable = True
        assert (await client.post(path)).status_code == 503
        bench.worker.unreachable, bench.worker.silent = False, True
        assert (await client.post(path)).status_code == 504
    found = await entries(bench)
    ends = ["refused", "refused", "unanswered"]
    assert [each["outcome"] for each in found] == [word for end in ends for word in ("asked", end)]
    assert found[1]["detail"]["why"] == "the alarm is not active"
    assert [each["detail"]["command"] for each in found[::2]] == [command.id for command in bench.worker.commands]


async def test_a_command_that_waits_when_the_interface_ends_has_its_end_too(bench: Bench) -> None:
    """Whoever gave it is told that nobody has answered, and the log says so, before the process is gone."""
    await bench.put(occurrence(1))
    bench.worker.silent = True
    headers = {"Authorization": f"Bearer {bench.tokens['operator']}"}
    async with httpx.AsyncClient(headers=headers) as client:
        async with serving(bench.app, "127.0.0.1", 0) as server:
            path = f"http://{server.host}:{server.port}/api/v1/alarms/{1:016x}/ack"
            asking = asyncio.create_task(client.post(path))
            await eventually_async(lambda: bench.worker.commands)
        assert (await asking).status_code == 504
    assert [each["outcome"] for each in await entries(bench)] == ["asked", "unanswered"]


async def test_tickets_sign_ins_and_refusals_are_entries(bench: Bench) -> None:
    """The steps of a ticket with their words, a refused step, a missing permission, wrong passwords, signing out."""
    await bench.put(ticket(1))
    async with bench.client(None) as client:
        await client.post("/session", json={"user": "operator", "password": "guess"})
        await client.post("/session", json={"user": "my secret password", "password": "operator"})
        token = (await client.post("/session", json={"user": "operator", "password": PASSWORD})).json()["token"]
        client.cookies.clear()
        client.headers["Authorization"] = f"Bearer {token}"
        assert (await client.post("/tickets/HD-1/submit", json={"measures": "换垫片"})).status_code == 200
        assert (await client.post("/tickets/HD-1/submit", json={"measures": "again"})).status_code == 409
        assert (await client.post("/tickets/HD-1/accept", json={"comment": "x"})).status_code == 403
        assert (await client.delete("/session")).status_code == 204
    found = await entries(bench)
    assert [brief(each) for each in found] == [
        ("operator", "session.open", "operator", "refused"),
        ("", "session.open", "", "refused"),
        ("operator", "session.open", "operator", "done"),
        ("operator", "ticket.submit", "HD-1", "done"),
        ("operator", "ticket.submit", "HD-1", "refused"),
        ("operator", "permission", "POST /api/v1/tickets/HD-1/accept", "refused"),
        ("operator", "session.close", "operator", "done"),
    ]
    assert found[3]["detail"] == {"text": "换垫片"}
    assert found[5]["detail"] == {"permission": "tickets.accept"}
    assert "secret" not in json.dumps(found)
    assert PASSWORD not in json.dumps(found)


# Each call that changes something: who asks, what is sent, and the action that the log tells.
CHANGING: Final[dict[str, tuple[str, dict[str, Any], str]]] = {
    "POST /session": ("operator", {"user": "operator", "password": PASSWORD}, "session.open"),
    "POST /alarms/{occurrence}/ack": ("operator", {}, "alarm.ack"),
    "POST /alarms/{occurrence}/unacknowledge": ("operator", {}, "alarm.unacknowledge"),
    "POST /alarms/{occurrence}/shelve": ("operator", {"duration_s": 60, "reason": "x"}, "alarm.shelve"),
    "POST /alarms/{occurrence}/unshelve": ("operator", {}, "alarm.unshelve"),
    "POST /alarms/{occurrence}/out-of-service": ("shift-leader", {"reason": "x"}, "alarm.out-of-service"),
    "POST /alarms/{occurrence}/in-service": ("shift-leader", {}, "alarm.in-service"),
    "POST /alarms/{occurrence}/reset": ("operator", {}, "alarm.reset"),
    "POST /tickets/{ticket}/submit": ("operator", {"measures": "x"}, "ticket.submit"),
    "POST /tickets/{ticket}/accept": ("safety-officer", {"comment": "x"}, "ticket.accept"),
    "POST /tickets/{ticket}/reject": ("safety-officer", {"comment": "x"}, "ticket.reject"),
    "POST /users": (
        "administrator", {"user": "li", "name": "Li", "role": "operator", "password": "a long password"}, "user.add",
    ),
    "PATCH /users/{user}": ("administrator", {"role": "regulator"}, "user.change"),
    "POST /users/{user}/tokens": ("administrator", {"label": "x", "role": "regulator", "days": 1}, "token.make"),
    "DELETE /tokens/{token}": ("administrator", {}, "token.revoke"),
    "DELETE /users/{user}/sessions": ("administrator", {}, "session.close-all"),
    "POST /session/password": ("operator", {"old": PASSWORD, "new": "a longer password"}, "user.change"),
    "DELETE /session": ("shift-leader", {}, "session.close"),
}  # fmt: skip
TICKETS: Final = {"ticket.submit": "HD-1", "ticket.accept": "HD-2", "ticket.reject": "HD-3"}


async def test_every_call_that_changes_something_is_an_entry(bench: Bench) -> None:
    """There is no other one, and the last entry behind each is its own, done by whoever asked."""
    routes = {f"{rule.method} {rule.path.removeprefix(PREFIX)}" for rule in RULES if rule.method != "GET"}
    assert routes == CHANGING.keys()
    waits = {"state": "awaiting-acceptance", "submitted_by": "wang"}
    await bench.put(occurrence(1, phase="normal"), ticket(1), ticket(2, **waits), ticket(3, **waits))
    made: dict[str, str] = {}
    for route, (role, body, action) in CHANGING.items():
        method, path = route.split()
        path = path.format(occurrence=f"{1:016x}", ticket=TICKETS.get(action), user="li", token=made.get("id"))
        async with bench.client(role) as client:
            answer = await client.request(method, path, json=body or None)
        assert answer.is_success, (route, answer.text)
        if action == "token.make":
            made = answer.json()
        last = (await entries(bench))[-1]
        assert (last["who"], last["action"], last["outcome"]) == (role, action, "done"), route


async def test_guesses_cannot_fill_the_disk(bench: Bench) -> None:
    """Beyond so many refusals a minute they are counted, and the next entry says how many there were."""
    async with bench.client("operator") as client:
        for _ in range(REFUSALS_A_MINUTE + 7):
            assert (await client.get("/audit")).status_code == 403
        assert len(await entries(bench)) == REFUSALS_A_MINUTE
        assert bench.ports.metrics.get_sample_value("tocsin_audit_refusals_unwritten_total") == 7
        bench.clock.move(60)
        assert (await client.get("/audit")).status_code == 403
    last = (await entries(bench))[-1]
    assert last["detail"] == {"permission": "audit.read", "unwritten": 7}


async def test_the_log_is_read_page_by_page(bench: Bench) -> None:
    """The newest first; `before` goes on where a page ended."""
    async with bench.client("operator") as client:
        for _ in range(5):
            await client.get("/audit")
    async with bench.client("safety-officer") as client:
        first = (await client.get("/audit", params={"limit": 2})).json()
        second = (await client.get("/audit", params={"limit": 2, "before": first[-1]["seq"]})).json()
    assert [each["seq"] for each in [*first, *second]] == [5, 4, 3, 2]


SPOILT: Final = (
    "detail = 'no JSON'",
    "at_ns = 'now'",
    "detail = CAST(x'ff' AS TEXT)",
    "outcome = 'perhaps'",
    "who = x'00'",
    "detail = '[1]'",
    "at_ns = 9223372036854775807",
    "target = 'another'",
)


async def test_a_spoilt_entry_hides_no_other_and_is_named(bench: Bench) -> None:
    """Whatever somebody has put into a row: the page of the log shows it as far as it can, and all the others."""
    async with bench.client("operator") as client:
        for _ in range(len(SPOILT) + 1):
            await client.get("/audit")
    async with bench.database.write() as session:
        await session.execute(text("DROP TRIGGER audit_update"))
        for seq, what in enumerate(SPOILT, 1):
            await session.execute(text(f"UPDATE audit SET {what} WHERE seq = {seq}"))  # noqa: S608 -- of the list above
    async with bench.client("regulator") as client:
        shown = (await client.get("/audit")).raise_for_status().json()
    assert [(each["seq"], each["broken"]) for each in shown] == [
        (9, False), *((seq, True) for seq in range(len(SPOILT), 0, -1)),
    ]  # fmt: skip
    by_seq = {each["seq"]: each for each in shown}
    assert [seq for seq, each in by_seq.items() if each["at"] is None] == [7, 2]
    assert [seq for seq, each in by_seq.items() if each["outcome"] is None] == [4]
    assert (by_seq[1]["detail"], by_seq[5]["who"], by_seq[8]["target"]) == ({"text": "no JSON"}, "b'\\x00'", "another")
