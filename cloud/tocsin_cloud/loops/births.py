"""Asks edge nodes to be born again, each at most once in a while."""

from typing import Final

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from tocsin_cloud.adapters.gateways import ask_rebirth
from tocsin_cloud.adapters.metrics import Metrics
from tocsin_core.clock import Clock

log = structlog.get_logger()

Node = tuple[str, str]
# Names that nobody declared come without end: of so many all are forgotten.
MOST: Final = 10_000


class Overlooked:
    """Nodes that have not been understood for long, although somebody should have asked them for their births."""

    def __init__(self, patience_s: float) -> None:
        """Whoever should ask has `patience_s` for it, anew after each birth."""
        self._patience_s = patience_s
        self._since: dict[Node, float] = {}

    def born(self, node: Node) -> None:
        """Hear a birth of `node`."""
        self._since.pop(node, None)

    def is_one(self, node: Node, now_s: float) -> bool:
        """Whether `node`, which is not understood at `now_s` (monotonic), is one of them."""
        if len(self._since) >= MOST:
            self._since.clear()
        return now_s - self._since.setdefault(node, now_s) >= self._patience_s


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
