"""Ways to people tried on real servers without a word to anybody, and what is told of those that do not work."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apprise
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.cloud.api.stand_ins import PLANT, HandClock
from tests.support.ports import free_port
from tests.support.wait import eventually_async
from tocsin_cloud.adapters import channel_probe
from tocsin_cloud.adapters.channels import ChannelError, Channels
from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.adapters.metrics_watch import WatchMetrics
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.app import _tell_people
from tocsin_cloud.loops import ways as looking
from tocsin_cloud.loops.ways import AGAIN_S, EVERY_S, Ways
from tocsin_core.clock import SystemClock
from tocsin_core.plant import load_plant

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Run the tests on asyncio."""
    return "asyncio"


@contextmanager
def web_server(port: int = 0) -> Iterator[tuple[int, list[str]]]:
    """The port of a web server that knows POST alone, and what was asked of it."""
    asked: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_request(self, *_parts: object) -> None:
            asked.append(f"{self.command} {self.path}")

        def log_message(self, *_parts: object) -> None:
            """Stay silent."""

    with HTTPServer(("127.0.0.1", port), Hook) as server:
        answering = threading.Thread(target=server.serve_forever, daemon=True)
        answering.start()
        yield server.server_port, asked
        server.shutdown()
        answering.join()


class Mails:
    """A mail server's hand: takes mail, and remembers that it did."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.seen: list[str] = []

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient."""
        envelope.rcpt_tos.append(address)
        self.seen.append(address)
        return "250 OK"


def _is_right(_server: SMTP, _session: Session, _envelope: Envelope, _kind: str, shown: LoginPassword) -> AuthResult:
    return AuthResult(success=shown.password == b"right word")


async def test_a_mail_server_has_to_take_name_and_password(tmp_path: Path) -> None:
    """Nobody is written to; a wrong password, and a server that is away, are told without any of the address."""
    mails, channels = Mails(), Channels(tmp_path)
    server = Controller(mails, hostname="127.0.0.1", port=free_port(), authenticator=_is_right, auth_require_tls=False)
    of = f"@127.0.0.1:{server.port}?from=tocsin@north.example&to=wang@north.example&mode=insecure"
    server.start()
    try:
        await channels.probe(f"mailto://tocsin:right word{of}".replace(" ", "%20"))
        with pytest.raises(ChannelError) as wrong:
            await channels.probe(f"mailto://tocsin:other word{of}".replace(" ", "%20"))
    finally:
        server.stop()
    assert "other word" not in str(wrong.value)
    assert mails.seen == []
    with pytest.raises(ChannelError, match="refused"):
        await channels.probe(f"mailto://tocsin:right%20word{of}")


@pytest.mark.parametrize("kind", ["json", "xml", "form"])
async def test_a_web_server_has_to_answer_whatever_it_likes(tmp_path: Path, kind: str) -> None:
    """It is asked for nothing of the hook's, and refuses that: it is there."""
    channels = Channels(tmp_path)
    with web_server() as (port, asked):
        await channels.probe(f"{kind}://127.0.0.1:{port}/hook/s3cret")
    assert asked == ["HEAD /"]
    with pytest.raises(ChannelError) as away:
        await channels.probe(f"{kind}://127.0.0.1:{port}/hook/s3cret")
    assert "s3cret" not in str(away.value)


async def test_who_takes_a_connection_and_ends_it_is_there_and_who_hangs_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small box that knows its own messages alone is no dead one; one that says nothing is."""
    monkeypatch.setattr(channel_probe, "ANSWER_S", 0.2)
    channels = Channels(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def end_one() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)

        ending = threading.Thread(target=end_one, daemon=True)
        ending.start()
        await channels.probe(f"json://127.0.0.1:{port}/")
        ending.join()
        with pytest.raises(ChannelError):
            await channels.probe(f"json://127.0.0.1:{port}/")


async def test_what_cannot_be_tried_passes_and_what_is_no_address_does_not(tmp_path: Path) -> None:
    """The demo's outbox, and a service on a server of one's own of which nobody knows how it is asked."""
    channels = Channels(tmp_path)
    await channels.probe("outbox://wang")
    await channels.probe(f"gotify://127.0.0.1:{free_port()}/token")
    with pytest.raises(ChannelError, match="is no address that Apprise understands"):
        await channels.probe("mailtoo://wang@north.example")


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("dingtalk://AAAAAAAAAAAA/13800000000", "https://oapi.dingtalk.com/"),
        ("jsons://sms.example:8443/send", "https://sms.example:8443/"),
        ("form://sms.example/send", "http://sms.example/"),
        (f"twilio://AC{'0' * 32}:{'0' * 32}@15551234567/15557654321", "https://api.twilio.com/"),
        ("pagerduty://INTEGRATION@KEY", None),
        ("ntfys://ntfy.example/alarm", None),
    ],
)
def test_where_a_web_service_is_asked(address: str, server: str | None) -> None:
    """Where Apprise itself would go, and nowhere else."""
    service = apprise.Apprise.instantiate(address)
    assert service is not None
    assert channel_probe._web_server(service) == server  # noqa: SLF001 -- foreign servers are not asked in tests


async def test_a_way_that_fails_twice_is_told_until_it_works(tmp_path: Path) -> None:
    """Not at the first failure: its server may just be starting. One address of each service is tried."""
    clock, registry, port = HandClock(), CollectorRegistry(), free_port()
    watch = WatchMetrics(registry)
    channels = [f"json://127.0.0.1:{port}/{person}" for person in ("wang", "li")]
    ways = Ways(Channels(tmp_path), [*channels, "outbox://wang"], clock, watch.ways_dead)

    async def dead_after(seconds: float) -> tuple[float | None, ...]:
        clock.move(seconds)
        await ways.look()
        return tuple(registry.get_sample_value("tocsin_ways_dead", {"channel": kind}) for kind in ("json", "outbox"))

    with capture_logs() as logs:
        assert await dead_after(0) == (0, 0)
        assert await dead_after(AGAIN_S - 1) == (0, 0)
        assert await dead_after(1) == (1, 0)
        with web_server(port) as (_, asked):
            assert await dead_after(EVERY_S - 1) == (1, 0)
            assert asked == []
            assert await dead_after(1) == (0, 0)
            assert asked == ["HEAD /"]
    told = [(entry["event"], entry["channel"]) for entry in logs]
    assert told == [("a way to people does not work", "json"), ("a way to people works again", "json")]


async def test_whoever_sends_messages_tries_the_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the plant file, for as long as it has the lease."""
    monkeypatch.setattr(looking, "AGAIN_S", 0.0)
    text = PLANT.replace('["outbox://"]', f'["json://127.0.0.1:{free_port()}"]')
    (tmp_path / "plant.yaml").write_text(text, encoding="utf-8")
    clock, metrics, nobody = SystemClock(), Metrics(), None
    database = await Database.open(sqlite_url(tmp_path / "tables.sqlite"))
    process = SimpleNamespace(outbox=tmp_path / "outbox"), load_plant(tmp_path), clock, nobody
    crew: Any = SimpleNamespace(
        process=process, database=database, metrics=metrics, watch=WatchMetrics(metrics.registry)
    )
    telling = asyncio.create_task(_tell_people(crew, Lease(database, "notify", "this one", clock)))
    try:
        await eventually_async(
            lambda: metrics.registry.get_sample_value("tocsin_ways_dead", {"channel": "json"}) == 1.0, 60
        )
    finally:
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling
        await database.close()
