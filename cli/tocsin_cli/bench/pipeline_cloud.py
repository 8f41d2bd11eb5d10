"""One process of the cloud side in the pipeline benchmark: the deployed program on a plant that no file holds."""

import asyncio
import gc
import signal
import sys
from pathlib import Path

from tocsin_cli.bench.pipeline_plant import plant
from tocsin_cli.cancelling import keep_cancellations
from tocsin_cli.logs import log_to_stderr
from tocsin_cloud.app import run
from tocsin_cloud.settings import Address, CloudSettings, parse_roles
from tocsin_core.clock import SystemClock


async def _run(role: str, gateways: int, data: Path, nats_url: str, http: str, mqtt: str, sql: str | None) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = CloudSettings(
        plant=data,
        data=data,
        http=Address.parse(http),
        mqtt=Address.parse(mqtt),
        nats_url=nats_url,
        sql=sql,
        roles=parse_roles(role),
    )
    # What stays for good need not be looked through for garbage while it is made.
    gc.disable()
    made = plant(gateways)
    gc.freeze()
    gc.enable()
    await run(settings, made, SystemClock(), stop, lambda _user, _password: None)


def main() -> None:
    """Run the roles (argv 1) on a plant of so many gateways (2) until SIGTERM; data, nats, http, mqtt, sql follow."""
    log_to_stderr()
    keep_cancellations()
    role, gateways, data, nats_url, http, mqtt, sql = sys.argv[1:]
    asyncio.run(_run(role, int(gateways), Path(data), nats_url, http, mqtt, sql or None))
