"""A cancellation that comes together with the answer: Python 3.11's `asyncio.wait_for` loses it."""

import asyncio
import sys
from collections.abc import Awaitable
from functools import wraps
from typing import TypeVar

T = TypeVar("T")


def keep_cancellations() -> None:
    """Let `asyncio.wait_for` raise every cancellation, as it does since Python 3.12; later versions are left alone.

    The NATS and MQTT clients wait for the broker's answers with it. Where an answer arrived in the same turn of the
    loop in which the waiting task was cancelled, 3.11 returned the answer, and the task went on for good: a process
    that was to end did not, and what was to be begun anew stood still (python/cpython#86296, mended by its #98518).
    """
    if sys.version_info >= (3, 12) or hasattr(asyncio.wait_for, "__wrapped__"):
        return
    lossy = asyncio.wait_for

    @wraps(lossy)
    async def wait_for(fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109 -- its own signature
        if timeout is not None and timeout <= 0:
            return await lossy(fut, timeout)
        async with asyncio.timeout(timeout):
            return await fut

    asyncio.wait_for = wait_for  # type: ignore[assignment]  # overloads of it are declared
