"""Messages by mail against a real SMTP server: what arrives, how often, and what happens while the server is away."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from prometheus_client import CollectorRegistry

from tests.cloud.api.stand_ins import PLANT, HandClock, message, occurrence
from tests.cloud.rig import held
from tests.support.ports import free_port
from tocsin_cloud.adapters.channels import Channels, Letter
from tocsin_cloud.adapters.sql.engine import Database, sqlite_url
from tocsin_cloud.adapters.sql.models import Message
from tocsin_cloud.loops import notify
from tocsin_cloud.loops.notify import Notifier
from tocsin_core.plant import load_plant

pytestmark = pytest.mark.anyio

SUBJECT = "【北厂】储罐区 氨浓度 高报 31.5 ppm"


@dataclass
class Mailboxes:
    """What the mail server took; `refuses` makes it answer every message with an error.

    `marks` is what stood in the folder of marks as each client took its leave.
    """

    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    refuses: bool = False
    marks_in: Path | None = None
    marks: list[str] = field(default_factory=list)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 -- aiosmtpd's name
        """Take a message."""
        if self.refuses:
            return "451 try again later"
        self.recipients += envelope.rcpt_tos
        self.mails.append(message_from_bytes(cast("bytes", envelope.content), policy=policy.default))
        return "250 OK"

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802 -- aiosmtpd's name
        """See somebody go."""
        if self.marks_in is not None:
            self.marks += [path.name for path in self.marks_in.iterdir()]
        return "221 Bye"


@contextmanager
def mail_server(boxes: Mailboxes, port: int) -> Iterator[None]:
    """Run a mail server on `port` of the loopback address."""
    controller = Controller(boxes, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield
    finally:
        controller.stop()


@dataclass
class Desk:
    """An outbox worker with one message to a mail address."""

    notifier: Notifier
    database: Database
    clock: HandClock
    port: int
    boxes: Mailboxes

    async def row(self) -> Message:
        """Return the message's row."""
        async with self.database.read() as session:
            return await session.get_one(Message, f"{1:016x}")


@pytest.fixture
def anyio_backend() -> str:
    """Run the tests on asyncio."""
    return "asyncio"


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """Return a desk whose mail server is not running yet."""
    # However slow the machine is, the mail server is not.
    monkeypatch.setattr(notify, "SLOW_S", 60.0)
    (tmp_path / "north").mkdir()
    (tmp_path / "north" / "plant.yaml").write_text(PLANT, encoding="utf-8")
    database = await Database.open(sqlite_url(tmp_path / "tocsin.sqlite"))
    clock, port = HandClock(), free_port()

    async def publish(_kind: str, _body: object) -> None:
        """Nobody listens."""

    plant = load_plant(tmp_path / "north")
    notifier = Notifier(
        database,
        await held(database, "notify", clock),
        Channels(tmp_path / "outbox"),
        publish,
        plant,
        clock,
        CollectorRegistry(),
    )
    raised = occurrence(1)
    channel = f"mailto://127.0.0.1:{port}?from=tocsin@north.example&to=wang@north.example&mode=insecure"
    async with database.write() as session:
        session.add_all((raised, message(1, raised, channel=channel, subject=SUBJECT)))
    yield Desk(notifier, database, clock, port, Mailboxes())
    await database.close()


async def test_a_mail_arrives_whole_and_once(desk: Desk) -> None:
    """Chinese subject and body are intact, the recipient is right, and nothing is sent a second time."""
    with mail_server(desk.boxes, desk.port):
        await desk.notifier.send_due()
        assert await desk.notifier.send_due() == 0
    (mail,) = desk.boxes.mails
    assert mail["Subject"] == SUBJECT
    assert mail["Message-ID"] == f"<{1:016x}@tocsin.north.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().splitlines() == ["氨浓度 31.5 ppm", "Ammonia 31.5 ppm"]
    assert desk.boxes.recipients == ["wang@north.example"]
    assert (await desk.row()).state == "delivered"


async def test_a_mail_that_was_taken_is_marked_before_the_leave_taking(tmp_path: Path) -> None:
    """A kill while the server takes its time to say goodbye repeats nothing."""
    boxes, port = Mailboxes(marks_in=tmp_path / "sent"), free_port()
    channel = f"mailto://127.0.0.1:{port}?from=tocsin@north.example&to=wang@north.example&mode=insecure"
    with mail_server(boxes, port):
        await Channels(tmp_path).send(Letter("0001", "wang", channel, SUBJECT, "31.5 ppm"))
    assert (len(boxes.mails), boxes.marks) == (1, ["0001"])


async def test_a_server_that_is_away_gets_the_mail_when_it_is_back(desk: Desk) -> None:
    """Unreachable, then refusing, then well: delivered at the third attempt, once."""
    await desk.notifier.send_due()
    waiting = await desk.row()
    assert (waiting.state, waiting.attempts) == ("pending", 1)
    assert waiting.error
    with mail_server(desk.boxes, desk.port):
        desk.boxes.refuses = True
        desk.clock.move(2)
        await desk.notifier.send_due()
        assert (await desk.row()).error == "the mail server refused the message"
        desk.boxes.refuses = False
        desk.clock.move(4)
        await desk.notifier.send_due()
        assert await desk.notifier.send_due() == 0
    sent = await desk.row()
    assert (sent.state, sent.attempts, sent.error) == ("delivered", 3, None)
    assert len(desk.boxes.mails) == 1


async def test_a_repetition_after_a_crash_has_the_same_message_id(desk: Desk) -> None:
    """Sent, but the worker died before it noted so: the second mail is recognisable as the first."""
    with mail_server(desk.boxes, desk.port):
        await desk.notifier.send_due()
        async with desk.database.write() as session:
            row = await session.get_one(Message, f"{1:016x}")
            row.state, row.sent_ns, row.due_ns = "sending", None, desk.clock.now_ns() + 30 * 10**9
        assert await desk.notifier.send_due() == 0
        desk.clock.move(30)
        assert await desk.notifier.send_due() == 1
    first, second = desk.boxes.mails
    assert first["Message-ID"] == second["Message-ID"]
