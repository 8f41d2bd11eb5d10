"""The ways to people: Apprise addresses, the demo's outbox; mail and web hooks say which message is a repetition."""

import asyncio
import json
import logging
import os
import re
import smtplib
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formataddr
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import apprise
import structlog
from apprise.exception import AppriseException
from prometheus_client import CollectorRegistry, Counter

from tocsin_cloud.adapters.channel_probe import NotifyEmail, NotifyForm, NotifyJSON, NotifyXML, knock, mail_server

log = structlog.get_logger(__name__)

SEND_TIMEOUT_S: Final = 20.0
OUTBOX: Final = "outbox"
# As in the IETF's draft-ietf-httpapi-idempotency-key-header: the same over all attempts.
KEY_HEADER: Final = "Idempotency-Key"
LONGEST_ERROR: Final = 300
# Shorter pieces of an address ("25", "com") are no secret, and blotting them out would make an error unreadable.
SECRET_LENGTH: Final = 4


@dataclass(frozen=True, slots=True)
class Letter:
    """One message to one person; `id` stays the same over all attempts, so that a channel may know a repetition."""

    id: str
    to: str
    channel: str
    subject: str
    body: str


class ChannelError(RuntimeError):
    """A message did not get out; the text says why and holds no part of the address."""


def kind_of(channel: str) -> str:
    """Return what may be shown of an address: its scheme, `mailto` of `mailto://user:password@host`."""
    return channel.partition("://")[0]


def service_of(channel: str) -> str:
    """Return how the addresses begin of all whom the same service reaches, as `json://host:port`."""
    scheme, separator, rest = channel.partition("://")
    return scheme + separator + re.split(r"[/?]", rest, maxsplit=1)[0]


def is_understood(channel: str) -> bool:
    """Whether something can be sent to an address; who reads it there, if anybody, is not known."""
    if kind_of(channel) == OUTBOX:
        return True
    try:
        return apprise.Apprise.instantiate(channel, asset=_asset()) is not None
    except Exception:  # noqa: BLE001 -- hundreds of plugins, as below
        return False


def masked(text: str, channel: str) -> str:
    """Return `text` without any piece of the address `channel`, and not too long."""
    pieces = {unquote(piece) for piece in re.split(r"[/?&=:@,]", channel.partition("://")[2])}
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= SECRET_LENGTH:
            text = text.replace(piece, "***")
    return text[:LONGEST_ERROR]


class Channels:
    """Sends letters, each once as far as processes on this machine can know it.

    The folder `outbox` takes those to `outbox://`, and in `sent` a mark of each that a service has taken: whoever goes
    on after a kill finds it there, before the database was told. A folder that does not do that holds up no letter: one
    that goes out twice is better than one that does not.
    """

    def __init__(
        self, outbox: Path, timeout_s: float = SEND_TIMEOUT_S, metrics: CollectorRegistry | None = None
    ) -> None:
        """Give up on a service that has not taken a letter after `timeout_s`; what fails is counted in `metrics`."""
        what = "Marks of messages sent that could not be read or written: such a message may go out twice."
        self._unmarked = Counter("tocsin_message_marks_failed", what, registry=metrics)
        self._outbox = Outbox(outbox)
        self._sent = outbox / "sent"
        self._timeout_s = timeout_s
        self._under_way: dict[str, asyncio.Future[None]] = {}
        # Apprise logs recipients and hosts; what may be known of a failure is in the error of the message.
        logging.getLogger("apprise").addHandler(logging.NullHandler())
        logging.getLogger("apprise").propagate = False

    async def load(self, channels: Iterable[str]) -> list[str]:
        """Have the services loaded that these addresses need: that takes seconds, and the first letter does not.

        Gives those of the addresses that nothing can be sent to.
        """
        foreign = [channel for channel in channels if kind_of(channel) != OUTBOX]
        return await asyncio.to_thread(lambda: [channel for channel in foreign if not is_understood(channel)])

    def written_down(self, message: str) -> None:
        """Forget the mark of a letter: the database knows that it got out. A kill just before leaves an empty file."""
        try:
            (self._sent / message).unlink(missing_ok=True)
        except OSError as error:
            log.warning("the mark of a message stays", message=message, reason=str(error))

    async def send(self, letter: Letter) -> None:
        """Send `letter` by its channel, unless a service has taken it before.

        Raises:
            ChannelError: it did not get out, or it is not known whether it did.
        """
        await self._tried(f"send {letter.id}", lambda: self._send(letter), letter.channel)

    async def probe(self, channel: str) -> None:
        """Try whether a letter would get out by `channel`, as far as can be seen without a word to anybody (`knock`).

        Raises:
            ChannelError: it would not, or it is not known whether it would.
        """
        if kind_of(channel) != OUTBOX:
            await self._tried(f"probe {service_of(channel)}", lambda: knock(_service(channel)), channel)

    async def _tried(self, what: str, work: Callable[[], None], channel: str) -> None:
        # An attempt that was given up may still get out: the next one waits for it, instead of sending beside it.
        trying = self._under_way.pop(what, None) or _in_thread(work, f"to {kind_of(channel)}")
        ended, _ = await asyncio.wait([trying], timeout=self._timeout_s)
        if not ended:
            self._under_way[what] = trying
            raise ChannelError(f"no answer within {self._timeout_s:g} s")
        try:
            trying.result()
        except (OSError, ValueError, smtplib.SMTPException, AppriseException) as error:
            raise ChannelError(masked(str(error) or type(error).__name__, channel)) from error
        except ChannelError:
            raise
        except Exception as error:
            # Hundreds of plugins: the mistake of one must not end the worker, and its words may hold the address.
            name, places = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
            log.error("a channel's mistake", channel=kind_of(channel), error=name, traceback=places)  # noqa: TRY400 -- its words may be secret
            raise ChannelError(f"{name} in the channel {kind_of(channel)}://") from error

    def _send(self, letter: Letter) -> None:
        if kind_of(letter.channel) == OUTBOX:
            self._outbox.append(letter)
            return
        if self._is_marked(letter):
            log.warning("a message was sent before, and only that is written down", message=letter.id)
            return
        service = _service(letter.channel)
        if isinstance(service, NotifyEmail):
            _mail(service, letter, lambda: self._mark(letter))
        else:
            _notify(service, letter)
            self._mark(letter)

    def _is_marked(self, letter: Letter) -> bool:
        try:
            (self._sent / letter.id).stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            self._unmarked.inc()
            log.warning("whether a message was sent before cannot be seen", message=letter.id, reason=str(error))
            return False
        return True

    def _mark(self, letter: Letter) -> None:
        try:
            self._sent.mkdir(parents=True, exist_ok=True)
            (self._sent / letter.id).touch()
        except OSError as error:
            # It has got out: after a kill in the next moments it does so again.
            self._unmarked.inc()
            log.warning("a message that was sent is not marked", message=letter.id, reason=str(error))


def _asset() -> apprise.AppriseAsset:
    # No thread of its own and no limit of its own: we already are in a thread, and have our limit.
    return apprise.AppriseAsset(async_mode=False, service_timeout=0, app_id="Tocsin", app_desc="Tocsin")


def _service(channel: str) -> apprise.NotifyBase:
    service = apprise.Apprise.instantiate(channel, asset=_asset())
    if service is None:
        raise ChannelError(f"{kind_of(channel)}:// is no address that Apprise understands")
    return service


def _notify(service: apprise.NotifyBase, letter: Letter) -> None:
    if isinstance(service, NotifyForm | NotifyJSON | NotifyXML):
        service.headers[KEY_HEADER] = letter.id
    sender = apprise.Apprise(service, asset=_asset())
    result = sender.notify(
        letter.body,
        title=letter.subject,
        notify_type=apprise.NotifyType.WARNING,
        body_format=apprise.NotifyFormat.TEXT,
    )
    if not result:
        told = "; ".join(entry.message for entry in result.logs())
        raise ChannelError(masked(told or "the service did not take it", letter.channel))


def _mail(service: NotifyEmail, letter: Letter, taken: Callable[[], None]) -> None:
    """Mail by Apprise's reading of the address, with our own Message-ID: Apprise makes a new one each time.

    Calls `taken` as soon as the mail server has taken it.
    """
    # Apprise does not type its plugins; these are its parsed address, always text.
    sender = str(service.from_addr[1])
    recipients = [str(address) for _, address in service.targets]
    mail = EmailMessage()
    mail["Subject"] = letter.subject
    mail["From"] = formataddr((str(service.from_addr[0] or "Tocsin"), sender))
    mail["To"] = ", ".join(recipients)
    mail["Message-ID"] = f"<{letter.id}@tocsin.{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(letter.body, cte="base64")
    with mail_server(service) as server:
        if not server.sendmail(sender, recipients, mail.as_string()):
            raise ChannelError("the mail server refused the message")
        # Before the leave-taking, which takes a way to the server and back: a kill meanwhile would repeat the mail.
        taken()


class Outbox:
    """A folder with a file for each person, one JSON line a message: what the demo shows instead of a telephone."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made with the first message."""
        self._folder = folder
        self._lock = threading.Lock()
        self._written: dict[str, set[str]] = {}

    def append(self, letter: Letter) -> None:
        """Write `letter` to its person's file and to disk, unless it is there already."""
        with self._lock:
            file = self._folder / f"{letter.to}.jsonl"
            if letter.to not in self._written:
                self._written[letter.to] = _mended(file)
            if letter.id in self._written[letter.to]:
                return
            fields = {"id": letter.id, "to": letter.to, "subject": letter.subject, "body": letter.body}
            line = json.dumps(fields, ensure_ascii=False)
            with file.open("a", encoding="utf-8") as out:
                out.write(line + "\n")
                out.flush()
                os.fsync(out.fileno())
            self._written[letter.to].add(letter.id)


def _mended(file: Path) -> set[str]:
    """Return the ids in `file`, whose last line, torn by a crash, is cut off."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        return set()
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with file.open("r+b") as out:
            out.truncate(len(whole))
    return {json.loads(line)["id"] for line in whole.splitlines()}


def _in_thread(work: Callable[[], None], name: str) -> asyncio.Future[None]:
    """Run `work` in a thread that may be left behind: a hung service must not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        outcome: BaseException | None = None
        try:
            work()
        except BaseException as error:  # noqa: BLE001 -- whatever it is belongs to the one who waits
            outcome = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
