"""A small client of the cloud side's HTTP API, as the supervisor needs it."""

from typing import Any

import httpx

from tocsin_core.clock import Clock


class ApiClient:
    """Reads the API as one user; signs in again when its session has ended."""

    def __init__(self, base: str, user: str, password: str, clock: Clock) -> None:
        """`base` is the page's address."""
        self._http = httpx.AsyncClient(base_url=base, timeout=5.0, trust_env=False)
        self._user = user
        self._password = password
        self._clock = clock

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def ready(self) -> bool:
        """Whether the cloud side answers and says that it is ready."""
        try:
            return (await self._http.get("/readyz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def _sign_in(self) -> None:
        answer = await self._http.post("/api/v1/session", json={"user": self._user, "password": self._password})
        answer.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {answer.json()['token']}"

    async def get(self, path: str, **query: str | int) -> Any:  # noqa: ANN401 -- whatever JSON the resource has
        """The JSON of one resource.

        Raises:
            httpx.HTTPError: the server does not answer, or refuses.
        """
        if "Authorization" not in self._http.headers:
            await self._sign_in()
        answer = await self._http.get(f"/api/v1/{path}", params=query)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            await self._sign_in()
            answer = await self._http.get(f"/api/v1/{path}", params=query)
        answer.raise_for_status()
        return answer.json()

    async def post(self, path: str) -> bool:
        """Ask for something that needs no words; tells whether it was done.

        Raises:
            httpx.HTTPError: the server does not answer, or it is not allowed.
        """
        if "Authorization" not in self._http.headers:
            await self._sign_in()
        answer = await self._http.post(f"/api/v1/{path}")
        if answer.status_code in (httpx.codes.CONFLICT, httpx.codes.NOT_FOUND):
            return False
        answer.raise_for_status()
        return True
