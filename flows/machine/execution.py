"""A flow's code while it is driven: its branches, and what they have begun and not ended."""

from __future__ import annotations

import random
import sys
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from .. import events
from ..authoring.foreign import NoLoop, advice_on
from ..authoring.request import enter, is_in_flow
from ..errors import PayloadError, StepError
from ..values.location import Location, defined_at, text_of
from .branch import Branch, Gather, OnEnd, RunQueue, check_awaitables
from .failure import failure_of
from .inbox import SignalQueues
from .pending import Due, FlowEnding, StepRun, Timer, Wait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator

    from ..authoring.flow import FlowDefinition
    from ..authoring.request import Request, Waiter
    from ..authoring.step import Step
    from ..values.codec import Codec, PayloadLimits
    from .history import Rewound
    from .pending import CommandSink, PendingOperation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_LOOP: Any = NoLoop()


class Execution:
    """Drives one flow's coroutine. The order of `apply` and `run` determines everything that it does."""

    def __init__(self, flow_id: str, definition: FlowDefinition[..., Any], limits: PayloadLimits) -> None:
        self.flow_id = flow_id
        self.version = 0
        self.at = 0
        self.steps: dict[int, StepRun] = {}
        self.timers: dict[int, Timer] = {}
        self.instance: Any = None
        self.ended: events.FlowCompleted | events.FlowFailed | None = None
        self.parked: events.Parked | None = None
        self.paused = False
        self.draining = False
        self.has_started = False
        self.is_over = False
        """Whether the code has ended, be that recorded or not."""
        self.sink: CommandSink
        """The receiver of the code's commands: to be set before the first input event is applied."""
        self.queue = RunQueue(self)
        self.signals = SignalQueues(definition.signals, limits)
        self._definition = definition
        self._payload_limits = limits
        self._last_step = 0
        self._last_timer = 0
        self._random: random.Random | None = None
        self._seed = 0

    # ------------------------------------------------------------------------------------- driving
    @property
    def is_still(self) -> bool:
        """Whether the code stands still: paused, parked, ended, or drained by a shutdown."""
        return self.paused or self.draining or self.parked is not None or self.ended is not None

    def apply(self, event: events.InputEvent, at: int, value: Any = None) -> None:
        """Apply an input event. `value` is the decoded result of a step, if it is known already.

        Raises:
            LookupError: the event is about something that the code has not begun.
        """
        self.at = at
        self._APPLY[type(event)](self, event, value)

    def run(self) -> None:
        """Run the code as far as it can."""
        if not (self.queue.is_empty or self.is_over or self.is_still):
            self._driven(self.queue.drain)

    def _driven(self, code: Callable[..., Any], *args: Any) -> Any:
        """Run some of the flow's code, with asyncio refused."""
        # The documented hooks for implementers of loops. Importing asyncio just for this would be slow; and
        # another thread may be importing it now.
        asyncio: Any = sys.modules.get("asyncio.events")
        set_loop: Any = getattr(asyncio, "_set_running_loop", None)
        loop = None if set_loop is None else asyncio._get_running_loop()  # noqa: SLF001
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=self._left)
        try:
            if set_loop is not None:
                set_loop(_NO_LOOP)
            return code(*args)
        finally:
            if set_loop is not None:
                set_loop(loop)
            sys.set_asyncgen_hooks(*hooks)

    def _left(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Close an async generator that the code left before its end, and that nothing awaits any more."""
        left: Any = generator
        closing = left.aclose()
        try:
            closing.send(None)
        except StopIteration:
            return  # it had nothing to await
        except BaseException:
            if is_in_flow():
                raise
            return  # user code, in a flow that is no longer there
        closing.close()
        if not self.is_over:
            place = Location(left.ag_code.co_filename, left.ag_code.co_firstlineno)
            self.sink.warn(
                f"flow {self.flow_id!r}: the body has left {left.__name__}(), an async generator at {place},"
                " before its end, and what its `finally` awaits does not happen: write `async with"
                " contextlib.aclosing(...)` around its `async for`"
            )

    def close(self) -> None:
        """Drop the code. Nothing that it awaits begins any more, so it can do nothing durable.

        Its awaits are still accepted: if they were refused, code that catches everything would try again for
        ever.
        """
        self.is_over = True
        while self.queue.branches:
            branch, _ = self.queue.branches.popitem()
            self._driven(branch.close)

    def dues(self) -> Iterator[Due]:
        """Yield everything that waits for a time."""
        yield from (timer.due for timer in self.timers.values())
        yield from (run.due for run in self.steps.values() if run.due is not None)

    def end(self, event: events.FlowCompleted | events.FlowFailed) -> None:
        """Note that the flow's end is recorded. Only after a failure do late outcomes matter."""
        self.ended = event
        if type(event) is events.FlowCompleted:
            self.steps.clear()
            self.timers.clear()

    def renumber(self, operations: Iterable[PendingOperation], last: Rewound) -> None:
        """Continue numbering after the numbers used before a repair, beginning with these operations."""
        self._last_step = max(self._last_step, last.last_step)
        self._last_timer = max(self._last_timer, last.last_timer)
        for operation in operations:
            if isinstance(operation, Timer):
                del self.timers[operation.number]
                self._last_timer += 1
                operation.number = self._last_timer
                self.timers[operation.number] = operation
            elif isinstance(operation, StepRun):
                del self.steps[operation.number]
                self._last_step += 1
                operation.number = self._last_step
                self.steps[operation.number] = operation
            elif isinstance(operation, Wait) and operation.number:
                self._last_step += 1
                operation.number = self._last_step

    # ----------------------------------------------------------------- what the code asks for (Driver)
    @property
    def random(self) -> random.Random:
        if self._random is None:
            self._random = random.Random(self._seed)  # noqa: S311 - repeatable on purpose
        return self._random

    @property
    def flow_type(self) -> str:
        return self._definition.name

    def log(self, say: Callable[[], None]) -> None:
        self.sink.log(say)

    def now(self) -> datetime:
        return _EPOCH + self.at * _MICROSECOND

    def seal(self, codec: Codec, values: msgspec.Struct) -> bytes:
        return self.sink.seal(codec, values, self._payload_limits)

    def begin_step(self, step: Step[..., Any], data: bytes, waiter: Waiter) -> None:
        self._last_step = number = self._last_step + 1
        run = self.steps[number] = StepRun(number, step, data, waiter)
        self.sink.step(run)

    def begin_timer(self, until: timedelta | datetime, waiter: Waiter) -> None:
        self._last_timer += 1
        timer = self.timers[self._last_timer] = Timer(self._last_timer, until, waiter)
        self.sink.timer(timer)

    def begin_wait(self, name: str, step: Step[..., Any] | None, codec: Codec | None, waiter: Waiter) -> None:
        """Begin to wait for a signal; take one that came early."""
        number = 0
        if step is not None:
            self._last_step = number = self._last_step + 1
        wait = Wait(name, number, step, codec, waiter)
        self.signals.wait(wait)
        self.sink.wait(wait)
        self._meet(name)

    def begin_gather(
        self, branches: tuple[Awaitable[Any], ...], waiter: Waiter, *, return_exceptions: bool
    ) -> None:
        check_awaitables(branches)
        gathered = Gather(len(branches), waiter, return_exceptions=return_exceptions)
        self.queue.launch(branches, gathered)

    def forgotten(self, request: Request[Any], location: Location) -> None:
        if not self.is_over:
            self.sink.warn(
                f"flow {self.flow_id!r}: {request!r} was dropped at {location} without being awaited, so"
                " nothing has happened: write `await` in front of it"
            )

    # -------------------------------------------------------------------------------- input events
    def _flow_started(self, event: events.FlowStarted, _: Any) -> None:
        if self.has_started:
            raise LookupError("a flow starts once")
        self.has_started = True
        self._seed = event.seed
        values = self._definition.parameters.decode(bytes(event.args))
        # Empty: a replay could not know what is in the context of the current thread.
        context = Context()
        context.run(enter, self)
        try:
            coroutine = self._driven(context.run, self._begin, values)
        except BaseException as error:  # noqa: BLE001 - user code
            self._crash(error)
        else:
            Branch(coroutine, self.queue, OnEnd(self._complete, self._crash), context).resolve(None)

    def _begin(self, values: msgspec.Struct) -> Coroutine[Any, Any, Any]:
        self.instance = self._definition.new()
        return self._definition.body(self.instance, values)

    def _step_completed(self, event: events.StepCompleted, value: Any) -> None:
        run = self._begun(event.step)
        if value is None:
            value = run.step.result.decode(event.result)
        del self.steps[event.step]
        run.waiter.resolve(value)

    def _step_failed(self, event: events.StepFailed, _: Any) -> None:
        run = self._begun(event.step)
        if event.retry_at is not None:
            run.fail_once(Due(event.retry_at, self.at))
            self.sink.retry(run)
            return
        del self.steps[event.step]
        run.waiter.fail(StepError(event.step, run.step.name, event.error))

    def _step_attempted(self, event: events.StepAttempted, _: Any) -> None:
        run = self.steps[event.step]
        if run.due is None and not run.attempt:
            raise LookupError(event.step)
        run.begin(event.attempt, self.at)

    def _step_interrupted(self, event: events.StepInterrupted, _: Any) -> None:
        run = self._begun(event.step)
        run.unresolved = 0
        run.is_doubtful = event.begun

    def _begun(self, step: int) -> StepRun:
        """Return the run of a step whose attempt is recorded."""
        run = self.steps[step]
        if not run.attempt:
            raise LookupError(step)
        return run

    def _timer_fired(self, event: events.TimerFired, _: Any) -> None:
        self.timers.pop(event.timer).waiter.resolve(None)

    def _signal_received(self, event: events.SignalReceived, _: Any) -> None:
        self.signals.keep(event.name, event.key, bytes(event.args))
        # In its turn, as everything else: after a standstill, what came first continues first.
        self.queue.add(self._meet_in_turn, event.name)

    def _paused(self, _: events.Paused, __: Any) -> None:
        self.paused = True

    def _resumed(self, _: events.Resumed, __: Any) -> None:
        self.paused = False

    def _parked(self, event: events.Parked, _: Any) -> None:
        self.parked = event

    def _repaired(self, _: events.Repaired, __: Any) -> None:
        self.parked = None
        for run in self.steps.values():
            run.approve()

    def _meet_in_turn(self, driver: object, name: str, error: object) -> None:
        del driver, error
        self._meet(name)

    def _meet(self, name: str) -> None:
        """Match signals with waits, oldest first."""
        while (met := self.signals.meet(name, self.sink.give_up)) is not None:
            wait, data, value = met
            if wait.step is None:
                wait.waiter.resolve(value)
            else:
                run = self.steps[wait.number] = StepRun(wait.number, wait.step, data, wait.waiter)
                self.sink.step(run)

    # ----------------------------------------------------------------------------------------- end
    def _complete(self, result: Any) -> None:
        try:
            data, _ = self._definition.result.seal(result, self._payload_limits)
        except PayloadError as error:
            # The body has ended, so no line of it is current.
            line = text_of(defined_at(self._definition.function))
            self._end(events.FlowFailed(msgspec.structs.replace(failure_of(error), line=line)))
        else:
            self._end(events.FlowCompleted(msgspec.Raw(data)))

    def _crash(self, error: BaseException) -> None:
        self._end(events.FlowFailed(failure_of(error, advice_on(error)), failed_step(error)))

    def _end(self, event: events.FlowCompleted | events.FlowFailed) -> None:
        """End the flow: nothing else continues, live and in each replay alike."""
        self.is_over = True
        self.queue.clear()
        self.sink.end(FlowEnding(event, self.end))

    # A table of functions, not of bound methods: all flows share it.
    _APPLY: ClassVar[dict[type, Callable[..., None]]] = {
        events.FlowStarted: _flow_started,
        events.StepCompleted: _step_completed,
        events.StepFailed: _step_failed,
        events.StepAttempted: _step_attempted,
        events.StepInterrupted: _step_interrupted,
        events.TimerFired: _timer_fired,
        events.SignalReceived: _signal_received,
        events.Paused: _paused,
        events.Resumed: _resumed,
        events.Parked: _parked,
        events.Repaired: _repaired,
    }


def failed_step(error: BaseException) -> int | None:
    """Return the number of the step whose failure led to an error, following its causes."""
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        current = ahead.pop(0)
        if current is None or id(current) in seen:
            continue
        if isinstance(current, StepError):
            return current.step
        seen.add(id(current))
        ahead.append(current.__cause__ or current.__context__)
        if isinstance(current, BaseExceptionGroup):
            ahead += current.exceptions  # pyright: ignore[reportUnknownMemberType] - of any exceptions
    return None
