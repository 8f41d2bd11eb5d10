"""What every route may use: ports, accounts, brake on sign-ins, audit log, hub of event streams, points, counters."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from tocsin_cloud.adapters.accounts import Accounts
from tocsin_cloud.adapters.users import Users
from tocsin_cloud.api.brake import Brake
from tocsin_cloud.api.growth import Growth
from tocsin_cloud.api.hub import Hub
from tocsin_cloud.api.ports import ApiPorts
from tocsin_cloud.api.present import Points
from tocsin_cloud.api.recorder import Recorder


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


def _context(request: Request) -> Api:
    return cast("Api", request.app.state.api)


Context = Annotated[Api, Depends(_context)]
