"""The durable replacements that a flow uses: sleep, now, random, gather, wait_for."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..values.codec import codec_of
from .decoration import check_name
from .request import Request, driver
from .signal import SignalWait

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .request import Driver, Waiter

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")


class Sleep(Request[None]):
    """A durable sleep."""

    __slots__ = ("_due",)

    def __init__(self, due: timedelta | datetime) -> None:
        super().__init__()
        self._due = due

    def begin(self, driver: Driver, waiter: Waiter) -> None:
        driver.begin_timer(self._due, waiter)

    def __repr__(self) -> str:
        preposition = "until" if isinstance(self._due, datetime) else "for"
        return f"<sleep {preposition} {self._due}; await it>"


class Gathering(Request[Any]):
    """Several awaitables that run concurrently."""

    __slots__ = ("_awaitables", "_return_exceptions")

    def __init__(self, awaitables: tuple[Awaitable[Any], ...], *, return_exceptions: bool) -> None:
        super().__init__()
        self._awaitables = awaitables
        self._return_exceptions = return_exceptions

    def begin(self, driver: Driver, waiter: Waiter) -> None:
        driver.begin_gather(self._awaitables, waiter, return_exceptions=self._return_exceptions)

    def __repr__(self) -> str:
        return f"<gather of {len(self._awaitables)}; await it>"


def sleep(duration: timedelta | float) -> Sleep:
    """Sleep for a duration (a `timedelta`, or seconds). After a restart only the remainder is left.

    It is never early, even when the clock jumps, and uses no thread. A negative duration counts as zero, and
    no sleep lasts beyond the year 9999.

    Raises:
        ValueError: the duration is not a number (NaN).
    """
    return Sleep(max(duration if isinstance(duration, timedelta) else _seconds(duration), timedelta()))


def _seconds(seconds: float) -> timedelta:
    if seconds != seconds:  # noqa: PLR0124 - NaN alone differs from itself
        raise ValueError("sleep(nan): a duration is a timedelta, or a number of seconds")
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        return timedelta.max if seconds > 0 else timedelta()


def sleep_until(instant: datetime) -> Sleep:
    """Sleep until an instant of the system's clock: until the end of 9999 at most.

    Raises:
        TypeError: it is not a datetime.
        ValueError: the instant has no time zone, so it is ambiguous.
    """
    if not isinstance(instant, datetime):  # pyright: ignore[reportUnnecessaryIsInstance] - the user's
        raise TypeError(
            f"sleep_until({instant!r}): give a datetime with a time zone; for a duration, await sleep()"
        )
    if instant.utcoffset() is None:
        raise ValueError(f"sleep_until({instant!r}): the instant needs a time zone, such as datetime.UTC")
    return Sleep(instant)


def now() -> datetime:
    """Return the time, in UTC, at which the flow last continued: the same in each replay.

    It stands still until the flow awaits again.

    Raises:
        NotInFlowError: no flow is running here; use `datetime.now(UTC)`.
    """
    return driver("now()").now()


def random() -> float:
    """Return a random number in [0, 1): the same in each replay.

    Raises:
        NotInFlowError: no flow is running here.
    """
    return driver("random()").random.random()


def uuid4() -> uuid.UUID:
    """Return a random UUID: the same in each replay.

    Raises:
        NotInFlowError: no flow is running here.
    """
    return uuid.UUID(int=driver("uuid4()").random.getrandbits(128), version=4)


@overload
def gather(a: Awaitable[T1], /) -> Awaitable[tuple[T1]]: ...
@overload
def gather(a: Awaitable[T1], b: Awaitable[T2], /) -> Awaitable[tuple[T1, T2]]: ...
@overload
def gather(a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], /) -> Awaitable[tuple[T1, T2, T3]]: ...
@overload
def gather(
    a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], /
) -> Awaitable[tuple[T1, T2, T3, T4]]: ...
@overload
def gather(*awaitables: Awaitable[T]) -> Awaitable[tuple[T, ...]]: ...
@overload
def gather(
    *awaitables: Awaitable[T], return_exceptions: bool
) -> Awaitable[tuple[T | BaseException, ...]]: ...
def gather(*awaitables: Awaitable[Any], return_exceptions: bool = False) -> Awaitable[Any]:
    """Await several steps, waits or coroutines at once; results come in the order of the arguments.

    Branches may interleave in any way, and replay exactly. As with asyncio, the first error is
    raised at once, while the other branches continue and their results are ignored; with
    `return_exceptions`, errors are returned in place of results.
    """
    return Gathering(awaitables, return_exceptions=return_exceptions)


@overload
def wait_for(name: str, of: type[T]) -> Awaitable[T]: ...
@overload
def wait_for(name: str) -> Awaitable[Any]: ...
def wait_for(name: str, of: Any = Any) -> Awaitable[Any]:
    """Wait for a signal by name and return its payload, decoded as the type `of`.

    Signals that came early are kept, in order. The sender's call refuses a payload of another type if the
    flow waits already, or names the type in its code. An earlier one becomes a dead letter with the reason
    when it is read, and the flow keeps waiting.

    Raises:
        FlowDefinitionError: the name, or the type, cannot be stored.
    """
    check_name(name, "signal")
    return SignalWait[Any](name, None, codec_of(of, f"signal {name!r}"))
