"""Waiting for replies, from threads and from event loops, for as long as a caller wants to."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pykka

from ..flows.errors import DeadlockError
from .runtime.futures import waiting

if TYPE_CHECKING:
    from .runtime.futures import Reply

__all__ = ["got", "got_async", "refuse_on_step_loop"]

T = TypeVar("T")


def refuse_on_step_loop(instead: str) -> None:
    """Refuse to block the loop of `async def` steps, which what is waited for may need.

    Raises:
        DeadlockError: the caller runs on it.
    """
    if waiting.is_on_step_loop:
        raise DeadlockError(f"an `async def` step would block the loop that all of them run on: {instead}")


def got(reply: Reply[T], timeout: float | None, what: str) -> T:
    """Wait for a reply, up to `timeout` s.

    Raises:
        TimeoutError: there was none in time; the message begins with `what`.
    """
    try:
        return reply.get(timeout=timeout)
    except pykka.Timeout:
        raise TimeoutError(f"{what} within {timeout} s") from None


async def got_async(reply: Reply[T], timeout: float | None, what: str) -> T:  # noqa: ASYNC109 - it says what was late
    """Await a reply, up to `timeout` s; raises like `got`."""
    if timeout is None:
        return await reply
    import asyncio  # noqa: PLC0415 - whoever awaits has it already

    try:
        async with asyncio.timeout(timeout):
            return await reply
    except TimeoutError:
        if reply.is_done:
            raise
        raise TimeoutError(f"{what} within {timeout} s") from None
