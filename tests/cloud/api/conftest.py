"""The HTTP interface over a real database and stand-ins at its other ports."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy.engine import URL
from sqlalchemy.orm import DeclarativeBase

from tests.cloud.api.stand_ins import PLANT, START_NS, AlarmsWorker, Bus, HandClock, LiveTable, StoredTrend
from tocsin_cloud.adapters.accounts import SESSION_S, token_hash
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import Session, User
from tocsin_cloud.api.build import build_api
from tocsin_cloud.api.ports import ApiPorts
from tocsin_core.plant import load_plant

PASSWORD: Final = "correct horse"
ROLES: Final = ("operator", "shift-leader", "safety-officer", "regulator", "administrator")


@dataclass
class Bench:
    """The interface under test with everything behind it."""

    app: FastAPI
    ports: ApiPorts
    database: Database
    clock: HandClock
    live: LiveTable
    history: StoredTrend
    worker: AlarmsWorker
    bus: Bus
    tokens: dict[str, str]
    missing: list[str]

    def client(self, role: str | None = "operator") -> httpx.AsyncClient:
        """Return a client that shows the token of somebody with `role`, or none."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://tocsin/api/v1", headers=headers)

    async def put(self, *rows: DeclarativeBase) -> None:
        """Commit `rows`, each in its turn."""
        async with self.database.write() as session:
            for row in rows:
                session.add(row)
                await session.flush()


@pytest.fixture
def anyio_backend() -> str:
    """Run the tests on asyncio, which is what the product runs on."""
    return "asyncio"


@pytest.fixture
def console(tmp_path: Path) -> Path:
    """Return a folder with a built page."""
    folder = tmp_path / "console"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Tocsin</title>", encoding="utf-8")
    (folder / "assets" / "index-4f3a.js").write_text("export {}", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def password_hash() -> str:
    """Return the hash of `PASSWORD`, made once: it is slow on purpose."""
    return PasswordHasher().hash(PASSWORD)


@pytest.fixture
async def bench(tmp_path: Path, sql_url: URL, console: Path, password_hash: str) -> AsyncIterator[Bench]:
    """Return the interface over an empty database, with one user for each role, named like it, signed in."""
    (tmp_path / "north").mkdir()
    (tmp_path / "north" / "plant.yaml").write_text(PLANT, encoding="utf-8")
    database = await Database.open(sql_url)
    clock, live, bus, missing = HandClock(), LiveTable(), Bus(), list[str]()
    history, worker = StoredTrend(60), AlarmsWorker(database, clock)
    ports = ApiPorts(
        plant=load_plant(tmp_path / "north"),
        database=database,
        history=history,
        live=live,
        commands=worker,
        events=bus,
        clock=clock,
        metrics=CollectorRegistry(),
        ready=lambda: missing[0] if missing else None,
        console=console,
    )
    tokens = {role: f"token of the {role}" for role in ROLES}
    until = START_NS + SESSION_S * 1_000_000_000
    made = Bench(build_api(ports), ports, database, clock, live, history, worker, bus, tokens, missing)
    users = [
        User(name=role, display=role.title(), role=role, password_hash=password_hash, created_ns=START_NS)
        for role in ROLES
    ]
    sessions = [
        Session(token_hash=token_hash(token), user=role, created_ns=START_NS, expires_ns=until)
        for role, token in tokens.items()
    ]
    await made.put(*users, *sessions)
    yield made
    await database.close()
