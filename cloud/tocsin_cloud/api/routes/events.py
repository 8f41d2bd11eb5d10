"""Route of the event stream (server-sent events)."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import structlog
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.api import model
from tocsin_cloud.api.context import Api, Context
from tocsin_cloud.api.mailbox import Mailbox, event_of
from tocsin_cloud.api.problem import AGAIN, AWAY, WAITS, documented, refusal
from tocsin_cloud.api.security import Reader, token_of

log = structlog.get_logger(__name__)
router = APIRouter(tags=["events"])

PING_S: Final = 5.0
GRACE_S: Final = 0.5
# Who takes nothing for so long is gone without a word, and holds the place of another.
STUCK_S: Final = 60.0

EVENTS: Final = (
    "`hello` {server_time, version}; `ping` {server_time} every 5 s; "
    "`values` {point, time, value, quality} about once a second, changed ones only; "
    "`transitions` [Alarm]; `tickets` [Ticket]; `notifications` [Notification], each as it stands now; "
    "`gateway` Gateway; `projection` {point: Projection or null}; `flood` {flood: Flood or null}; "
    "`reset` {reason}: you were too slow, or something may be missing; fetch everything again, the stream goes on"
)


class EventStream(Response):
    """Sends a mailbox as it fills; ends with the mailbox, with the reader, or with the reader's sign-in."""

    media_type = "text/event-stream"

    def __init__(self, api: Api, mailbox: Mailbox, signed_in: Callable[[], Awaitable[bool]]) -> None:
        """Stream `mailbox`; `signed_in` is asked with each ping."""
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._api = api
        self._mailbox = mailbox
        self._signed_in = signed_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until one of the three ends."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send(send), name=f"events-send {scope['client']}")
        gone = asyncio.create_task(_gone(receive), name=f"events-gone {scope['client']}")
        ended = asyncio.create_task(self._mailbox.wait_end(), name=f"events-end {scope['client']}")
        try:
            await asyncio.wait((sending, gone, ended), return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                # A reader who takes nothing holds the sender for ever: it is cut off, not waited for.
                await asyncio.wait((sending,), timeout=GRACE_S)
        finally:
            self._api.hub.leave(self._mailbox)
            for task in (sending, gone, ended):
                task.cancel()
            (outcome, *_) = await asyncio.gather(sending, gone, ended, return_exceptions=True)
            log.debug("event stream over", reason=self._mailbox.ended or "the reader left")
        if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
            raise outcome

    async def _send(self, send: Send) -> None:
        clock = self._api.ports.clock
        await _body(send, event_of("hello", model.Hello(server_time=clock.now_ns(), version=self._api.version)))
        next_ping = clock.monotonic() + PING_S
        while self._mailbox.ended is None:
            piece = await self._mailbox.take(max(0.0, next_ping - clock.monotonic()))
            if clock.monotonic() >= next_ping:
                try:
                    signed_in = await self._signed_in()
                except DatabaseAwayError:
                    # Nobody knows who may still read, and nothing new could be read: the reader comes back.
                    self._mailbox.end(AWAY)
                    break
                if not signed_in:
                    self._mailbox.end("signed out")
                    break
                piece += event_of("ping", model.Ping(server_time=clock.now_ns()))
                next_ping = clock.monotonic() + PING_S
            if not piece:
                continue
            try:
                async with asyncio.timeout(STUCK_S):
                    await _body(send, piece)
            except TimeoutError:
                self._mailbox.end("takes nothing")
                return
        await _body(send, b"", more=False)


async def _body(send: Send, piece: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": more})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get(
    "/events",
    status_code=HTTPStatus.OK,
    response_class=EventStream,
    responses=documented(HTTPStatus.SERVICE_UNAVAILABLE)
    | {200: {"content": {"text/event-stream": {}}, "description": EVENTS}},
)
async def events(_account: Reader, request: Request, api: Context) -> Response:
    """Server-sent events from now on. When the stream ends, fetch everything again and come back."""
    missing = api.ports.ready()
    if missing is not None:
        # A stream that only pings would look alive to people while nothing behind it is.
        raise refusal(HTTPStatus.SERVICE_UNAVAILABLE, missing, {"Retry-After": "1"})
    if not api.hub.begun:
        raise refusal(HTTPStatus.SERVICE_UNAVAILABLE, WAITS, AGAIN)
    mailbox = api.hub.open()
    if mailbox is None:
        raise refusal(HTTPStatus.SERVICE_UNAVAILABLE, "No room for another event stream.", {"Retry-After": "5"})
    token, _ = token_of(request)

    async def signed_in() -> bool:
        return token is not None and await api.accounts.account(token) is not None

    return EventStream(api, mailbox, signed_in)
