"""What the fault benchmark sends its gateway as versions of the plant file, and what became of them."""

import re
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tocsin_cli.bench.faults_bed import NODE, Gateway
from tocsin_cli.bench.faults_script import Slice
from tocsin_cloud.adapters.gateways import send_slice
from tocsin_cloud.adapters.signing import signing_key
from tocsin_cloud.adapters.stream import connect
from tocsin_core.clock import Clock
from tocsin_core.managed import KEY_FILE, Offer, seal
from tocsin_core.plant import load_plant
from tocsin_core.plant.slice import slice_of

SITE: Final = "faults"
NS_PER_MS: Final = 1_000_000
# As the gateway's log tells them.
SAID: Final = {"applied": "version applied", "rolled_back": "version rolled back", "refused": "slice refused"}
# The cloud side's own plant has another one: then both ends judge, and neither can tell.
DEADBANDS: Final = (6, 5)


class Versions:
    """Sends a gateway that trusts the cloud side's key what is signed with that key, or with another."""

    def __init__(self, cloud: Path, write: Callable[[Path, bool, int], None], clock: Clock) -> None:
        """`write` writes a plant into a folder, with an instrument where none is or not, and with a deadband.

        `cloud` is the folder of the cloud side's files.
        """
        self._cloud = cloud
        self._write = write
        self._clock = clock
        self._last = 0
        self.sent = 0

    def pin(self, gateway: Gateway) -> None:
        """Let the gateway trust the cloud side, before it is started."""
        folder = gateway.spool.parent
        folder.mkdir(parents=True, exist_ok=True)
        copyfile(self._cloud / KEY_FILE, folder / KEY_FILE)

    async def send(self, kind: Slice) -> None:
        """Send a version that never was before."""
        folder = self._cloud.parent / "version"
        self._write(folder, kind is Slice.UNFIT, DEADBANDS[self.sent % 2])
        data = slice_of(load_plant(folder), NODE)
        # As the cloud side numbers its own: by the clock.
        self._last = max(self._last + 1, self._clock.now_ns() // NS_PER_MS)
        sign = Ed25519PrivateKey.generate().sign if kind is Slice.FORGED else signing_key(self._cloud)
        sealed = seal(Offer(SITE, NODE, self._last, data), sign)
        client = await connect(_nats_url(self._cloud), "versions")
        try:
            await send_slice(client, SITE, NODE, sealed, self._clock.now_ns())
            await client.flush()
        finally:
            await client.close()
        self.sent += 1


def _nats_url(cloud: Path) -> str:
    """Where the cloud side's own broker is reached by who may tell gateways what to do: not by MQTT."""
    configuration = (cloud / "nats" / "server.conf").read_text(encoding="utf-8")
    listens = re.search(r'^listen: "(.+)"$', configuration, re.MULTILINE)
    if listens is None:
        raise RuntimeError("the broker's configuration names no address")
    return f"nats://{listens[1]}"


def became(log: Path) -> dict[str, int]:
    """How many versions were applied, rolled back and refused in all lives of a gateway with this log."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return {name: text.count(said) for name, said in SAID.items()}
