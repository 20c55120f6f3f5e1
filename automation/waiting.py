"""How a Playwright call is waited for: with a bound, and never cancelled.

Cancelling a task inside a Playwright call is undefined behaviour, and a driver that hangs answers
no call at all. So the waiting ends and the call goes on, until its context or browser is closed.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def settle_within(seconds: float, call: Coroutine[Any, Any, T]) -> T:
    """The call's result. Raises TimeoutError when it has none in time; the call itself goes on."""
    task = asyncio.ensure_future(call)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.add_done_callback(look_away)
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    return task.result()


def look_away(task: asyncio.Future[Any]) -> None:
    """Takes note of a result nobody waits for any more, or asyncio logs it as never retrieved."""
    if not task.cancelled():
        task.exception()
