"""What every route may use: ports, accounts, the brake on sign-ins, the hub of the event streams, the points."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from tocsin_cloud.adapters.accounts import Accounts
from tocsin_cloud.api.brake import Brake
from tocsin_cloud.api.hub import Hub
from tocsin_cloud.api.ports import ApiPorts
from tocsin_cloud.api.present import Points


@dataclass(frozen=True, slots=True)
class Api:
    """One running HTTP interface."""

    ports: ApiPorts
    accounts: Accounts
    brake: Brake
    hub: Hub
    points: Points
    version: str
    started_ns: int


def _context(request: Request) -> Api:
    return cast("Api", request.app.state.api)


Context = Annotated[Api, Depends(_context)]
