"""The API's commands and events over the stream's server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from tocsin_cloud.adapters.sql.away import DatabaseAwayError
from tocsin_cloud.adapters.sql.engine import Database
from tocsin_cloud.adapters.sql.models import Command
from tocsin_cloud.adapters.stream import publish_command, publish_event
from tocsin_cloud.api.ports import Answer, CommandError, Event, OperatorCommand

log = structlog.get_logger(__name__)

EVENTS: Final = "tocsin.event."
LOOK_S: Final = 0.05


class StreamCommands:
    """Commands through the stream; the worker's answer is read where it commits it, so a lost event delays nothing."""

    def __init__(self, client: Client, site: str, database: Database) -> None:
        """Command the alarms worker of `site`."""
        self._client = client
        self._site = site
        self._database = database

    async def send(self, command: OperatorCommand) -> Answer:
        """Publish `command` and wait for its row in the command table, without a limit of its own.

        Raises:
            CommandError: the stream did not take it.
        """
        body = {
            "id": command.id,
            "verb": command.verb,
            "occurrence": command.occurrence,
            "alarm": command.alarm,
            "who": command.who,
            "reason": command.reason,
            "duration_s": command.duration_s,
            "once": command.once,
        }
        try:
            await publish_command(self._client, self._site, body)
        except NatsError as error:
            raise CommandError(str(error) or repr(error)) from error
        while True:
            # It is in the stream, and will be carried out: a database that is away delays that, and the answer.
            with suppress(DatabaseAwayError):
                async with self._database.read() as session:
                    row = await session.get(Command, command.id)
                if row is not None:
                    return Answer(row.accepted, row.answer)
            await asyncio.sleep(LOOK_S)


class StreamEvents:
    """Events as core NATS messages under tocsin.event; they reach whoever listens at the moment."""

    def __init__(self, client: Client) -> None:
        """Use `client`."""
        self._client = client

    async def publish(self, event: Event) -> None:
        """Tell whoever listens; a failure is logged, because what the event tells of is committed already."""
        try:
            await publish_event(self._client, event.kind, dict(event.data))
        except (NatsError, OSError) as error:
            log.warning("event not published", kind=event.kind, reason=str(error) or repr(error))

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Event]]:
        """Listen from now on; the iterator ends after a reconnection, over which some may have been missed."""
        subscription = await self._client.subscribe(f"{EVENTS}>")
        reconnects = self._client.stats["reconnects"]

        async def events() -> AsyncIterator[Event]:
            async for message in subscription.messages:
                if self._client.stats["reconnects"] != reconnects:
                    return
                data = json.loads(message.data)
                if isinstance(data, dict):
                    yield Event(message.subject.removeprefix(EVENTS), data)

        try:
            yield events()
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()
