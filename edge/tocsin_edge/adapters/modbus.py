"""A Modbus line, shared by the units on it: one question at a time, and no answer but its own."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Final

from tocsin_core.clock import Clock
from tocsin_core.plant.connection import Modbus, Serial
from tocsin_core.plant.outputs import Output
from tocsin_core.polling import (
    Backoff,
    Question,
    Search,
    WriteRequest,
    different,
    rtu_begun,
    rtu_frame,
    rtu_search,
    rtu_trouble,
    tcp_frame,
    tcp_search,
)
from tocsin_core.readings import BAD_COMM_FAILURE, BAD_CONFIGURATION, BAD_DEVICE_FAILURE
from tocsin_core.registers import ReadRequest, Reply
from tocsin_edge.adapters.modbus_link import Link, TcpLink
from tocsin_edge.adapters.serial_port import SerialLink

RECONNECT_FIRST_S: Final = 0.25
RECONNECT_MOST_S: Final = 5.0
# For so long after the start a line that was never there is waited for without growing rarer.
STARTING_S: Final = 10.0
# After so many questions in a row without a single byte heard the connection itself is doubted and made anew.
MOST_UNHEARD: Final = 3
# Of one that nobody has used for so long it is doubted at once: firewalls forget such connections without a word, and a
# device that is asked once an hour would miss two readings of three.
IDLE_S: Final = 30.0
# A late answer that nothing tells apart is waited for so long after its time-out: MODBUS over Serial Line 1.02, 2.4.1,
# speaks of response times of one to several seconds.
LATE_MOST_S: Final = 2.0
# MODBUS over Serial Line 1.02, 2.5.1.1: 3.5 characters between frames, 1.75 ms above 19200 baud.
SILENCE_CHARACTERS: Final = 3.5
SHORTEST_SILENCE_S: Final = 0.00175
SILENCE_FIXED_ABOVE: Final = 19_200
# A converter's line behind TCP has a speed that nobody told; at 9600 baud this is its silence.
CONVERTER_SILENCE_S: Final = 0.004
# An answer that stops in its middle for so long is not finished any more; USB converters pause up to 16 ms.
BROKEN_OFF_S: Final = 0.1
# More than any line brings while an answer is awaited: four frames on a serial line, thirty late answers over TCP.
MOST_NOISE_RTU: Final = 1024
MOST_NOISE_TCP: Final = 8192
NUMBERS: Final = 0x10000
NS_PER_S: Final = 1_000_000_000

# MODBUS Application Protocol 1.1b3, section 7.
EXCEPTIONS: Final[dict[int, tuple[int, str]]] = {
    1: (BAD_CONFIGURATION, "illegal function"),
    2: (BAD_CONFIGURATION, "illegal data address"),
    3: (BAD_CONFIGURATION, "illegal data value"),
    4: (BAD_DEVICE_FAILURE, "server device failure"),
    5: (BAD_COMM_FAILURE, "acknowledge, still busy"),
    6: (BAD_COMM_FAILURE, "server device busy"),
    8: (BAD_DEVICE_FAILURE, "memory parity error"),
    10: (BAD_COMM_FAILURE, "gateway path unavailable"),
    11: (BAD_COMM_FAILURE, "gateway target failed to respond"),
}
TARGET_SILENT: Final = frozenset({10, 11})
BUSY: Final = frozenset({5, 6})


@dataclass(slots=True)
class Answer:
    """What came back: registers, bits, or a quality byte with its reason; `silent` if nobody answered at all.

    `exception` is the code of a refusal, 0 for none; `garbled`: something was heard that is no answer. `again`: the
    question is still to be asked, after the device's pause and no sooner than in `rest_s`; nothing was found out about
    it. `begun_ns` and `ended_ns` (UTC) are when the question went out and when the answer was there; `busy_s` is for
    how long the line was taken.
    """

    reply: Reply
    reason: str = ""
    silent: bool = False
    exception: int = 0
    garbled: bool = field(default=False, compare=False)
    again: bool = False
    rest_s: float = 0.0
    begun_ns: int = field(default=0, compare=False)
    ended_ns: int = field(default=0, compare=False)
    busy_s: float = field(default=0.0, compare=False)


Apart = Callable[[ReadRequest], ReadRequest | None]
"""Names a question whose answer no late answer to the given one can pass for."""


class NotAllowedError(Exception):
    """A write that the plant file does not name was asked for: the program is wrong."""


class _NumberLostError(ConnectionError):
    """The server does not give back transaction numbers, which came out while an older answer may be on its way."""


@dataclass(frozen=True, slots=True)
class _Debt:
    """A question to which nothing came until `since_s` (monotonic); its answer may still be on its way."""

    request: ReadRequest
    since_s: float


@dataclass(slots=True)
class _Talk:
    """What is remembered between questions on one connection."""

    first: int
    """The number of its first question."""
    number: int
    """The number of its last question."""
    unanswered: dict[int, _Debt] = field(default_factory=dict)
    """By unit: the last question, if nothing came to it."""
    excused: set[int] = field(default_factory=set)
    """Units whose last question another unit's late answer may have met on the line."""
    rest: bytes = b""
    """The beginning of a frame of which the end has not arrived."""
    unheard: int = 0
    """Questions in a row to which not a single byte came."""
    idle: bool = False
    """Whether nothing had been asked for long before the last question."""

    def owe(self, question: Question, now_s: float) -> None:
        """Note that nothing came to `question`; the late answer to a write passes for no answer to a read."""
        if isinstance(question.request, ReadRequest):
            self.unanswered[question.unit] = _Debt(question.request, now_s)

    def paid(self, question: Question) -> None:
        """Note that `question` was answered; a write's may be the echo of an older write, and proves nothing."""
        if isinstance(question.request, ReadRequest):
            self.unanswered.pop(question.unit, None)

    def sent(self, number: int) -> bool:
        """Whether a question of this number was asked."""
        return (number - self.first) % NUMBERS <= (self.number - self.first) % NUMBERS


class ModbusLine:
    """One line: a TCP connection or a serial port, opened when needed.

    A late answer never serves another question. With Modbus TCP the transaction number tells; a connection to a server
    that does not give it back is made anew after each question that nobody answered. RTU frames have no number, so
    after an unanswered question the unit is first asked one whose answer cannot be mistaken, and whatever does not fit
    is passed over; where no such question is legal, the late answer is waited for. After a failed connect nobody tries
    again until a random wait (full jitter, doubling to 5 s) is over; it does not grow in the first 10 s, in which the
    other end may still be starting.

    Of writes only those that were allowed (`allow`) ever reach the line, at first none.
    """

    def __init__(self, modbus: Modbus, clock: Clock, draw: Callable[[], float]) -> None:
        """Open nothing yet; `draw` gives random numbers [0, 1)."""
        self._allowed: tuple[tuple[int, Output], ...] = ()
        serial = modbus.serial
        self.name = modbus.line
        self.counts: Counter[str] = Counter()
        self._link: Link = SerialLink(serial) if serial is not None else TcpLink(modbus.host, modbus.port)
        self._rtu = modbus.rtu
        self._character_s = serial.bits_per_character / serial.baud if serial is not None else 0.0
        self._silence_s = _silence_s(serial)
        self._clock = clock
        self._draw = draw
        self._starting_until = clock.monotonic() + STARTING_S
        self._connects = Backoff(RECONNECT_FIRST_S, RECONNECT_MOST_S)
        self._reason = ""
        self._any_number = False
        self._talk = _Talk(0, 0)
        self._quiet_since = 0.0

    @property
    def up(self) -> bool:
        """Whether the line is open."""
        return self._link.is_open

    @property
    def unreachable(self) -> bool:
        """Whether it could not be opened when that was last tried; one that is made anew for a doubt is not."""
        return self._connects.not_before_s > 0.0

    def allow(self, writes: Collection[tuple[int, Output]]) -> None:
        """Let these, unit and output, be all that may be written from now on."""
        self._allowed = tuple(writes)

    async def ask(
        self, unit: int, request: ReadRequest | WriteRequest, timeout_s: float, apart: Apart = different
    ) -> Answer:
        """Ask `unit` once; `timeout_s` includes connecting, but not the time that the bytes take on a serial line.

        Where an answer to an older question may still come, one that tells it apart is asked instead, and `again` is
        set once it is answered: the unit may need a pause before the next. `apart` names such a question, None where
        there is no legal one.

        Raises:
            NotAllowedError: a write to what is not one of the line's outputs.
        """
        if isinstance(request, WriteRequest) and (unit, request.output) not in self._allowed:
            raise NotAllowedError(f"unit {unit}, output {request.output.id!r}")
        begun_s = self._clock.monotonic()
        try:
            answer = await self._asked(unit, request, timeout_s, apart)
        except _NumberLostError:
            self._link.close()
            answer = await self._asked(unit, request, timeout_s, apart)
        answer.busy_s = self._clock.monotonic() - begun_s
        if not answer.ended_ns:
            answer.ended_ns = self._clock.now_ns()
            answer.begun_ns = answer.ended_ns - round(answer.busy_s * NS_PER_S)
        return answer

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._link.close()

    async def _asked(self, unit: int, request: ReadRequest | WriteRequest, timeout_s: float, apart: Apart) -> Answer:
        begun_s = self._clock.monotonic()
        if not self._connected():
            try:
                async with asyncio.timeout(timeout_s):
                    connected = await self._connect()
            except TimeoutError:
                connected = False
                self._note_failed_connect("connect timed out")
            if not connected:
                return Answer(BAD_COMM_FAILURE, self._reason, silent=True)
        left_s = timeout_s - (self._clock.monotonic() - begun_s)
        answer = await self._exchanged(unit, request, left_s, apart)
        excused = self._talk.excused
        if answer.again:
            return answer
        if answer.garbled and unit not in excused and any(other != unit for other in self._talk.unanswered):
            # Another unit's late answer may have met this exchange on the line, which is not this unit's fault.
            self.counts["asked again for a late answer"] += 1
            excused.add(unit)
            return replace(answer, again=True)
        excused.discard(unit)
        return answer

    async def _exchanged(
        self, unit: int, request: ReadRequest | WriteRequest, timeout_s: float, apart: Apart
    ) -> Answer:
        """Ask over the open line; on RTU lines a late answer to the question before is told apart first."""
        debt = self._talk.unanswered.get(unit) if self._rtu else None
        if debt is None or isinstance(request, WriteRequest):
            # No late answer to a read passes for one to a write: an output is switched at once.
            return await self._exchange(unit, request, timeout_s)
        if (check := apart(debt.request)) is not None:
            # The late answer, if it comes, is passed over here; what is asked next is asked after it.
            answer = await self._exchange(unit, check, timeout_s)
            return answer if answer.silent else replace(answer, again=True)
        rest_s = debt.since_s + LATE_MOST_S - self._clock.monotonic()
        if rest_s > 0.0:
            return Answer(BAD_COMM_FAILURE, "a late answer is waited for", silent=True, again=True, rest_s=rest_s)
        del self._talk.unanswered[unit]
        return await self._exchange(unit, request, timeout_s)

    def _connected(self) -> bool:
        stale = self._any_number and (self._link.inbox.pending or self._talk.rest)
        return self._link.is_open and not stale

    async def _connect(self) -> bool:
        if self._clock.monotonic() < self._connects.not_before_s:
            return False
        try:
            await self._link.open()
        except OSError as error:
            self._note_failed_connect(_words(error))
            return False
        self._connects = self._connects.succeeded()
        self._starting_until = 0.0
        first = int(self._draw() * NUMBERS)
        self._talk = _Talk(first, (first - 1) % NUMBERS, self._talk.unanswered if self._rtu else {})
        self._quiet_since = self._clock.monotonic()
        self.counts["connects"] += 1
        return True

    def _note_failed_connect(self, reason: str) -> None:
        self._link.close()
        self._reason = f"no connection: {reason}"
        self.counts["failed connects"] += 1
        now = self._clock.monotonic()
        failed = self._connects.failed(now, self._draw())
        starting = now < self._starting_until
        self._connects = replace(failed, failures=self._connects.failures) if starting else failed

    async def _exchange(self, unit: int, request: ReadRequest | WriteRequest, timeout_s: float) -> Answer:
        talk = self._talk
        talk.number = (talk.number + 1) % NUMBERS
        talk.idle = self._clock.monotonic() - self._quiet_since > IDLE_S
        question = Question(unit, request, talk.number)
        frame = rtu_frame(question) if self._rtu else tcp_frame(question)
        answer_s = question.rtu_answer_bytes * self._character_s
        patience_s = timeout_s + len(frame) * self._character_s
        try:
            if self._rtu:
                await self._hush(timeout_s)
            begun_ns = self._clock.now_ns()
            self._link.write(frame)
            found, heard = await self._awaited(question, patience_s, answer_s)
        except _NumberLostError:
            raise
        except OSError as error:
            self._link.close()
            talk.owe(question, self._clock.monotonic())
            return Answer(BAD_COMM_FAILURE, _words(error), silent=True)
        # Where this process stood still, the answer is older than the moment at which it is found.
        latest_ns = begun_ns + round((patience_s + answer_s) * NS_PER_S)
        self._quiet_since = self._clock.monotonic()
        talk.unheard = 0 if heard else talk.unheard + 1
        talk.rest = found.rest
        answer = self._judged(question, found, heard)
        answer.begun_ns, answer.ended_ns = begun_ns, min(self._clock.now_ns(), latest_ns)
        return answer

    async def _hush(self, timeout_s: float) -> None:
        """Wait for the silence before an RTU frame; throw away what came without being asked for."""
        until = self._clock.monotonic() + timeout_s
        while (now := self._clock.monotonic()) < until:
            if strays := self._link.inbox.take():
                self.counts["stray bytes"] += len(strays)
                self._quiet_since = now
            wait = self._quiet_since + self._silence_s - now
            if wait <= 0.0:
                return
            await asyncio.sleep(wait)

    async def _awaited(self, question: Question, timeout_s: float, answer_s: float) -> tuple[Search, bytes]:
        """Wait for the answer, of which the bytes take `answer_s`; gives what was found, and all that was heard.

        Raises:
            ConnectionError: the other end is gone.
        """
        inbox, loop = self._link.inbox, asyncio.get_running_loop()
        latest = loop.time() + timeout_s + answer_s
        heard = b""
        most = MOST_NOISE_RTU if self._rtu else MOST_NOISE_TCP
        found = Search(rest=b"" if self._rtu else self._talk.rest)
        until = latest
        while not found.over and len(heard) < most:
            # Where this process stood still, the answer and the deadline are found at once.
            if data := inbox.take():
                heard += data
                found = self._search(question, found.rest + data)
                if self._rtu and rtu_begun(question, heard):
                    until = min(latest, loop.time() + answer_s + BROKEN_OFF_S)
            elif inbox.gone:
                raise ConnectionResetError(inbox.gone)
            elif loop.time() >= until:
                break
            else:
                await inbox.wait(until)
        return found, heard

    def _search(self, question: Question, received: bytes) -> Search:
        if self._rtu:
            return rtu_search(question, received)
        found = tcp_search(question, received, any_number=self._any_number)
        self.counts["late answers"] += len(found.others)
        if all(self._talk.sent(number) for number in found.others):
            return found
        self._any_number = True
        if self._talk.unanswered:
            raise _NumberLostError("gives back no transaction numbers")
        return tcp_search(question, received, any_number=True)

    def _judged(self, question: Question, found: Search, heard: bytes) -> Answer:
        """Make an answer of what was found; remember what may still come."""
        if not found.over:
            return self._unanswered(question, found, heard)
        if found.lost:
            self._link.close()
        if found.wrong:
            self.counts["wrong answers"] += 1
            if self._rtu:
                # Whatever is wrong with it, a whole frame of the unit's own: what it owed is paid as by any refusal.
                self._talk.paid(question)
            return Answer(BAD_COMM_FAILURE, found.wrong, silent=found.lost)
        self._talk.paid(question)
        if found.content is not None:
            return Answer(found.content)
        self.counts["exceptions"] += 1
        quality, words = EXCEPTIONS.get(found.exception, (BAD_DEVICE_FAILURE, "unknown exception"))
        reason = f"exception {found.exception}: {words}"
        return Answer(quality, reason, found.exception in TARGET_SILENT, found.exception)

    def _unanswered(self, question: Question, found: Search, heard: bytes) -> Answer:
        talk = self._talk
        talk.owe(question, self._clock.monotonic())
        trouble = rtu_trouble(question, heard) if self._rtu else ""
        # The end of half a frame would be taken for the beginning of the next answer.
        half = not self._rtu and bool(found.rest)
        doubted = talk.unheard >= (1 if talk.idle else MOST_UNHEARD)
        if half or self._any_number or doubted:
            self._link.close()
        if half:
            trouble = f"answer broken off after {len(found.rest)} bytes"
        self.counts["wrong answers" if trouble else "unanswered"] += 1
        return Answer(BAD_COMM_FAILURE, trouble or "no answer", silent=True, garbled=self._rtu and bool(heard))


def _words(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return error.strerror or str(error)


def _silence_s(serial: Serial | None) -> float:
    if serial is None:
        return CONVERTER_SILENCE_S
    if serial.baud > SILENCE_FIXED_ABOVE:
        return SHORTEST_SILENCE_S
    return SILENCE_CHARACTERS * serial.bits_per_character / serial.baud
