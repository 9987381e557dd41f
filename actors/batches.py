"""Batches: many starts or signals by one call, with an outcome for each of them.

They are sent in groups, and a group is waited for before the next one is sent. So a batch shares commits, and
however long it is, it neither fills the queues nor takes their room from others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from pykka import Timeout

from ..flows.errors import PartialFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..flows import SignalCall
    from .runtime.futures import Reply

__all__ = ["Batch", "SignalTo"]

_GROUP = 1000

T = TypeVar("T")


class SignalTo(NamedTuple):
    """A signal of `FlowSystem.signal_many`: for which flow, and what `FlowHandle.signal` takes."""

    flow_id: str
    signal: SignalCall[Any] | str
    payload: Any = None
    """Of a signal by name."""
    signal_id: str | None = None


class Batch(Generic[T]):
    """Requests of one kind. `send` sends the one with a number; `made` makes its outcome of the answer."""

    def __init__(
        self,
        what: str,
        names: Sequence[str],
        send: Callable[[int], Reply[Any]],
        made: Callable[[int, Any], T],
    ) -> None:
        self._what = what
        self._names = names
        self._send = send
        self._made = made
        self._outcomes: list[T | Exception] = []

    def run(self, left: Callable[[], float | None]) -> list[T]:
        """Send all of them, and wait; `left` tells for how many seconds more.

        Raises:
            PartialFailure: one of them failed.
        """
        for group in self._groups():
            for reply in group:
                try:
                    reply.get(timeout=left())
                except Exception as error:
                    if not (reply.is_done or isinstance(error, Timeout)):
                        raise
        return self._all()

    async def run_async(self) -> list[T]:
        """Send all of them, and await what becomes of them; raises like `run`."""
        for group in self._groups():
            for reply in group:
                try:
                    await reply
                except Exception:
                    if not reply.is_done:
                        raise
        return self._all()

    def _groups(self) -> Iterator[list[Reply[Any]]]:
        """Send group after group, and yield the replies to wait for.

        The last comes first: mostly the others are there as well by then, and wake nobody.
        """
        for first in range(0, len(self._names), _GROUP):
            sent = [self._sent(n) for n in range(first, min(first + _GROUP, len(self._names)))]
            yield [reply for reply in reversed(sent) if not isinstance(reply, Exception)]
            self._outcomes += [self._outcome(first + n, reply) for n, reply in enumerate(sent)]

    def _sent(self, number: int) -> Reply[Any] | Exception:
        try:
            return self._send(number)
        except Exception as error:  # noqa: BLE001 - it is the outcome
            return error

    def _outcome(self, number: int, reply: Reply[Any] | Exception) -> T | Exception:
        if isinstance(reply, Exception):
            return reply
        try:
            return self._made(number, reply.get(timeout=0))
        except Timeout:
            return TimeoutError("not confirmed in time; you can safely repeat it with the same id")
        except Exception as error:  # noqa: BLE001 - it is the outcome
            return error

    def _all(self) -> list[T]:
        failed = [n for n, outcome in enumerate(self._outcomes) if isinstance(outcome, Exception)]
        if failed:
            raise PartialFailure(self._what, self._names[failed[0]], tuple(self._outcomes))
        return [outcome for outcome in self._outcomes if not isinstance(outcome, Exception)]
