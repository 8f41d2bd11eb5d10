"""Who uses the interface in the rolling benchmark: asks whichever of its processes answers, and reads its events."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from tocsin_core.clock import Clock

BETWEEN_S: Final = 0.1
AGAIN_S: Final = 0.02
PATIENCE_S: Final = 5.0
# A password is checked slowly on purpose, and nothing is measured by it.
SIGN_IN_S: Final = 60.0
# The page's own list: all alarms, and after a stream's end once more.
ALARMS: Final = "/api/v1/alarms?state=all&limit=1000"


@dataclass
class Pages:
    """The addresses of the interface's processes; what came of asking them, and the alarms that a reader has seen.

    `refused` counts answers that another process had to give. `worst_answer_s` runs from the first attempt to the
    answer, `worst_silence_s` from the end of a stream to where the reader has read everything anew and hears again.
    """

    addresses: Sequence[str]
    user: str
    password: str
    clock: Clock
    answered: int = 0
    refused: int = 0
    ended: int = 0
    worst_answer_s: float = 0.0
    worst_silence_s: float = 0.0
    seen: set[str] = field(default_factory=set)

    async def ready(self, number: int) -> bool:
        """Whether a process answers and says that it is ready."""
        try:
            async with self._client() as client:
                return (await client.get(f"{self.addresses[number]}/readyz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def ask(self) -> None:
        """Ask ten times a second until cancelled, each time until one answers."""
        place = 0
        async with self._client() as client:
            await self._sign_in(client)
            while True:
                begun_s = self.clock.monotonic()
                while await self._got(client, f"{self.addresses[place]}{ALARMS}") is None:
                    self.refused += 1
                    place = (place + 1) % len(self.addresses)
                    await asyncio.sleep(AGAIN_S)
                self.answered += 1
                self.worst_answer_s = max(self.worst_answer_s, self.clock.monotonic() - begun_s)
                await asyncio.sleep(BETWEEN_S)

    async def listen(self) -> None:
        """Read the events until cancelled; where a stream ends, as the page does: hear another one, read all anew."""
        place, since_s = 0, self.clock.monotonic()
        async with self._client() as client:
            await self._sign_in(client)
            while True:
                try:
                    async with client.stream("GET", f"{self.addresses[place]}/api/v1/events") as stream:
                        if stream.status_code == httpx.codes.OK:
                            listed = await self._got(client, f"{self.addresses[place]}{ALARMS}")
                            if listed is not None:
                                self.seen.update(alarm["id"] for alarm in listed)
                                self.worst_silence_s = max(self.worst_silence_s, self.clock.monotonic() - since_s)
                                await self._read(stream)
                                since_s = self.clock.monotonic()
                                self.ended += 1
                except httpx.TransportError:
                    pass
                place = (place + 1) % len(self.addresses)
                await asyncio.sleep(AGAIN_S)

    async def _read(self, stream: httpx.Response) -> None:
        kind = ""
        async for line in stream.aiter_lines():
            name, _, rest = line.partition(": ")
            if name == "event":
                kind = rest
            elif name == "data" and kind == "transitions":
                self.seen.update(alarm["id"] for alarm in json.loads(rest))

    async def _got(self, client: httpx.AsyncClient, address: str) -> list[dict[str, str]] | None:
        """A list of the interface; None where that process does not give it."""
        try:
            answer = await client.get(address)
        except httpx.TransportError:
            return None
        found: list[dict[str, str]] | None = answer.json() if answer.status_code == httpx.codes.OK else None
        return found

    async def _sign_in(self, client: httpx.AsyncClient) -> None:
        words = {"user": self.user, "password": self.password}
        answer = await client.post(f"{self.addresses[0]}/api/v1/session", json=words, timeout=SIGN_IN_S)
        client.headers["Authorization"] = f"Bearer {answer.raise_for_status().json()['token']}"

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False)
