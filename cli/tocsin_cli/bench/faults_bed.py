"""What the fault benchmark stands on: its plant, a gateway to be killed, the cloud side, and the gateway's file."""

import json
import os
import resource
import secrets
import sqlite3
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from httpx import TransportError

from tocsin_cli.bench.faults_devices import PERIOD_S, TIMEOUT_S
from tocsin_cli.bench.faults_diary import utc
from tocsin_cli.bench.faults_tally import Raised, Stored
from tocsin_cli.bench.programs import TOCSIN, program
from tocsin_cli.demo.client import ApiClient
from tocsin_cli.set_clock import PROGRAM
from tocsin_cloud.loops.aside import BESIDE
from tocsin_core.clock import Clock
from tocsin_core.lifecycle import UNANSWERED, Phase
from tocsin_core.readings import BAD_NOT_CONNECTED, GOOD
from tocsin_edge.adapters.metrics import ask
from tocsin_edge.adapters.spool_codec import seal, unpack

NODE: Final = "gw"
SETPOINT: Final = 50
USER: Final = "admin"
# So much of a point is asked for at once: the API gives at most 20,000 rows.
STRETCH_S: Final = 1_800
# The gateway's clock may be ahead by so much.
AHEAD_MS: Final = 10_000
WAITS: Final = frozenset(phase.text for phase in UNANSWERED)
STANDS: Final = frozenset((Phase.UNACKNOWLEDGED.text, Phase.ACKNOWLEDGED.text))
PAGE: Final = 1_000
PROFILE: Final = (
    "vendor: Tocsin\nmodel: faults\ntrust: interop-verified\nsource: the benchmark\nvalues:\n"
    "  number: {address: 0, type: u32, word_order: ABCD}\n  level: {address: 2, type: f32, word_order: ABCD}\n"
)


def number_point(place: int) -> str:
    """The point of an instrument that tells which answer it was."""
    return f"d{place}n"


def is_number_point(point: str) -> bool:
    """Whether a point is one of `number_point`."""
    return point.endswith("n")


def level_point(place: int) -> str:
    """The point of an instrument that walks over its limit."""
    return f"d{place}level"


def write_plant(folder: Path, mqtt: int, ports: Sequence[int], coils: int, deadband: int = 5) -> None:
    """Write a plant of one gateway whose uplink is at port `mqtt`, with instruments at these `ports`.

    At each of the `coils` (a port) is the beacon of the instrument of its place, at the one after them a siren for all.
    """
    (folder / "profiles").mkdir(parents=True, exist_ok=True)
    (folder / "profiles" / "faults.yaml").write_text(PROFILE, encoding="utf-8")
    lines = ["tocsin: 1", "site: {id: faults, name: faults}", "gateways:", f"  - id: {NODE}"]
    lines += [f"    uplink: {{host: 127.0.0.1, port: {mqtt}}}", "    outputs:"]
    at = f"modbus: {{port: {coils}, timeout_ms: {TIMEOUT_S * 1000:.0f}, retries: 0}}, min_priority: low"
    outputs = [f"id: B{place}, kind: beacon, points: [{level_point(place)}]" for place in range(len(ports))]
    lines += [
        f"      - {{{output}, address: {address}, {at}}}"
        for address, output in enumerate([*outputs, "id: SIREN, kind: siren"])
    ]
    lines += ["    devices:"]
    silent = "bad: false, stale: false"
    limit = f"H: {{setpoint: {SETPOINT}, deadband: {deadband}, on_delay_s: 0, off_delay_s: 0, priority: low}}"
    for place, port in enumerate(ports):
        modbus = f"host: 127.0.0.1, port: {port}, unit: 1, timeout_ms: {TIMEOUT_S * 1000:.0f}, retries: 0"
        points = (
            (number_point(place), "register: number, range: [0, 4000000000]", silent),
            (level_point(place), "register: level, unit: bar, range: [0, 100]", f"{limit}, {silent}"),
        )
        lines += [f"      - id: d{place}", "        profile: faults", f"        period_ms: {PERIOD_S * 1000:.0f}"]
        lines += [f"        modbus: {{{modbus}}}", "        points:"]
        lines += [
            f"          - {{id: {point}, name: {point}, kind: generic, {rest}, alarms: {{{alarms}}}}}"
            for point, rest, alarms in points
        ]
    (folder / "plant.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def shown(alarms: Collection[tuple[str, str]], instruments: int) -> dict[int, bool]:
    """How each coil should be where these are the alarms: point and phase."""
    standing = {point for point, phase in alarms if phase in STANDS}
    wanted = {place: level_point(place) in standing for place in range(instruments)}
    return wanted | {instruments: any(phase in WAITS for _, phase in alarms)}


@dataclass
class Gateway:
    """A real gateway process, to be killed and started again; its file and its log outlive it.

    Its clock is set by the file `clock`; a version that it is sent has `trial_s` to show that it works.
    """

    plant: Path
    data: Path
    log: Path
    clock: Path
    trial_s: float
    _life: AsyncExitStack = field(default_factory=AsyncExitStack)
    _process: Process | None = None
    _seen: int = 0

    @property
    def spool(self) -> Path:
        """Its file."""
        return self.data / "gateways" / NODE / "spool.sqlite"

    async def start(self) -> None:
        """Start it."""
        command = (*PROGRAM, str(self.plant), NODE, str(self.data), str(self.clock), str(self.trial_s))
        # Of what its disk refuses its log is to tell.
        self._process = await self._life.enter_async_context(program(*command, log=self.log, apart=True))

    def limit(self, size: int = resource.RLIM_INFINITY) -> None:
        """Let no file of it be written beyond `size` bytes from now on."""
        if self._process is not None:
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def status(self) -> dict[str, Any]:
        """What it says of itself; nothing where it does not answer."""
        return self._page("/status")

    def alarms(self) -> dict[str, Any]:
        """What it says of its alarms; nothing where it does not answer."""
        return self._page("/alarms")

    def _page(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(ask(self.spool.parent, name))
        except OSError:
            return {}
        return found

    async def kill(self) -> None:
        """Kill it with -9."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
        await self._life.aclose()

    async def end(self) -> None:
        """Let it end, and make it end if it does not."""
        await self._life.aclose()

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process is not None and self._process.returncode is not None

    def kept(self) -> list[tuple[str, int]]:
        """Point and value of each good reading of an answer's number that its file has on top since this was asked."""
        found = []
        for number, point, _, value, quality in self._in_file(self._seen):
            self._seen = number
            if quality == GOOD and is_number_point(point):
                found.append((point, int(value)))
        return found

    def stamped_alike(self) -> list[str]:
        """Tell of each point that has several readings of one stamp, as far back as its file goes."""
        found: dict[tuple[str, int], list[str]] = {}
        for number, point, time_ms, value, quality in self._in_file(0):
            found.setdefault((point, time_ms), []).append(f"{value:g} (quality {quality}, batch {number})")
        return [
            f"{utc(time_ms)} {point}: one stamp, {' and '.join(several)}"
            for (point, time_ms), several in found.items()
            if len(several) > 1
        ]

    def _in_file(self, after: int) -> Iterator[tuple[int, str, int, float, int]]:
        """Batch, point, time in ms since 1970, value and quality of what its file has in batches above `after`."""
        if not self.spool.exists():
            return
        with closing(sqlite3.connect(f"file:{self.spool}?mode=rw", uri=True)) as database:
            if not database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'batches'").fetchone()[0]:
                return
            rows = database.execute(
                "SELECT number, device, metrics, columns FROM batches JOIN layouts ON layouts.id = layout"
                " WHERE number > ? ORDER BY number",
                (after,),
            ).fetchall()
        for number, device, held, blob in rows:
            names = tuple(json.loads(held))
            columns = unpack(blob, seal(number, device, names))
            if columns is None:
                raise RuntimeError(f"batch {number} in the gateway's file does not check out")
            for metric, time_ms, value, quality in zip(
                columns.metric.tolist(),
                columns.time_ms.tolist(),
                columns.value.tolist(),
                columns.quality.tolist(),
                strict=True,
            ):
                yield number, names[metric], time_ms, value, quality


class Cloud:
    """The real cloud side, asked over its API for what it has."""

    def __init__(self, api: ApiClient, clock: Clock) -> None:
        """Ask by `api`."""
        self._api = api
        self._begun_ms = clock.now_ns() // 1_000_000
        self._clock = clock

    async def acknowledge(self) -> None:
        """Let somebody acknowledge all that waits, who has better things to do than to wait for a slow page."""
        with suppress(TransportError):
            for row in await self._api.get("alarms", limit=PAGE):
                if row["phase"] in WAITS:
                    await self._api.post(f"alarms/{row['id']}/ack")

    async def shown(self, instruments: int) -> dict[int, bool]:
        """How the journal wants each coil to be."""
        rows = await self._api.get("alarms", limit=PAGE)
        return shown([(row["point"], row["phase"]) for row in rows], instruments)

    async def readings(self) -> int:
        """Count the readings that it stored of the gateway, as it counts them itself."""
        (own,) = await self._api.get("gateways")
        return int(own["readings"])

    async def stored(self, place: int, raised: Sequence[Raised]) -> tuple[Stored, int]:
        """What it has of one instrument, and how many different readings of the gateway's that is, bad ones too."""
        numbers, of_numbers = await self._point(number_point(place))
        levels, of_levels = await self._point(level_point(place))
        return Stored(numbers, levels, raised, await self._beside(raised)), of_numbers + of_levels

    async def _beside(self, raised: Sequence[Raised]) -> list[int]:
        """When the gateway raised what stood here already."""
        steps = [step for each in raised for step in await self._api.get(f"alarms/{each.id}/steps")]
        return [_ms(step["at"]) for step in steps if step["event"] == "raise" and BESIDE in (step["reason"] or "")]

    async def _point(self, point: str) -> tuple[dict[int, float], int]:
        values: dict[int, float] = {}
        count = 0
        now_ms = self._clock.now_ns() // 1_000_000 + AHEAD_MS
        for begin_ms in range(self._begun_ms, now_ms, STRETCH_S * 1000):
            end_ms = begin_ms + STRETCH_S * 1000
            found = await self._api.get(f"points/{point}/readings", start=utc(begin_ms), end=utc(end_ms))
            for time, value, quality in zip(found["time"], found["value"], found["quality"], strict=True):
                # What a death marks is the cloud side's own word.
                count += quality != BAD_NOT_CONNECTED
                if value is not None:
                    values[_ms(time)] = value
        return values, count

    async def raised(self) -> dict[str, list[Raised]]:
        """Every occurrence that it knows, by point."""
        rows: dict[str, dict[str, Any]] = {}
        query: dict[str, str] = {}
        while True:
            page = await self._api.get("alarms", state="all", limit=PAGE, **query)
            fresh = {row["id"]: row for row in page if row["id"] not in rows}
            if not fresh:
                break
            rows |= fresh
            query = {"before": min(row["raised_at"] for row in page)}
        found: dict[str, list[Raised]] = {}
        for row in rows.values():
            returned = None if row["returned_at"] is None else _ms(row["returned_at"])
            found.setdefault(row["point"], []).append(Raised(_ms(row["raised_at"]), returned, row["id"]))
        return found


@asynccontextmanager
async def cloud_side(
    folder: Path, plant: Path, mqtt: int, http: int, clock: Clock
) -> AsyncIterator[tuple[Cloud, ApiClient]]:
    """Run the cloud side with its own broker; whether it is ready its API tells."""
    password = secrets.token_urlsafe(12)
    command = ["cloud", str(plant), "--data", str(folder / "cloud")]
    command += ["--http", f"127.0.0.1:{http}", "--mqtt", f"127.0.0.1:{mqtt}"]
    env = os.environ | {"TOCSIN_ADMIN_PASSWORD": password}
    async with program(*TOCSIN, *command, log=folder / "cloud.log", env=env):
        api = ApiClient(f"http://127.0.0.1:{http}/", USER, password, clock)
        try:
            yield Cloud(api, clock), api
        finally:
            await api.close()


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
