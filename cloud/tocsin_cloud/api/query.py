"""Refuses what a request asks for by a name that its resource does not know: a misspelt filter would filter nothing."""

from http import HTTPStatus

from fastapi import Request
from fastapi.routing import APIRoute

from tocsin_cloud.api.problem import refusal


async def known_query(request: Request) -> None:
    """Pass only requests whose query keys are all parameters of their route.

    Raises:
        HTTPException: 422 with the first key that is not.
    """
    route = request.scope["route"]
    known = {field.alias for field in route.dependant.query_params} if isinstance(route, APIRoute) else set()
    unknown = [key for key in request.query_params if key not in known]
    if unknown:
        told = f"it is one of {', '.join(sorted(known))}" if known else "none is known here"
        raise refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"query.{unknown[0][:100]}: unknown; {told}")
