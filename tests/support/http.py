"""Clients of servers without TLS, cheap enough to make one for each question."""

import ssl
from typing import Final

import httpx

# For a context of its own a client reads all authorities of the system: 26 ms of processor time, used for nothing.
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def plain_client(base_url: str = "") -> httpx.AsyncClient:
    """Return a client that asks the server itself, whatever proxy the environment names."""
    return httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=20, verify=NO_TLS)
