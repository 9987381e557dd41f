"""Futures of pooled actors, and replies that come later.

    future.get(timeout=5)                 # on a worker: another thread takes over the worker's slot
    await future                          # never blocks the event loop
    future.add_done_callback(callback)    # in the thread that completes the future; keep it tiny

A handler that cannot answer yet returns a `Deferred`, and the asker waits on:

    def on_receive(self, message):
        reply = self.defer()
        self.waiting.append(reply)
        return reply                      # later, from any thread: reply.resolve(value)
"""

from __future__ import annotations

import logging
import sys
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from pykka import Future, Timeout

from .loop_wakes import wakes_of
from .primitives import TIMEOUT_MAX, Lock, QueueFull, SystemClock, ThreadLocal

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from asyncio import Future as AsyncioFuture
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from .posts import Post

    OptExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

__all__ = ["Deferred", "PooledFuture", "Reply", "WaitStrategy", "waiting"]

T = TypeVar("T")
logger = logging.getLogger("persistasaurus")

_clock = SystemClock()


class WaitStrategy(Protocol):
    """What a thread does while it waits for a future."""

    def wait(self, wake: Lock, timeout: float) -> bool:
        """Wait until `wake` can be taken, and take it; `timeout` in seconds, -1: for ever."""
        ...

    def blocking(self) -> AbstractContextManager[None]:
        """Return what is entered for as long as something on this thread waits by other means."""
        ...


class _Waiting(ThreadLocal):
    """How the calling thread waits: workers set it, everybody else blocks."""

    by: WaitStrategy | None = None
    is_on_step_loop: bool = False
    """Whether the thread runs the loop of `async def` steps, which must not block."""
    post: Post | None = None
    """Where a worker says what it works on."""


waiting = _Waiting()


class _Outcome(NamedTuple):
    value: Any = None
    exc_info: OptExcInfo | None = None


class PooledFuture(Future[T]):
    """A future that costs one raw lock, can be completed once, and calls back.

    The lock is taken by whoever completes the future, and never given back: nobody waits for it. Ctrl-C
    may strike between any two instructions of a thread that waits, and must leave nothing behind that the
    engine's own threads would wait for.

    As everywhere in Pykka, a future that was made by `map`, `filter`, `join` or `reduce` computes
    its value when somebody gets it; so it has no instant of completion, and takes no callbacks.
    """

    __slots__ = ("_callbacks", "_get_hook", "_hook_gate", "_once", "_outcome")

    def __init__(self) -> None:
        # Pykka's own initialiser would give each future a dictionary.
        self._once = Lock()
        self._outcome: _Outcome | None = None
        self._callbacks: list[Callable[[PooledFuture[Any]], None]] = []
        self._hook_gate: Lock | None = None

    @property
    def is_done(self) -> bool:
        """Whether the future has been completed."""
        return self._outcome is not None

    def get(self, *, timeout: float | None = None) -> Any:
        """Wait for the outcome: return the value, or raise the exception.

        Raises:
            Timeout: when there is none after `timeout` seconds.

        """
        if self._hook_gate is not None:
            return self._get_from_hook(self._hook_gate, timeout)
        outcome = self._outcome
        if outcome is None:
            outcome = self._wait(timeout)
        if outcome.exc_info is None:
            return outcome.value
        return _reraise(outcome.exc_info)

    def set(self, value: T | None = None) -> None:
        """Complete the future, or tie it to the `Deferred` that a handler has returned.

        Raises:
            queue.Full: when the future was completed before.

        """
        if type(value) is Deferred:
            value.tie(self)
        elif not self.try_complete(_Outcome(value)):
            raise QueueFull

    def set_exception(self, exc_info: OptExcInfo | None = None) -> None:
        """Complete the future with an exception; by default with the one being handled.

        Raises:
            queue.Full: when the future was completed before.

        """
        if not self.try_complete(_Outcome(None, exc_info or sys.exc_info())):
            raise QueueFull

    def try_complete(self, outcome: _Outcome) -> bool:
        """Complete the future unless it has been; tell whether this call did it."""
        if not self._once.acquire(False):
            return False
        self._outcome = outcome
        if self._callbacks:
            self._call_back()
        return True

    def try_complete_with(self, exc_info: OptExcInfo) -> bool:
        """Complete the future with an exception unless it has been; tell whether this call did it."""
        return self.try_complete(_Outcome(None, exc_info))

    def try_fail(self, error: BaseException) -> bool:
        """Complete the future with `error` unless it has been; tell whether this call did it."""
        return self.try_complete_with((type(error), error, error.__traceback__))

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Let `func(timeout)` produce the value when it is asked for, once."""
        if not self._once.acquire(False) and self._hook_gate is None:
            raise QueueFull
        self._get_hook: Callable[[float | None], T] = func  # pyright: ignore[reportIncompatibleVariableOverride]
        self._hook_gate = Lock()

    def add_done_callback(self, callback: Callable[[PooledFuture[Any]], None]) -> None:
        """Call back with this future once it is completed, at once when it is already.

        Runs in the thread that completes the future, or in the caller's. What it raises is logged.
        """
        if self._hook_gate is not None:
            raise TypeError("A future with a get hook is computed by its reader: it never calls back")
        self._callbacks.append(callback)
        if self._outcome is not None:
            self._call_back()

    def _call_back(self) -> None:
        """Call whoever has not been called. Each side shows first what it has, and then looks."""
        callbacks = self._callbacks
        while callbacks:
            try:
                callback = callbacks.pop(0)
            except IndexError:
                return  # called from another thread
            _call(callback, self)

    def _forget(self, callback: Callable[[PooledFuture[Any]], None]) -> None:
        with suppress(ValueError):
            self._callbacks.remove(callback)

    def _wait(self, timeout: float | None) -> _Outcome:
        if timeout is not None and timeout <= 0:
            raise Timeout(f"{timeout} seconds")
        wake = Lock()
        wake.acquire()

        def on_done(_future: PooledFuture[Any]) -> None:
            wake.release()

        self.add_done_callback(on_done)
        if not _take(wake, timeout):
            self._forget(on_done)
        # Completed at the very last instant is completed.
        outcome = self._outcome
        if outcome is None:
            raise Timeout(f"{timeout} seconds")
        return outcome

    def _get_from_hook(self, hook_gate: Lock, timeout: float | None) -> Any:
        """Run the hook in one thread at a time, and keep what it returned as the value."""
        deadline = None if timeout is None else _clock.elapsed() + timeout
        if not hook_gate.acquire(blocking=False) and not _take(hook_gate, timeout):
            raise Timeout(f"{timeout} seconds")
        try:
            if self._outcome is None:
                left = None if deadline is None else max(0.0, deadline - _clock.elapsed())
                self._outcome = _Outcome(self._get_hook(left))
            return self._outcome.value
        finally:
            hook_gate.release()

    def __await__(self) -> Generator[Any, None, T]:
        """Wait without blocking the event loop."""
        loop = _running_loop()
        if loop is None:
            yield
            return self.get()
        if self._hook_gate is not None:
            return (yield from loop.run_in_executor(None, self.get).__await__())
        if self._outcome is None:
            yield from self._await_on(loop)
        return self.get(timeout=0)

    __iter__ = __await__

    def _await_on(self, loop: AbstractEventLoop) -> Generator[Any, None, None]:
        waiter: AsyncioFuture[None] = loop.create_future()

        wakes = wakes_of(loop)

        def on_done(_future: PooledFuture[Any]) -> None:
            wakes.wake(waiter)

        self.add_done_callback(on_done)
        by = waiting.by
        try:
            with nullcontext() if by is None else by.blocking():
                yield from waiter.__await__()
        finally:
            self._forget(on_done)


class Reply(PooledFuture[T]):
    """A future for a request that is no ask: it travels in the message, from actor to actor."""

    __slots__ = ()

    def resolve(self, value: T | None = None) -> bool:
        """Reply with a value; False: there was a reply already, which stands."""
        return self.try_complete(_Outcome(value))

    def fail(self, error: BaseException) -> bool:
        """Reply with an exception; False: there was a reply already, which stands."""
        return self.try_fail(error)


class Deferred:
    """A reply that comes later. An actor's handler gets one from `defer()`, and returns it.

    The ask's future is completed when the deferred is, from whichever thread, before or after the
    handler has returned. The same one may be returned to several askers. When its actor dies first,
    they get `ActorDeadError`.
    """

    __slots__ = ("_future", "_is_tied")

    def __init__(self) -> None:
        self._future: PooledFuture[Any] = PooledFuture()
        self._is_tied = False

    @property
    def is_done(self) -> bool:
        """Whether there is a reply."""
        return self._future.is_done

    def resolve(self, value: Any = None) -> bool:
        """Reply with a value; False: there was a reply already, which stands."""
        return self._future.try_complete(_Outcome(value))

    def fail(self, error: BaseException) -> bool:
        """Reply with an exception; False: there was a reply already, which stands."""
        return self._future.try_fail(error)

    @property
    def is_awaited(self) -> bool:
        """Whether there is an asker to reply to; a message that was told has none."""
        return self._is_tied

    def follow(self, result: Any) -> None:
        """Reply with what a handler returned: a value, or another reply that comes later."""
        if isinstance(result, Deferred):
            result.tie(self._future)
        else:
            self.resolve(result)

    def tie(self, asker: PooledFuture[Any]) -> None:
        """Complete `asker` along with this one."""
        self._is_tied = True
        self._future.add_done_callback(lambda reply: _copy(reply, asker))

    def on_done(self, callback: Callable[[], None]) -> None:
        """Call back when there is a reply."""
        self._future.add_done_callback(lambda _reply: callback())


def _copy(reply: PooledFuture[Any], asker: PooledFuture[Any]) -> None:
    outcome = reply._outcome  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - family
    if outcome is not None:
        asker.try_complete(outcome)


def _take(lock: Lock, timeout: float | None) -> bool:
    seconds = -1.0 if timeout is None else min(max(timeout, 0.0), TIMEOUT_MAX)
    waiter = waiting.by
    if waiter is None:
        return lock.acquire(timeout=seconds)
    return waiter.wait(lock, seconds)


def _call(callback: Callable[[PooledFuture[Any]], None], future: PooledFuture[Any]) -> None:
    """Whoever completes a future must not suffer from those who wait for it."""
    try:
        callback(future)
    except BaseException:
        logger.exception("A callback of a future failed")


def _reraise(exc_info: OptExcInfo) -> Any:
    exc_type, error, traceback = exc_info
    if error is None:
        error = (exc_type or RuntimeError)()
    if error.__traceback__ is not traceback:
        raise error.with_traceback(traceback)
    raise error


def _running_loop() -> AbstractEventLoop | None:
    if "asyncio" not in sys.modules:
        return None
    # A process that does without asyncio is spared its import.
    import asyncio  # noqa: PLC0415

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
