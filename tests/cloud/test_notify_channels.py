"""The ways to people: once each, addresses that are none, and secrets that stay secret."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.support.wait import eventually_async
from tocsin_cloud.adapters.channels import ChannelError, Channels, Letter, masked, service_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Run the tests on asyncio."""
    return "asyncio"


def letter(number: int, channel: str = "outbox://") -> Letter:
    """Return letter `number` to wang."""
    return Letter(f"{number:016x}", "wang", channel, "氨浓度 高报", "氨浓度 31.5 ppm")


async def test_the_outbox_holds_each_message_once(tmp_path: Path) -> None:
    """A message sent twice, by this process or by the one before, is one line."""
    for _ in range(2):
        channels = Channels(tmp_path / "outbox")
        await channels.send(letter(1))
        await channels.send(letter(1))
        await channels.send(letter(2))
    lines = (tmp_path / "outbox" / "wang.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"{1:016x}", f"{2:016x}"]
    assert json.loads(lines[0]) == {
        "id": f"{1:016x}",
        "to": "wang",
        "subject": "氨浓度 高报",
        "body": "氨浓度 31.5 ppm",
    }


async def test_a_line_torn_by_a_crash_is_cut_off(tmp_path: Path) -> None:
    """The next message does not continue it, and the message that was torn goes in whole."""
    (tmp_path / "wang.jsonl").write_text('{"id": "0001"}\n{"id": "0000000000000001", "to', encoding="utf-8")
    await Channels(tmp_path).send(letter(1))
    lines = (tmp_path / "wang.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["0001", f"{1:016x}"]


@pytest.mark.parametrize("channel", ["nonsense://somewhere", "mailto://", "pigeon"])
async def test_an_address_that_is_none_is_said(tmp_path: Path, channel: str) -> None:
    """The error names the scheme and nothing more."""
    with pytest.raises(ChannelError, match="is no address that Apprise understands"):
        await Channels(tmp_path).send(letter(1, channel))


async def test_addresses_that_are_none_are_told_before_anything_is_sent(tmp_path: Path) -> None:
    """Whoever starts the cloud side learns of them, and not whoever should have been called."""
    wrong = ["nonsense://somewhere", "mailto://", "pigeon"]
    channels = ["outbox://", "json://localhost", *wrong, "mailto://u:p@mail.example.com?to=li@example.com"]
    assert await Channels(tmp_path).load(channels) == wrong
    assert await Channels(tmp_path).load(["outbox://li"]) == []


@contextmanager
def hook() -> Iterator[tuple[str, list[str | None]]]:
    """The address of a web hook without its scheme, and the key of each request that it has taken."""
    keys: list[str | None] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            keys.append(self.headers["Idempotency-Key"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_parts: object) -> None:
            """Stay silent."""

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        answering = threading.Thread(target=server.serve_forever, daemon=True)
        answering.start()
        yield f"://127.0.0.1:{server.server_port}/hook", keys
        server.shutdown()
        answering.join()


@pytest.mark.parametrize("kind", ["json", "xml", "form"])
async def test_a_web_hook_is_told_which_message_is_a_repetition(tmp_path: Path, kind: str) -> None:
    """Each attempt for the same message has the same key, another message another one."""
    with hook() as (address, keys):
        for number, machine in ((1, "a"), (1, "b"), (2, "a")):
            await Channels(tmp_path / machine).send(letter(number, kind + address))
    assert keys == [letter(1).id, letter(1).id, letter(2).id]


async def test_what_a_service_has_taken_is_known_after_a_kill(tmp_path: Path) -> None:
    """The next process on the machine does not send it again; once the database knows, nothing is kept of it."""
    with hook() as (address, keys):
        await Channels(tmp_path).send(letter(1, f"json{address}"))
        following = Channels(tmp_path)
        await following.send(letter(1, f"json{address}"))
        assert keys == [letter(1).id]
        following.written_down(letter(1).id)
        following.written_down(letter(2).id)
        assert list((tmp_path / "sent").iterdir()) == []


async def test_a_folder_that_keeps_no_marks_holds_up_no_message(tmp_path: Path) -> None:
    """After a kill it goes out twice, under one key, rather than never; each mark that fails is said and counted."""
    (tmp_path / "sent").write_text("a file in the folder's place", encoding="utf-8")
    registry = CollectorRegistry()
    with hook() as (address, keys), capture_logs() as logs:
        await Channels(tmp_path, metrics=registry).send(letter(1, f"json{address}"))
        await Channels(tmp_path).send(letter(1, f"json{address}"))
    assert keys == [letter(1).id, letter(1).id]
    assert [(line["event"], line["message"]) for line in logs] == 2 * [
        ("whether a message was sent before cannot be seen", letter(1).id),
        ("a message that was sent is not marked", letter(1).id),
    ]
    assert registry.get_sample_value("tocsin_message_marks_failed_total") == 2


def test_a_mark_that_cannot_be_taken_away_is_said_and_ends_nothing(tmp_path: Path) -> None:
    """The message is delivered and written down as that: a folder that takes nothing changes nothing of it."""
    (tmp_path / "sent").write_text("a file in the folder's place", encoding="utf-8")
    with capture_logs() as logs:
        Channels(tmp_path).written_down(letter(1).id)
    assert [(line["event"], line["message"]) for line in logs] == [("the mark of a message stays", letter(1).id)]


async def test_a_service_that_refuses_has_taken_nothing(tmp_path: Path) -> None:
    """No mark keeps the next attempt from being one."""
    with HTTPServer(("127.0.0.1", 0), _Refusing) as server:
        for _ in range(2):
            threading.Thread(target=server.handle_request, daemon=True).start()
            with pytest.raises(ChannelError):
                await Channels(tmp_path).send(letter(1, f"json://127.0.0.1:{server.server_port}/hook"))


class _Refusing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(500)
        self.end_headers()

    def log_message(self, *_parts: object) -> None:
        """Stay silent."""


async def test_an_apprise_service_that_refuses_is_an_error_without_its_address(tmp_path: Path) -> None:
    """Any service of Apprise is used by its address; what it answers is told, the token in the address is not."""
    with HTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(ChannelError) as caught:
            await Channels(tmp_path).send(letter(1, f"json://user:s3cr3t-token@127.0.0.1:{server.server_port}/hook"))
    assert str(caught.value)
    assert "s3cr3t" not in str(caught.value)


async def test_a_mistake_in_a_channel_is_an_error_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a plugin raises, the outbox worker goes on; the log says where it was, and neither holds the address."""

    def mistaken(_channels: Channels, of: Letter) -> None:
        raise KeyError(of.channel)

    monkeypatch.setattr(Channels, "_send", mistaken)
    with capture_logs() as logs, pytest.raises(ChannelError, match=r"^KeyError in the channel json://$"):
        await Channels(tmp_path).send(letter(1, "json://user:s3cr3t-token@127.0.0.1/hook"))
    (entry,) = logs
    assert "in mistaken" in entry["traceback"]
    assert "s3cr3t" not in str(entry)


async def test_a_service_that_hangs_is_given_up(tmp_path: Path) -> None:
    """After the time limit the message counts as not sent; the thread is left behind and holds up nothing."""
    with HTTPServer(("127.0.0.1", 0), _Refusing) as server:
        channels = Channels(tmp_path, timeout_s=0.2)
        with pytest.raises(ChannelError, match="no answer within"):
            await channels.send(letter(1, f"json://127.0.0.1:{server.server_port}/hook"))


async def test_an_attempt_that_was_given_up_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt sends nothing beside it, and takes its outcome."""
    go, sent = threading.Event(), list[str]()

    def slow(_channels: Channels, of: Letter) -> None:
        sent.append(of.id)
        go.wait(10)

    monkeypatch.setattr(Channels, "_send", slow)
    channels = Channels(tmp_path, timeout_s=0.05)
    for _ in range(2):
        with pytest.raises(ChannelError, match="no answer within"):
            await channels.send(letter(1))
    go.set()
    await eventually_async(lambda: not any(thread.name.startswith("send ") for thread in threading.enumerate()))
    await channels.send(letter(1))
    assert sent == [letter(1).id]


async def test_a_letter_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A subject with a line break is refused as mail; the outbox worker goes on."""
    bad = Letter("1", "wang", "mailto://127.0.0.1:9?from=a@north.example&to=b@north.example", "two\nlines", "body")
    with pytest.raises(ChannelError):
        await Channels(tmp_path).send(bad)


@pytest.mark.parametrize(
    ("channel", "service"),
    [
        ("json://sms.example:81/send?to=wang", "json://sms.example:81"),
        ("mailto://tocsin:word@mail.example?to=li@north.example/", "mailto://tocsin:word@mail.example"),
        ("outbox://", "outbox://"),
    ],
)
def test_a_service_is_told_by_how_its_addresses_begin(channel: str, service: str) -> None:
    """What follows is who is to be reached by it."""
    assert service_of(channel) == service


def test_an_error_is_masked() -> None:
    """No piece of an address shows in an error, in whatever encoding the address has it."""
    channel = "mailto://alarm:p%40ssword@mail.example.org?to=wang@example.org"
    told = masked("login as alarm with p@ssword at mail.example.org for wang@example.org failed", channel)
    assert told == "login as *** with *** at *** for ***@*** failed"
