"""The managed gateways: each gets the slice that the plant file has for it, signed, until it answers."""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from tocsin_cloud.adapters.gateways import send_slice
from tocsin_cloud.adapters.issued import Issued, IssuedFile
from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_cloud.loops.live import GatewayLive, LiveView
from tocsin_core.clock import Clock
from tocsin_core.managed import CUT_SHORT, Answer, Offer, Outcome, Refusal, Sign, Standing, seal
from tocsin_core.plant import Plant
from tocsin_core.plant.slice import hash_of, slice_of

LOOK_S: Final = 1.0
# A gateway that does not answer is sent the same again, ever more rarely.
AGAIN_FIRST_S: Final = 30.0
AGAIN_MOST_S: Final = 3600.0
# Sent once more unchanged it would be refused once more.
FINAL: Final = (Refusal.INVALID, Refusal.NOT_MINE)
NS_PER_MS: Final = 1_000_000

log = structlog.get_logger()


@dataclass(slots=True)
class _Wanted:
    """What a gateway ought to run on, and when it is sent it next (monotonic s); `resumed` after a trial cut short."""

    data: bytes
    hash: str
    not_before_s: float = 0.0
    again_s: float = AGAIN_FIRST_S
    given: bool = False
    resumed: bool = False


class Slices:
    """Looks at what the gateways say that they run on."""

    def __init__(
        self,
        client: Client,
        plant: Plant,
        live: LiveView,
        issued: IssuedFile,
        sign: Sign,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """Wire only."""
        self._metrics = metrics
        self._client = client
        self._plant = plant
        self._live = live
        self._issued = issued
        self._sign = sign
        self._clock = clock
        self._wanted: dict[str, _Wanted] = {}

    async def run(self, lease: Lease) -> None:
        """Look until cancelled, while `lease` is surely ours: who lost it may have an older plant file."""
        while True:
            if lease.trusted:
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Send each managed gateway that is there what it ought to run on, where it does not and it is time."""
        for gateway in self._plant.file.gateways:
            known = self._live.gateways.get((self._plant.site.id, gateway.id))
            if known is not None and not gateway.external:
                await self._look(known)

    async def _look(self, known: GatewayLive) -> None:
        standing = known.standing
        if standing is None or known.state != "online":
            return
        wanted = self._wanted.get(known.id)
        if wanted is None:
            data = await asyncio.to_thread(slice_of, self._plant, known.id)
            wanted = self._wanted[known.id] = _Wanted(data, hash_of(data))
        known.wanted = wanted.hash
        self._metrics.gateway_slice.labels(known.id).set(standing.hash == wanted.hash)
        if standing.hash == wanted.hash or self._clock.monotonic() < wanted.not_before_s:
            return
        issued = self._version_for(known.id, standing, wanted)
        if issued is None:
            return
        wanted.given = True
        wanted.not_before_s = self._clock.monotonic() + wanted.again_s
        wanted.again_s = min(2 * wanted.again_s, AGAIN_MOST_S)
        await self._send(known.id, issued, wanted)

    def _version_for(self, gateway: str, standing: Standing, wanted: _Wanted) -> Issued | None:
        """The version to send now; None where there is nothing to send.

        A version that the gateway would not have comes again, under another number, only from the next start; one whose
        trial was cut short once more before that: the power may have failed, or the version is what ends the gateway.
        """
        last, answer = self._issued.last(gateway), standing.answer
        if last is not None and last.hash == wanted.hash:
            if answer is None or answer.version != last.version:
                return last
            if answer.outcome is Outcome.ON_TRIAL or (wanted.given and _is_final(answer, wanted)):
                return None
            if answer.outcome is Outcome.REFUSED and not answer.reason.startswith((*FINAL, Refusal.OLD)):
                return last
        before = max(0 if last is None else last.version, standing.version, 0 if answer is None else answer.version)
        # By the clock, so that one who lost all files does not begin with versions that gateways have had.
        issued = Issued(max(before + 1, self._clock.now_ns() // NS_PER_MS), wanted.hash)
        try:
            self._issued.note(gateway, issued)
        except OSError as error:
            log.error("no version given out", gateway=gateway, reason=str(error))  # noqa: TRY400 -- the disk's affair
            return None
        wanted.resumed |= answer is not None and _is_cut_short(answer)
        return issued

    async def _send(self, gateway: str, issued: Issued, wanted: _Wanted) -> None:
        site = self._plant.site.id
        sealed = seal(Offer(site, gateway, issued.version, wanted.data), self._sign)
        log.info("slice sent", gateway=gateway, version=issued.version, bytes=len(sealed), again_in_s=wanted.again_s)
        try:
            await send_slice(self._client, site, gateway, sealed, self._clock.now_ns())
        except (NatsError, OSError) as error:
            log.warning("slice not sent", gateway=gateway, reason=str(error) or repr(error))


def _is_final(answer: Answer, wanted: _Wanted) -> bool:
    if _is_cut_short(answer):
        return wanted.resumed
    refused = answer.outcome is Outcome.REFUSED and answer.reason.startswith(FINAL)
    return refused or answer.outcome is Outcome.ROLLED_BACK


def _is_cut_short(answer: Answer) -> bool:
    return answer.outcome is Outcome.ROLLED_BACK and answer.reason == CUT_SHORT
