"""A VictoriaMetrics server, or a cluster of them: written to, asked, and looked at for flags and for being the same."""

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any, Final, NamedTuple

import httpx
import structlog

from tocsin_cloud.adapters.history import HistoryError
from tocsin_cloud.adapters.history_lines import MEASUREMENT, LineWriter, reason
from tocsin_cloud.settings import HistoryAddress

log = structlog.get_logger()

# VictoriaMetrics answers a write before it is on disk. Killed at a moment of our choice, version 1.79.5 had lost what
# was up to 9 s old and nothing that was 10 s old; later versions flush every 5 s (-inmemoryDataFlushInterval).
DURABLE_AFTER_S: Final = 20.0
FLUSH_FLAG: Final = "inmemoryDataFlushInterval"
LONGEST_FLUSH: Final = "5s"
# Of samples with one time stamp all are kept, and all would count in a mean, unless this flag is set.
DEDUPLICATION_FLAG: Final = "dedup.minScrapeInterval"
DEDUPLICATION: Final = "1ms"
READ_TIMEOUT_S: Final = 30.0
# Until the next piece of an export comes, or of an import is taken.
COPY_TIMEOUT_S: Final = 600.0


class AwayError(HistoryError):
    """The server does not answer."""


class NotWholeError(HistoryError):
    """The server refuses what it is asked for, or breaks off in the midst: of less it may give all."""


class Look(NamedTuple):
    """What the server tells of itself: since when it runs, what it took and ignored since, and its flags."""

    started: float
    inserted: float
    ignored: float
    flags: Mapping[str, str]

    def goes_on_from(self, earlier: "Look") -> bool:
        """Whether it is still the process that it was; the start is told in whole seconds."""
        return self.started == earlier.started and self.inserted >= earlier.inserted


class VictoriaServer:
    """One server, or of a cluster an address to write to and one to read from."""

    def __init__(self, address: HistoryAddress) -> None:
        """Talk to nobody yet."""
        scheme = "https" if address.secure else "http"
        roots = [f"{scheme}://{host}" for host in address.hosts]
        cluster = len(roots) > 1
        self._writer = LineWriter(roots[0] + ("/insert/0/influx" if cluster else ""), "-", MEASUREMENT, "")
        self._import = roots[0] + ("/insert/0/prometheus" if cluster else "") + "/api/v1/import"
        self._client = httpx.AsyncClient(timeout=READ_TIMEOUT_S, trust_env=False)
        self._root = roots[-1]
        self._api = roots[-1] + ("/select/0/prometheus" if cluster else "") + "/api/v1/"
        self.seen: Look | None = None
        self.dropped = 0  # samples, as far as it told

    async def write(self, lines: bytes) -> None:
        """Have it take lines.

        Raises:
            HistoryError: it refused them, or did not answer; it may have taken some.
        """
        await asyncio.to_thread(self._writer.write, lines)

    async def ask(self, resource: str, asked: Mapping[str, Any]) -> str:
        """What it answers to a query.

        Raises:
            HistoryError: it is away, or refuses.
        """
        try:
            answer = await self._client.post(self._api + resource, data=asked)
        except httpx.HTTPError as error:
            raise HistoryError(f"{self._root}: {reason(error)}") from error
        if answer.status_code != httpx.codes.OK:
            raise self._refused(answer.status_code, answer.text)
        return answer.text

    async def export(self, selector: str, start_s: int, end_s: int) -> AsyncIterator[bytes]:
        """All samples of series in [start, end), as lines of JSON, packed by gzip.

        Raises:
            NotWholeError: it refuses, or went away meanwhile.
            HistoryError: it is away, or does not pack.
        """
        # Not by blocks (`reduce_mem_usage`), though that has no limits: after any other export of the same process
        # version 1.79.5 then gives samples of one series in the place of another's.
        # What is at its `end` would be in it too. The half of a millisecond makes up for what a fraction of a second
        # loses as a binary number: the server cuts off what is beyond milliseconds.
        asked = {"match[]": selector, "start": str(start_s), "end": f"{end_s - 1}.9995"}
        headers = {"Accept-Encoding": "gzip"}
        try:
            async with self._client.stream(
                "POST", self._api + "export", data=asked, headers=headers, timeout=COPY_TIMEOUT_S
            ) as answer:
                if answer.status_code != httpx.codes.OK:
                    told = (await answer.aread()).decode(errors="replace")
                    raise NotWholeError(str(self._refused(answer.status_code, told)))
                if answer.headers.get("Content-Encoding") != "gzip":
                    raise HistoryError(f"{self._root} has to run without -http.disableResponseCompression")
                async for piece in answer.aiter_raw():
                    yield piece
        except httpx.RemoteProtocolError as error:
            raise NotWholeError(f"{self._root}: {reason(error)}") from error
        except httpx.HTTPError as error:
            raise HistoryError(f"{self._root}: {reason(error)}") from error

    async def take_in(self, exported: AsyncIterable[bytes]) -> None:
        """Have it take what `export` gave; what it has already stays as it is.

        Raises:
            HistoryError: it is away or refuses; it may have taken some.
        """
        headers = {"Content-Encoding": "gzip"}
        try:
            answer = await self._client.post(self._import, content=exported, headers=headers, timeout=COPY_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise HistoryError(f"{self._import}: {reason(error)}") from error
        if not answer.is_success:
            raise self._refused(answer.status_code, answer.text)

    async def look(self) -> Look:
        """Hear what it tells of itself.

        Raises:
            AwayError: it does not answer.
            HistoryError: with these flags it would lose readings or count some twice.
        """
        try:
            answer = await self._client.get(self._root + "/metrics")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise AwayError(f"{self._root}: {reason(error)}") from error
        look = _look_of(answer.text)
        if look.flags.get(DEDUPLICATION_FLAG) != DEDUPLICATION:
            raise HistoryError(f"{self._root} has to run with -{DEDUPLICATION_FLAG}={DEDUPLICATION}")
        if look.flags.get(FLUSH_FLAG, LONGEST_FLUSH) != LONGEST_FLUSH:
            raise HistoryError(f"{self._root} has to run with -{FLUSH_FLAG}={LONGEST_FLUSH}, the default")
        if self.seen is not None and look.goes_on_from(self.seen) and look.ignored > self.seen.ignored:
            # Older than its retention, or more than two days ahead of its clock: it takes the lines and drops them.
            dropped = int(look.ignored - self.seen.ignored)
            self.dropped += dropped
            log.error("VictoriaMetrics dropped readings", fields=dropped)
        self.seen = look
        return look

    def _refused(self, status: int, text: str) -> HistoryError:
        return HistoryError(f"{self._root}: {status} {' '.join(text.split())}")

    async def close(self) -> None:
        """Disconnect."""
        self._writer.close()
        await self._client.aclose()


def _look_of(text: str) -> Look:
    def total(name: str) -> float:
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))

    flags = re.findall(r'^flag\{name="([^"]*)", ?value="([^"]*)"', text, re.MULTILINE)
    return Look(
        total("process_start_time_seconds"),
        total("vm_rows_inserted_total"),
        total("vm_rows_ignored_total"),
        dict(flags),
    )
