"""What a line does beside reading its devices: it switches outputs, and reads the push-buttons that acknowledge."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_core.plant.connection import Modbus
from tocsin_core.plant.outputs import Button, Output
from tocsin_core.polling import Job, WriteRequest
from tocsin_core.registers import ReadRequest
from tocsin_edge.adapters.modbus import Answer

MS_PER_S: Final = 1000
NS_PER_MS: Final = 1_000_000
# A hand lets go of a button within seconds; after this it is stuck, or its wire is broken.
STUCK_S: Final = 30.0
# An output that is not as it should be is switched again after so long, which doubles up to the most.
AGAIN_FIRST_S: Final = 0.25
AGAIN_MOST_S: Final = 1.0

log = structlog.get_logger()


class Chore(ABC):
    """One unit's coil, input or register that is looked after again and again; a cycle is one or more questions."""

    def __init__(self, name: str, modbus: Modbus, period_ms: int) -> None:
        """Start with nothing asked."""
        self.name = name
        self.modbus = modbus
        self.job = Job(
            name, modbus.unit, period_ms * NS_PER_MS, modbus.timeout_ms / MS_PER_S, modbus.retries, safety=True
        )
        self.reason = "not asked yet"
        self.hurry: Callable[[], None] = _nothing

    @property
    def writes(self) -> tuple[tuple[int, Output], ...]:
        """The writes that it may ask for: unit and output."""
        return ()

    @property
    def again_s(self) -> float:
        """In how many s at the latest it asks again; the period stands for itself."""
        return inf

    @abstractmethod
    def request(self) -> ReadRequest | WriteRequest | None:
        """The next question of the cycle; None where it is through."""

    @abstractmethod
    def note(self, request: ReadRequest | WriteRequest, answer: Answer) -> None:
        """Take in the answer to `request`."""

    @abstractmethod
    def finish(self) -> None:
        """End the cycle."""

    def _judge(self, reason: str) -> None:
        """Note what is wrong, empty if nothing is, and tell when that changes."""
        if reason and reason != self.reason:
            log.critical("does not do as it should", what=self.name, reason=reason)
        elif self.reason and not reason:
            log.info("does as it should", what=self.name)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SwitchFigures:
    """How an output fares: what it should be and is known to be (None: nothing is known), and what is wrong."""

    id: str
    kind: str
    wanted: bool
    known: bool | None
    reason: str
    writes: int
    failures: int


class Switch(Chore):
    """One output: written when it should change and again and again after that, and read back where it can be."""

    def __init__(self, output: Output) -> None:
        """Start with an output that should be off, of which nothing is known."""
        super().__init__(f"output {output.id}", output.modbus, output.refresh_ms)
        self.output = output
        self._wanted = False
        self._written: bool | None = None
        self._open = False
        self._failed = ""
        self._known: bool | None = None
        self._taken = self._failures = 0
        self._again_s = inf

    @property
    def writes(self) -> tuple[tuple[int, Output], ...]:
        """Its own coil or register, and no other."""
        return ((self.modbus.unit, self.output),)

    @property
    def figures(self) -> SwitchFigures:
        """How it fares."""
        output = self.output
        return SwitchFigures(
            output.id, output.kind, self._wanted, self._known, self.reason, self._taken, self._failures
        )

    @property
    def again_s(self) -> float:
        """Soon after a failure: `refresh_ms` is for what is as it should be."""
        return self._again_s

    def want(self, *, on: bool) -> None:
        """Let the output be on or off; it is switched as soon as the line can do so."""
        if on != self._wanted:
            self._wanted, self._again_s = on, inf
            log.warning("output", output=self.output.id, on=on)
            self.hurry()

    def leave(self) -> None:
        """Let the output be off, whatever it was, and know of it only what its unit says from now on."""
        self._wanted, self._again_s, self._known = False, inf, None
        self.hurry()

    def request(self) -> ReadRequest | WriteRequest | None:
        """The write, again if it should be otherwise by now, then the question whether it was taken."""
        if self._failed:
            return None
        if self._written is not self._wanted:
            return WriteRequest(self.output, self._wanted)
        return WriteRequest(self.output, self._wanted).back if self._open else None

    def note(self, request: ReadRequest | WriteRequest, answer: Answer) -> None:
        """Take in what the unit said."""
        if isinstance(answer.reply, int):
            self._failed, self._known = answer.reason, None
            return
        if isinstance(request, WriteRequest):
            self._taken += 1
            self._written, self._open = request.on, self.output.read_back
            if not self._open:
                self._known = request.on
            return
        self._open = False
        back, output = int(answer.reply[0]), self.output
        expected = output.on if self._written else output.off
        self._known = {output.on: True, output.off: False}.get(back)
        if back != expected:
            self._failed = f"reads back {back} where {expected} was written"

    def finish(self) -> None:
        """Say what is wrong, if anything is; what was written is written again in the next cycle."""
        self._failures += bool(self._failed)
        longer_s = AGAIN_FIRST_S if self._again_s == inf else min(2 * self._again_s, AGAIN_MOST_S)
        self._again_s = longer_s if self._failed else inf
        self._judge(self._failed)
        self._written, self._open, self._failed = None, False, ""


@dataclass(frozen=True, slots=True)
class ButtonFigures:
    """How a push-button fares: whether it is pressed (None: nobody knows), how often it was, and what is wrong."""

    id: str
    pressed: bool | None
    presses: int
    reason: str


class PushButton(Chore):
    """One push-button: being pressed in two readings in a row, after it was not, is one press.

    Where two readings in a row fail, whether it was up before is not known any more.

    Held down for longer than a hand holds a button it is stuck, which is told; it does not press again by that.
    """

    def __init__(self, button: Button, clock: Clock, on_press: Callable[[str], None]) -> None:
        """`on_press` takes the button's id."""
        super().__init__(f"button {button.id}", button.modbus, button.period_ms)
        self.button = button
        self._clock = clock
        self._on_press = on_press
        self._asked = False
        self._failed = ""
        self._last: bool | None = None
        self._armed = False
        self._down_since_s = 0.0
        self._presses = 0

    @property
    def figures(self) -> ButtonFigures:
        """How it fares."""
        return ButtonFigures(self.button.id, self._last, self._presses, self.reason)

    def request(self) -> ReadRequest | WriteRequest | None:
        """The one question of a cycle."""
        return None if self._asked else ReadRequest(self.button.function, self.button.address, 1)

    def note(self, request: ReadRequest | WriteRequest, answer: Answer) -> None:  # noqa: ARG002 - it has only one
        """Take in what the unit said."""
        self._asked = True
        self._failed = answer.reason
        if isinstance(answer.reply, int):
            # A unit that gets its power back may read as pressed; one failure in the middle of a press is borne.
            self._armed &= self._last is not None
            self._last = None
            return
        word = int(answer.reply[0])
        bit = word if self.button.bit is None else word >> self.button.bit & 1
        self._see(pressed=bit == self.button.pressed)

    def finish(self) -> None:
        """Say what is wrong, if anything is."""
        now_s = self._clock.monotonic()
        stuck = self._last is True and now_s - self._down_since_s > STUCK_S
        self._judge(self._failed or (f"held down for more than {STUCK_S:.0f} s" if stuck else ""))
        self._asked, self._failed = False, ""

    def _see(self, *, pressed: bool) -> None:
        if pressed and self._last is not True:
            self._down_since_s = self._clock.monotonic()
        if pressed and self._last is True and self._armed:
            self._armed = False
            self._presses += 1
            log.warning("button pressed", button=self.button.id)
            self._on_press(self.button.id)
        # One that was down when it was first seen was not pressed: it must have been up before.
        self._armed |= not pressed
        self._last = pressed


def _nothing() -> None:
    """Hurry nobody, before a line has taken the chore."""
