"""The permission table: every route has its rule, and every role gets from every route what the table says."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from tests.cloud.api.conftest import Bench
from tests.cloud.api.stand_ins import occurrence, ticket
from tests.support.need import ROOT
from tocsin_cloud.adapters.roles import GRANTED, Permission, Role
from tocsin_cloud.api.build import PREFIX, Interface
from tocsin_cloud.api.security import Needs

pytestmark = pytest.mark.anyio

# What strangers may ask: to sign in, and whether the process lives.
OPEN: Final = {f"POST {PREFIX}/session", "GET /healthz", "GET /readyz", "GET /metrics"}
PAGE: Final = ROOT / "docs" / "users.md"


class Rule(NamedTuple):
    """One route, and what it needs."""

    method: str
    path: str
    needs: tuple[Needs, ...]


def _needs(dependant: Dependant) -> Iterator[Needs]:
    for each in dependant.dependencies:
        if isinstance(each.call, Needs):
            yield each.call
        yield from _needs(each)


def rules() -> list[Rule]:
    """Every route of the interface with what it needs."""
    return [
        Rule(method, str(route.path), tuple(_needs(route.dependant)))
        for route in iter_route_contexts(Interface().routes)
        for method in sorted(set(route.methods or ()) - {"HEAD"})
    ]


RULES: Final = rules()


def test_every_route_has_exactly_one_rule() -> None:
    """A route is open to strangers by name, or needs one thing; none was forgotten, and the walk sees them all."""
    described = Interface().openapi()["paths"].items()
    walked = {f"{rule.method} {rule.path}" for rule in RULES}
    assert {f"{method.upper()} {path}" for path, methods in described for method in methods} == {
        told.replace(":path}", "}") for told in walked
    }
    for rule in RULES:
        wanted = 0 if f"{rule.method} {rule.path}" in OPEN else 1
        assert len(rule.needs) == wanted, f"{rule.method} {rule.path}"
    assert {f"{rule.method} {rule.path}" for rule in RULES if not rule.needs} == OPEN


def test_every_permission_is_needed_somewhere_and_held_by_somebody() -> None:
    """The table has neither dead rows nor a role without a column."""
    assert {need.permission for rule in RULES for need in rule.needs} == {*Permission, None}
    assert set(GRANTED) == set(Role)
    assert frozenset().union(*GRANTED.values()) == set(Permission)
    changing = {rule.path for rule in RULES if rule.method != "GET" and rule.needs[:1] == (Needs(Permission.READ),)}
    assert changing == set()


@pytest.mark.parametrize("role", Role)
async def test_each_role_may_what_the_table_says(bench: Bench, role: Role) -> None:
    """Every route is asked by every role: what it lacks is named in a 403, anything else is let through."""
    bench.missing.append("an event stream would not end")
    async with bench.client(role) as client:
        for rule in RULES:
            if not rule.needs or (rule.method, rule.path) == ("DELETE", f"{PREFIX}/session"):
                continue
            (need,) = rule.needs
            answer = await client.request(rule.method, _filled(rule.path))
            told = f"{role}: {rule.method} {rule.path} answers {answer.status_code}: {answer.text[:200]}"
            if need.permission is None or need.permission in GRANTED[role]:
                assert answer.status_code not in {401, 403, 500}, told
            else:
                assert answer.status_code == 403, told
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["permission"] == need.permission


async def test_strangers_get_nothing(bench: Bench) -> None:
    """Without a token every route that needs anything answers 401."""
    async with bench.client(None) as client:
        for rule in RULES:
            if rule.needs:
                answer = await client.request(rule.method, _filled(rule.path))
                assert answer.status_code == 401, f"{rule.method} {rule.path}"


def _filled(path: str) -> str:
    return "http://tocsin" + re.sub(r"\{[^}]*\}", "x", path)


MAY: Final = {
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
@pytest.mark.parametrize("role", Role)
async def test_each_role_does_its_part(bench: Bench, path: str, role: Role) -> None:
    """A regulator only reads, a shift answers alarms, its leader takes them out, a safety officer accepts work."""
    await bench.put(
        occurrence(1, phase="normal"), ticket(1), ticket(2, state="awaiting-acceptance", submitted_by="wang")
    )
    body, allowed = MAY[path]
    async with bench.client(role) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == (200 if role in allowed else 403), answer.text


def test_the_page_has_the_table() -> None:
    """docs/users.md shows who may do what as the code has it."""
    header, _line, *lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    roles = [cell.strip(" `") for cell in header.split("|")[3:-1]]
    assert roles == [str(role) for role in Role]
    shown = {}
    for line in lines[: len(Permission)]:
        permission, _meaning, *marks = [cell.strip(" `") for cell in line.split("|")[1:-1]]
        shown[permission] = {role for role, mark in zip(roles, marks, strict=True) if mark == "✓"}
    assert shown == {str(each): {str(role) for role in Role if each in GRANTED[role]} for each in Permission}
