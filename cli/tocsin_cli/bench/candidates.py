"""Which processes wait for a role's work, and how far they are behind, as they tell it themselves."""

import json
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from tocsin_cloud.loops.candidates import CANDIDATE

# A candidate that lacks so few messages follows.
FOLLOWS: Final = 50


@dataclass(slots=True)
class Candidates:
    """How many messages each process that waits for a role lacks, by role and process id."""

    behind: dict[tuple[str, int], int] = field(default_factory=dict)

    async def listen(self, client: Client, site: str) -> None:
        """Hear from now on what those of `site` tell."""
        await client.subscribe(f"{CANDIDATE}.{site}", cb=self._hear)

    async def _hear(self, message: Msg) -> None:
        told = json.loads(message.data)
        self.behind[told["role"], int(told["process"].split(":")[1])] = told["behind"]

    def follows(self, role: str, pid: int | None) -> bool:
        """Whether a process could take over the work of a role at once."""
        return pid is not None and self.behind.get((role, pid), FOLLOWS + 1) <= FOLLOWS
