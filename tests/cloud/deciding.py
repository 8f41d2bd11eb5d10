"""A gateway that decides its own alarms, in a few lines: the engine, a journal, and orders obeyed once."""

from dataclasses import dataclass, field
from typing import Any

import aiomqtt

from tests.cloud.rig import DEVICE, GATEWAY, SpoolingGateway, columns, now_ms
from tests.support.wait import eventually_async
from tocsin_core import engine
from tocsin_core.clock import SystemClock
from tocsin_core.engine import Command, State
from tocsin_core.journal import OBEYED, Entry, decode_naming, decode_order, encode, moved, not_carried_out, refused
from tocsin_core.lifecycle import Verb
from tocsin_core.owned import alone, fingerprints, packed
from tocsin_core.plant import Plant
from tocsin_core.readings import GOOD, Frame
from tocsin_core.rules import NS, Rules, compile_rules
from tocsin_core.sparkplug import JournalNumbers, parse_command

NEW_SPOOL = 1_000  # a journal does not begin at 1


@dataclass
class DecidingGateway(SpoolingGateway):
    """It keeps its journal for ever, and sends what is not committed with each birth and whenever it is told to.

    The birth of its device comes before the journal, with the last reading of P1 that was judged: nothing comes between
    births (tck-id-operational-behavior-data-commands-rebirth-action-2).
    """

    entries: dict[int, bytes] = field(default_factory=dict)
    journal_newest: int = NEW_SPOOL
    journal_committed: int = NEW_SPOOL
    said_committed: list[int] = field(default_factory=list)
    names: dict[int, int] = field(default_factory=dict)  # as what its raisings are known, by onset
    obeyed: list[str] = field(default_factory=list)
    decides: bool = True
    differs: bool = False  # it judges by another plant file, all of it
    deaf: bool = False  # orders are not heard
    again: bool = False  # orders that come again are answered again
    last: tuple[float, int] | None = None

    def on(self, plant: Plant) -> "DecidingGateway":
        """Have the rules of its part of `plant`."""
        self.own = packed(fingerprints(plant, GATEWAY).values())
        self.rules: Rules = compile_rules(alone(plant, GATEWAY))
        self.state: State = engine.initial(self.rules, SystemClock().now_ns())
        return self

    async def read(self, value: float, *, tell: bool = True) -> None:
        """Read P1: judged here, the journal sent first, then the reading."""
        time_ms = now_ms()
        self.judge(value, time_ms)
        if tell and self.decides:
            await self.send_journal()
        await self.send({0: value}, time_ms=time_ms)

    def judge(self, value: float, time_ms: int) -> None:
        """Take a reading of P1 into the engine and what it leads to into the journal."""
        self.last = value, time_ms
        self._step(Frame.of([self.rules.points.index("P1")], [time_ms * 1_000_000], [value], [GOOD]), [])

    async def ask(self, verb: Verb, **more: Any) -> None:  # noqa: ANN401 - the fields of a command
        """Somebody at the gateway asks something of P1/H."""
        at_ns = SystemClock().now_ns()
        self._step(Frame.empty(), [Command(verb, self.rules.index["P1/H"], at_ns, "button", **more)])
        await self.send_journal()

    async def send_journal(self, first: int | None = None, *, oldest: int | None = None) -> None:
        """Send the entries from `first` on; without it those that are not committed."""
        start = self.journal_committed + 1 if first is None else first
        bodies = [self.entries[number] for number in sorted(self.entries) if number >= start]
        if bodies and self._client is not None:
            low = self.journal_committed + 1 if oldest is None else oldest
            message = self.session.journal(start, bodies, low, now_ms())
            await self._client.publish(message.topic, message.payload, qos=0)

    def _step(self, frame: Frame, commands: list[Command], command: str = "") -> None:
        self.state, result = engine.step(self.state, self.rules, frame, commands, self.state.now_ns)
        told = [
            moved(self.rules.definitions[t.definition].id, t, self.state, command if t.who else "")
            for t in result.transitions
        ]
        told += [
            refused(self.rules.definitions[r.command.definition].id, r, self.state, command) for r in result.refusals
        ]
        for entry in told:
            self.note(entry)

    def note(self, entry: Entry) -> None:
        """Put an entry into the journal."""
        self.journal_newest += 1
        self.entries[self.journal_newest] = encode(entry)

    async def _be_born(self) -> None:
        assert self._client is not None
        rules = b"another." if self.differs else self.own
        numbers = JournalNumbers(self.journal_newest, self.journal_committed + 1, rules) if self.decides else None
        birth = self.session.nbirth(self.newest, self.committed + 1, now_ms(), journal=numbers)
        await self._client.publish(birth.topic, birth.payload, qos=0)
        value, time_ms = self.last or (0.0, now_ms() - 60_000)
        device = self.session.dbirth(DEVICE, columns({0: value, 1: 0.0}, time_ms), self.newest, now_ms())
        await self._client.publish(device.topic, device.payload, qos=0)
        if self.decides:
            await self.send_journal()
        for number in sorted(self.batches):
            if number > self.committed:
                await self.send_again(number)

    async def _hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            command = parse_command(message.payload)
            if command.committed is not None:
                self.committed = max(self.committed, command.committed)
            if command.journal_committed is not None:
                self.said_committed.append(command.journal_committed)
                self.journal_committed = max(self.journal_committed, command.journal_committed)
            for known in map(decode_naming, command.known_as):
                self.names[known.onset_ns] = known.known_ns
            for body in command.orders if not self.deaf else ():
                await self._obey(body)
            if command.rebirth:
                self.rebirths += 1
                await self._be_born()

    async def _obey(self, body: bytes) -> None:
        order = decode_order(body)
        if order.id not in self.obeyed:
            self.obeyed.append(order.id)
            asked = Command(
                order.verb, self.rules.index[order.alarm], order.at_ns, order.who, order.reason, order.onset_ns,
                order.until_ns, order.once,
            )  # fmt: skip
            self._step(Frame.empty(), [asked], order.id)
            await self.send_journal()
        elif self.again:
            number = self.rules.index[order.alarm]
            self.note(not_carried_out(order.alarm, number, order.at_ns, self.state, order.id, OBEYED))
            await self.send_journal()


async def pause() -> None:
    """Let the stamps of two readings differ, which are in whole milliseconds."""
    before = now_ms()
    await eventually_async(lambda: now_ms() > before, interval_s=0.001)


def minutes(count: float) -> int:
    """So many minutes in nanoseconds."""
    return round(count * 60 * NS)
