"""Looks at when the gateways' certificates end, for the page and the figures, and warns in time."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from tocsin_cloud.adapters.enrolment import WARN_BEFORE, Enrolment, moment
from tocsin_cloud.adapters.metrics_watch import WatchMetrics
from tocsin_cloud.loops.live import LiveView
from tocsin_core.clock import Clock
from tocsin_core.rules import NS

log = structlog.get_logger()

INTERVAL_S: Final = 5.0
WARN_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class CertificateParts:
    """What is looked at, and where it is shown."""

    enrolment: Enrolment
    live: LiveView
    metrics: WatchMetrics
    clock: Clock


async def keep_certificates(parts: CertificateParts) -> None:
    """Look every few seconds until cancelled."""
    watch = CertificateWatch(parts)
    while True:
        watch.once()
        await asyncio.sleep(INTERVAL_S)


class CertificateWatch:
    """One who looks; each gateway that is to be renewed is named in the log once a day."""

    def __init__(self, parts: CertificateParts) -> None:
        """Nobody is warned of yet."""
        self._parts = parts
        self._warned: dict[str, float] = {}

    def once(self) -> None:
        """Look, and show."""
        live, gauge, now = self._parts.live, self._parts.metrics.certificate_ends, moment(self._parts.clock.now_ns())
        try:
            held = [each for each in self._parts.enrolment.certificates() if each.counts(now)]
        except OSError as error:
            log.warning("certificates not looked up", reason=str(error))
            return
        ends: dict[tuple[str, str], datetime] = {}
        for each in held:
            address = (each.site, each.gateway)
            ends[address] = max(each.end, ends.get(address, each.end))
        gauge.clear()
        for address, known in live.gateways.items():
            end = ends.get(address)
            known.certificate_ends_ns = None if end is None else int(end.timestamp()) * NS
            if end is not None:
                name = live.table.gateway_id(*address)
                gauge.labels(name).set(end.timestamp())
                if end - now < WARN_BEFORE:
                    self._warn(name, end)

    def _warn(self, gateway: str, end: datetime) -> None:
        now = self._parts.clock.monotonic()
        if now - self._warned.get(gateway, -WARN_S) >= WARN_S:
            self._warned[gateway] = now
            log.warning("certificate ends soon: renew it", gateway=gateway, ends=end.isoformat())
