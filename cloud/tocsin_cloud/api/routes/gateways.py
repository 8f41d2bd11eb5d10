"""Route of the gateways."""

from fastapi import APIRouter

from tocsin_cloud.api import model, present
from tocsin_cloud.api.context import Context
from tocsin_cloud.api.security import Reader

router = APIRouter(tags=["gateways"])


@router.get("/gateways")
async def gateways(_account: Reader, api: Context) -> list[model.Gateway]:
    """Every gateway with its devices, whether they are there, and how far their readings have come."""
    live = api.ports.live
    return present.gateways(api.ports.plant, live, await live.latest())
