"""Branches of a flow: coroutines that the machine drives, and the gathers where they meet."""

from __future__ import annotations

import atexit
import gc
import sys
from collections import deque
from collections.abc import Awaitable
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from ..authoring.foreign import not_durable, not_gathered
from ..authoring.request import Request
from ..errors import AlreadyAwaitedError
from ..values.location import NOWHERE, Location

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from contextvars import Context
    from types import CodeType

    from ..authoring.request import Driver, Waiter


_Resume: TypeAlias = "Callable[[Driver, Any, BaseException | None], None]"


class RunQueue:
    """What can continue, in the order in which it became able to. Draining it is deterministic.

    What inputs have made ready waits in `_inputs`. Each of them runs as far as it can, with everything that
    follows from it, before the next: so it makes no difference whether the code stood still in between.

    The awaitables of a `gather` start before anything else continues, depth first. A stack of its own does
    that, since gathers may be nested deeper than Python recurses.
    """

    __slots__ = ("_driver", "_inputs", "_is_draining", "_launches", "_ready", "branches")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._inputs: deque[tuple[_Resume, Any, Any]] = deque()
        self._ready: deque[tuple[_Resume, Any, Any]] = deque()
        self._launches: list[Launch] = []
        self._is_draining = False
        self.branches: dict[Branch, None] = {}
        """Those that have not ended, in the order of their start."""

    def add(self, resume: _Resume, value: Any = None, error: BaseException | None = None) -> None:
        """Let something continue, in its turn, with a value or an error."""
        (self._ready if self._is_draining else self._inputs).append((resume, value, error))

    def drain(self) -> None:
        """Run until nothing can continue."""
        inputs, ready, launches, driver = self._inputs, self._ready, self._launches, self._driver
        self._is_draining = True
        try:
            while inputs:
                resume, value, error = inputs.popleft()
                resume(driver, value, error)
                if launches:
                    self._launch()
                while ready:
                    resume, value, error = ready.popleft()
                    resume(driver, value, error)
                    if launches:
                        self._launch()
        finally:
            self._is_draining = False

    def launch(self, awaitables: tuple[Awaitable[Any], ...], gathered: Gather) -> None:
        """Start the awaitables of a gather, in order, as soon as the code that awaits it stands still."""
        self._launches.append(Launch(iter(enumerate(awaitables)), gathered))

    def _launch(self) -> None:
        launches, driver = self._launches, self._driver
        while launches:
            rest, gathered = launches[-1]
            started = next(rest, None)
            if started is None:
                launches.pop()
                continue
            index, awaitable = started
            try:
                _start(awaitable, GatherSlot(gathered, index), self, driver)
            except Exception as error:  # noqa: BLE001 - raised in the flow, where it awaits
                while launches and launches[-1].gathered.outermost is gathered.outermost:
                    launches.pop()
                gathered.outermost.fail(error)

    @property
    def is_empty(self) -> bool:
        return not self._inputs

    def clear(self) -> None:
        """Forget everything that could continue: the flow has ended."""
        self._inputs.clear()
        self._ready.clear()
        self._launches.clear()


class Branch:
    """One coroutine of a flow: its body, or an awaitable given to `gather`.

    It runs in a context of its own, as a task of asyncio does: the others do not see what it sets.
    """

    __slots__ = ("_coroutine", "_on_end", "_queue", "context")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        queue: RunQueue,
        on_end: OnEnd | GatherSlot,
        context: Context,
    ) -> None:
        self._coroutine = coroutine
        self._queue = queue
        self._on_end = on_end
        self.context = context
        queue.branches[self] = None

    def resolve(self, value: Any) -> None:
        """Let it continue with a value."""
        self._queue.add(self.resume, value)

    def fail(self, error: BaseException) -> None:
        """Let it continue with an error, raised where it waits."""
        self._queue.add(self.resume, None, error)

    def resume(self, driver: Driver, value: Any, error: BaseException | None) -> None:
        """Run the coroutine to its next await, and have the driver begin the request."""
        run, coroutine = self.context.run, self._coroutine
        try:
            request = run(coroutine.send, value) if error is None else run(coroutine.throw, error)
        except StopIteration as stop:
            del self._queue.branches[self]
            self._on_end.resolve(stop.value)
        except BaseException as raised:  # noqa: BLE001 - one flow's SystemExit must not stop the others
            del self._queue.branches[self]
            self._on_end.fail(raised)
        else:
            self._begin(driver, request)

    def _begin(self, driver: Driver, request: object) -> None:
        if not isinstance(request, Request):
            self.fail(not_durable(request))
            return
        try:
            request.claim()
            request.begin(driver, self)
        except Exception as error:  # noqa: BLE001 - raised in the flow, where it awaits
            self.fail(error)

    def close(self) -> None:
        """Drop the coroutine. Its `finally` blocks run, but can do nothing durable."""
        for _ in range(_AWAITS_IN_FINALLY):
            try:
                self.context.run(self._coroutine.close)
            except RuntimeError:
                continue  # it awaited instead of ending: once more
            except BaseException:  # noqa: BLE001 - user code, in a flow that is no longer there
                return
            else:
                return
        _undying.add(self._coroutine, self.context.copy())
        del self._coroutine
        _undying.forget()

    @property
    def location(self) -> Location:
        innermost: Any = self._coroutine
        while type(inner := innermost.cr_await) is CoroutineType:
            innermost = inner  # pyright: ignore[reportUnknownVariableType] - no cast: it is a call
        frame = innermost.cr_frame
        return NOWHERE if frame is None else _location(frame.f_code, frame.f_lasti)


_AWAITS_IN_FINALLY = 100


class _Undying:
    """Code that catches everything, and so does not end when it is dropped.

    Python asks such a coroutine to end once more when it frees it. Its awaits must then still seem to belong
    to its flow, or it would try again for ever; and Python must not print anything about it.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Context, list[Any]]] = deque()
        self._quiet: set[int] = set()

    def add(self, coroutine: Any, context: Context) -> None:
        """Free a coroutine in its context, once there are no other references to it."""
        self._waiting.append((context, [coroutine]))

    def forget(self) -> None:
        """Free those without other references."""
        for _ in range(len(self._waiting)):
            context, held = self._waiting.popleft()
            if sys.getrefcount(held[0]) > _OWN_REFERENCES:
                self._waiting.append((context, held))
                continue
            self._quiet.add(id(held[0]))
            self._take_over_hook()
            context.run(held.clear)
        self._quiet.clear()

    def outlive(self) -> None:
        """Keep the others beyond Python's exit, which would ask them to end once more."""
        self.forget()
        for _, held in self._waiting:
            held.append(held)  # a cycle that is not freed, and with the freeze below not collected either
        if self._waiting:
            gc.freeze()

    def _take_over_hook(self) -> None:
        before = sys.unraisablehook
        if getattr(before, "__module__", "") != __name__:

            def hook(unraisable: sys.UnraisableHookArgs) -> None:
                if id(unraisable.object) not in self._quiet:
                    before(unraisable)

            sys.unraisablehook = hook


# That of the list, and that of the call that counts.
_OWN_REFERENCES = 2
_undying = _Undying()
atexit.register(_undying.outlive)
_locations: dict[tuple[int, int], tuple[CodeType, Location]] = {}


def _location(code: CodeType, instruction: int) -> Location:
    """Look up a place by its instruction: computing line numbers takes longer than all the rest."""
    key = (id(code), instruction)  # hashing a code object hashes all of it; kept here, its id stays its own
    known = _locations.get(key)
    if known is None:
        if len(_locations) >= _LOCATIONS:
            _locations.clear()
        line = next((line for start, end, line in code.co_lines() if start <= instruction < end), None)
        known = _locations[key] = (code, Location(code.co_filename, line or code.co_firstlineno))
    return known[1]


_LOCATIONS = 4096


class OnEnd(NamedTuple):
    """Callbacks for a branch's end."""

    resolve: Callable[[Any], None]
    fail: Callable[[BaseException], None]


class Gather:
    """The meeting point of several branches. The waiter may be a slot of another gather.

    `outermost` is the branch that awaits all of them, where gathers are nested.
    """

    __slots__ = ("_is_told", "_missing", "_results", "_return_exceptions", "_waiter", "outermost")

    def __init__(self, count: int, waiter: Waiter, *, return_exceptions: bool) -> None:
        self._results: list[Any] = [None] * count
        self._missing = count
        self._waiter = waiter
        self.outermost: Waiter = waiter.gathered.outermost if isinstance(waiter, GatherSlot) else waiter
        self._return_exceptions = return_exceptions
        self._is_told = False
        if not count:
            waiter.resolve(())

    def complete(self, index: int, result: Any) -> None:
        """Note one branch's result; the last one resolves the gather, and so on outwards."""
        gathered = self
        while True:
            gathered._results[index] = result
            gathered._missing -= 1
            if gathered._missing:
                return
            result, waiter = tuple(gathered._results), gathered._waiter
            if not isinstance(waiter, GatherSlot):
                waiter.resolve(result)
                return
            gathered, index = waiter.gathered, waiter.index

    def fail(self, index: int, error: BaseException) -> None:
        """Note one branch's error; the first one fails the gather, and so on outwards."""
        gathered = self
        while not gathered._return_exceptions:
            if gathered._is_told:
                return
            gathered._is_told = True
            waiter = gathered._waiter
            if not isinstance(waiter, GatherSlot):
                waiter.fail(error)
                return
            gathered, index = waiter.gathered, waiter.index
        gathered.complete(index, error)


class GatherSlot:
    """One branch's slot in a gather: the destination of its result."""

    __slots__ = ("gathered", "index")

    def __init__(self, gathered: Gather, index: int) -> None:
        self.gathered = gathered
        self.index = index

    def resolve(self, value: Any) -> None:
        self.gathered.complete(self.index, value)

    def fail(self, error: BaseException) -> None:
        self.gathered.fail(self.index, error)

    @property
    def location(self) -> Location:
        return self.gathered.outermost.location

    @property
    def context(self) -> Context:
        return self.gathered.outermost.context


class Launch(NamedTuple):
    """The awaitables that a gather has still to start."""

    rest: Iterator[tuple[int, Awaitable[Any]]]
    gathered: Gather


def _start(awaitable: Awaitable[Any], slot: GatherSlot, queue: RunQueue, driver: Driver) -> None:
    """Start one awaitable of a gather; anything but a request becomes a branch."""
    if isinstance(awaitable, Request):
        awaitable.claim()
        awaitable.begin(driver, slot)
    else:
        is_coroutine = type(awaitable) is CoroutineType
        coroutine = cast("Coroutine[Any, Any, Any]", awaitable) if is_coroutine else _awaiting(awaitable)
        Branch(coroutine, queue, slot, slot.context.copy()).resume(driver, None, None)


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def check_awaitables(awaitables: Sequence[Any]) -> None:
    """Refuse what cannot be awaited, or was awaited before, before any of them has begun.

    Raises:
        NotDurableError: one of them cannot be awaited.
        AlreadyAwaitedError: one of them was awaited before, or is there twice.
    """
    seen: set[int] = set()
    for place, awaitable in enumerate(awaitables, 1):
        if not isinstance(awaitable, Awaitable):
            raise not_gathered(awaitable, place)
        key = id(cast("object", awaitable))
        if key in seen or _was_awaited(cast("Awaitable[Any]", awaitable)):
            raise AlreadyAwaitedError(
                f"gather() was given {awaitable!r}, which was awaited before, or is given twice. It does its"
                " work once: make a call for each place"
            )
        seen.add(key)


def _was_awaited(awaitable: Awaitable[Any]) -> bool:
    if type(awaitable) is CoroutineType:
        return getcoroutinestate(cast("Coroutine[Any, Any, Any]", awaitable)) != CORO_CREATED
    return isinstance(awaitable, Request) and awaitable.is_begun
