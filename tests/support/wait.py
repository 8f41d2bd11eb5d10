"""Waits for a condition with a bounded deadline, so that no test sleeps and hopes."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NoReturn, TypeVar, overload

import pytest

T = TypeVar("T")
# What comes at once on a quiet machine may take long on one that runs other tests too; who passes never waits for it.
PATIENCE_S: Final = 60.0


def eventually(predicate: Callable[[], T], timeout_s: float = PATIENCE_S, interval_s: float = 0.02) -> T:
    """Return the predicate's first truthy value, or fail after `timeout_s` seconds with the last value it gave."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            _give_up(predicate, value, timeout_s)
        time.sleep(interval_s)


@overload
async def eventually_async(
    predicate: Callable[[], Coroutine[Any, Any, T]], timeout_s: float = PATIENCE_S, interval_s: float = 0.02
) -> T: ...


@overload
async def eventually_async(
    predicate: Callable[[], T], timeout_s: float = PATIENCE_S, interval_s: float = 0.02
) -> T: ...


async def eventually_async(
    predicate: Callable[[], T] | Callable[[], Awaitable[T]], timeout_s: float = PATIENCE_S, interval_s: float = 0.02
) -> T:
    """Do as `eventually` without holding up the event loop; the predicate may be a plain or a coroutine function."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = predicate()
        value: T = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() >= deadline:
            _give_up(predicate, value, timeout_s)
        await asyncio.sleep(interval_s)


def _give_up(predicate: Callable[[], object], last: object, timeout_s: float) -> NoReturn:
    try:
        condition = inspect.getsource(predicate).strip()
    except (OSError, TypeError):
        condition = repr(predicate)
    pytest.fail(f"not true within {timeout_s:g} s; the last value was {last!r} of:\n{condition}")
