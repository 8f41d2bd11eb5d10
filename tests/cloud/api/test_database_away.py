"""The HTTP interface while the database is away: said as what it is, in both languages, and over when it is back."""

from typing import Final

import pytest

from tests.cloud.api.conftest import PASSWORD, Bench
from tests.support.database import failing
from tocsin_cloud.api.brake import FIRST_WAIT_S, FREE_FAILURES

pytestmark = pytest.mark.anyio

CALLS: Final[tuple[tuple[str, str, dict[str, str] | None], ...]] = (
    ("GET", "/alarms", None),
    ("GET", "/health", None),
    ("GET", "/events", None),
    ("POST", f"/alarms/{1:016x}/ack", {}),
    ("POST", "/session", {"user": "operator", "password": PASSWORD}),
    ("DELETE", "/session", None),
)


async def test_a_database_that_is_away_is_a_503_for_a_while(bench: Bench) -> None:
    """Reads, commands and sign-ins answer with a problem and when to come back; nobody is signed out by it."""
    async with bench.client() as client:
        with failing(bench.database):
            for method, path, body in CALLS:
                answer = await client.request(method, path, json=body)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), path
                assert answer.headers["content-type"] == "application/problem+json"
                told = answer.json()
                assert (told["title"], told["status"]) == ("Service Unavailable", 503)
                assert "数据库" in told["detail"]
                assert "database" in told["detail"]
        assert (await client.get("/alarms")).status_code == 200


async def test_who_is_ready_has_a_database(bench: Bench) -> None:
    """/readyz is 503 with the reason and when to ask again; /healthz says that the process lives."""
    async with bench.client() as client:
        assert (await client.get("http://tocsin/readyz")).json() == {"status": "ok", "reason": None}
        with failing(bench.database):
            answer = await client.get("http://tocsin/readyz")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert "数据库" in answer.json()["reason"]
            assert (await client.get("http://tocsin/healthz")).status_code == 200
        assert (await client.get("http://tocsin/readyz")).status_code == 200


async def test_a_database_that_is_away_makes_nobody_a_guesser(bench: Bench) -> None:
    """However often one tried meanwhile, the right password is taken at once; the guesses before still count."""
    right, wrong = ({"user": "operator", "password": given} for given in (PASSWORD, "guess"))
    async with bench.client(None) as client:
        for _ in range(FREE_FAILURES - 1):
            assert (await client.post("/session", json=wrong)).status_code == 401
        with failing(bench.database):
            for _ in range(FREE_FAILURES):
                assert (await client.post("/session", json=right)).status_code == 503
        assert (await client.post("/session", json=wrong)).status_code == 401
        assert (await client.post("/session", json=right)).status_code == 429
        bench.clock.move(FIRST_WAIT_S)
        assert (await client.post("/session", json=right)).status_code == 200
