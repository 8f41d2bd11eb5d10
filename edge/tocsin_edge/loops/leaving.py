"""Outputs that are in force no more: as they are while a version is on trial, then switched off and let go."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog

from tocsin_core.clock import Clock
from tocsin_core.plant.outputs import Output
from tocsin_edge.adapters.switched_outputs import read_outputs, write_outputs
from tocsin_edge.loops.chores import Switch

# A unit that was cut off comes back within this time, or was taken away together with its entry in the plant file.
LEAVE_S: Final = 3600.0
LOOK_S: Final = 1.0
OFF: Final = "off"
UNKNOWN: Final = "may be on"

log = structlog.get_logger()


class Leaving:
    """What of the outputs that were switched here is in force no more, by what it switches and not by its id.

    While a version is on trial such an output is `held` as it was last switched: the version may be rolled back, and a
    siren must sound on. After `settle` it is written off until the unit has taken it, for LEAVE_S of this process at
    the most. All that may have been switched on is in a file before it is, so that it also leaves after a restart with
    another plant file, and after a kill at any moment. `counts` says what those that left were left as; `trouble` is
    why the file does not say so.
    """

    def __init__(self, folder: Path, outputs: Sequence[Output], clock: Clock) -> None:
        """Begin with what is in force; what the file in `folder` has beside that leaves."""
        self._folder = folder
        self._clock = clock
        self._in_force = tuple(outputs)
        self._coming: tuple[Output, ...] = ()
        self._on_disk = read_outputs(folder)
        self._until_s: dict[Switch, float] = {}
        self.held: tuple[Switch, ...] = ()
        self.counts: Counter[str] = Counter()
        self.trouble = ""
        places = {output.place for output in outputs}
        self._leave(Switch(output) for output in self._on_disk if output.place not in places)
        self._keeping = asyncio.Lock()
        if self._known != self._on_disk:
            self._note(self._known, self._written(self._known))

    @property
    def switches(self) -> tuple[Switch, ...]:
        """All that a line still has to look after."""
        return (*self.held, *self._until_s)

    def warnings(self) -> tuple[str, ...]:
        """What is not switched off yet and should be, one line each; and why a restart would not know it."""
        found = [f"{each.name} left the plant file and may be on: {each.reason}" for each in self._until_s]
        if self.trouble:
            found.append(f"which outputs are switched is not kept: {self.trouble}")
        return tuple(found)

    async def expect(self, outputs: Sequence[Output]) -> None:
        """Put on disk that `outputs` may be switched from now on, beside those before."""
        self._coming = tuple(outputs)
        await self._keep()

    def adopt(self, before: Iterable[Switch], outputs: Sequence[Output]) -> None:
        """Let `outputs` be in force instead of `before`; what is lacking is held until it is settled."""
        self._in_force, self._coming = tuple(outputs), ()
        places = {output.place for output in outputs}
        self.held = tuple(each for each in (*self.held, *before) if each.output.place not in places)
        self._until_s = {each: until_s for each, until_s in self._until_s.items() if each.output.place not in places}

    def settle(self) -> None:
        """Let go of what is held: what is in force now stays so."""
        held, self.held = self.held, ()
        self._leave(held)

    async def run(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Look for ever who is off or was tried for too long; `changed` lets the lines go on without them."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._look():
                await changed()
            await self._keep()

    def _leave(self, switches: Iterable[Switch]) -> None:
        for each in switches:
            log.warning("output leaves", output=each.output.id, at=each.output.place)
            each.leave()
            self._until_s[each] = self._clock.monotonic() + LEAVE_S

    def _look(self) -> bool:
        """Let go of those that are off, or were tried for too long; tells whether there were any."""
        now_s = self._clock.monotonic()
        off = [each for each in self._until_s if each.figures.known is False]
        given_up = [each for each, until_s in self._until_s.items() if now_s >= until_s and each not in off]
        for each in off:
            log.warning("output left, switched off", output=each.output.id)
        for each in given_up:
            log.critical("output left and may be on: nobody switches it", output=each.output.id, reason=each.reason)
        self.counts.update({OFF: len(off), UNKNOWN: len(given_up)})
        for each in (*off, *given_up):
            del self._until_s[each]
        return bool(off or given_up)

    @property
    def _known(self) -> tuple[Output, ...]:
        """All that may be switched on, each place once."""
        leave = (each.output for each in self.switches)
        return tuple({each.place: each for each in (*leave, *self._coming, *self._in_force)}.values())

    async def _keep(self) -> None:
        async with self._keeping:
            known = self._known
            if known != self._on_disk:
                self._note(known, await asyncio.to_thread(self._written, known))

    def _written(self, outputs: tuple[Output, ...]) -> str:
        """Put `outputs` on disk; tells why it does not take them, empty if it does."""
        try:
            write_outputs(self._folder, outputs)
        except OSError as error:
            return str(error)
        return ""

    def _note(self, outputs: tuple[Output, ...], trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.critical("which outputs are switched is not kept", reason=trouble)
        self.trouble = trouble
        if not trouble:
            self._on_disk = outputs
