"""Who does which role's work and who waits for it: shown by the holder, told by the candidates to whoever listens."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from tocsin_cloud.adapters.lease import Lease
from tocsin_cloud.adapters.metrics_watch import WatchMetrics
from tocsin_cloud.settings import Role

log = structlog.get_logger()

CANDIDATE: Final = "tocsin.candidate"
INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A process that would take `role`; `behind`: how many messages it lacks of what the holder has committed."""

    role: str
    process: str
    behind: int


async def keep_telling(
    client: Client, site: str, leases: Mapping[Role, Lease], behind: Callable[[], int], metrics: WatchMetrics
) -> None:
    """Show and tell every second, until cancelled, where this process stands; `behind` is the alarms worker's."""
    while True:
        for role, lease in leases.items():
            if lease.trusted:
                metrics.lease_epoch.labels(role, lease.holder).set(lease.epoch)
                continue
            if not lease.stands_by:
                # Who has yet to load what the work needs takes it over from nobody.
                continue
            candidate = Candidate(role, lease.holder, behind() if role is Role.ALARMS else 0)
            try:
                await client.publish(f"{CANDIDATE}.{site}", json.dumps(asdict(candidate)).encode())
            except (NatsError, OSError) as error:
                log.warning("candidate not heard", role=role, reason=str(error) or repr(error))
        await asyncio.sleep(INTERVAL_S)
