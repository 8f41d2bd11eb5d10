"""Asks edge nodes to be born again, each at most once in a while."""

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from tocsin_cloud.adapters.gateways import ask_rebirth
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_core.clock import Clock

log = structlog.get_logger()

Node = tuple[str, str]


class Births:
    """Collects which nodes, as group and name, cannot be understood without their births, and asks them."""

    def __init__(self, client: Client, metrics: Metrics, clock: Clock, interval_s: float) -> None:
        """Nobody has to be asked yet."""
        self._client, self._metrics, self._clock = client, metrics, clock
        self._interval_s = interval_s
        self._wanted: set[Node] = set()
        self._asked: dict[Node, float] = {}

    def want(self, node: Node) -> None:
        """Have `node` asked the next time, unless it was asked lately."""
        self._wanted.add(node)

    async def ask(self) -> None:
        """Ask those that are wanted."""
        if not self._wanted:
            return
        wanted, self._wanted = self._wanted, set()
        now = self._clock.monotonic()
        # Who was asked long ago is forgotten: names that nobody declared come without end.
        self._asked = {node: at for node, at in self._asked.items() if at > now - self._interval_s}
        for group, node in wanted - self._asked.keys():
            self._asked[group, node] = now
            log.info("asking for a rebirth", group=group, gateway=node)
            self._metrics.rebirths.inc()
            try:
                await ask_rebirth(self._client, group, node, self._clock.now_ns())
            except (NatsError, OSError) as error:
                log.warning("rebirth not asked", gateway=node, reason=str(error) or repr(error))
