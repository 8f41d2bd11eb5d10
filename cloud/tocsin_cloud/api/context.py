"""What every route may use: ports, accounts, brake on sign-ins, audit log, hub of event streams, points, counters."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Final, cast

from fastapi import Depends, Request

from tocsin_cloud.adapters.accounts import Accounts
from tocsin_cloud.adapters.users import Users
from tocsin_cloud.api.brake import Brake
from tocsin_cloud.api.growth import Growth
from tocsin_cloud.api.hub import Hub
from tocsin_cloud.api.ports import ApiPorts
from tocsin_cloud.api.present import Points
from tocsin_cloud.api.recorder import Recorder

# Of the time that open answers have when the interface ends; the rest is for what is to be written of them.
LAST_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Api:
    """One running HTTP interface."""

    ports: ApiPorts
    accounts: Accounts
    users: Users
    brake: Brake
    recorder: Recorder
    hub: Hub
    points: Points
    growth: Growth
    version: str
    started_ns: int
    waits: set[asyncio.Timeout] = field(default_factory=set)
    """What is waited for by those who commanded something."""

    def end(self) -> None:
        """End the event streams, and soon what else is waited for: an interface that ends owes everybody an answer."""
        self.hub.close()
        latest = asyncio.get_running_loop().time() + LAST_S
        for wait in self.waits:
            wait.reschedule(min(latest, wait.when() or latest))


def _context(request: Request) -> Api:
    return cast("Api", request.app.state.api)


Context = Annotated[Api, Depends(_context)]
