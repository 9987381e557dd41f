"""The flow system: a store with flows in it, and all that runs them. The one place where parts are joined."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, TypeVarTuple, overload

from pykka import Timeout

from ..flows import FlowCall, Limits, Registry
from ..flows.errors import SystemClosed
from ..store import Durability, SqliteStore, StoreError
from . import requests
from .door import Door, checked_id, outside_error
from .event_sourced import ACTOR_STATUS, EventSourcedActor, Home
from .executor import StepExecutor
from .futures import Reply
from .handle import FlowHandle
from .journal import Entry, Journal, tell
from .moments import Moments
from .recovery import Recovery
from .seam import Event, Lock, Seam, start_thread
from .step_desk import StepDesk, StepReport
from .supervisor import Supervisor, SupervisorRules
from .surroundings import Surroundings
from .timers import Arm, Look, Timers

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from pykka import ActorRef

    from ..flows import Flow, FlowDefinition
    from ..store import EventStore, Header

__all__ = ["FlowSystem"]

logger = logging.getLogger("persistasaurus")

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")
A = TypeVar("A", bound=EventSourcedActor[Any])


class FlowSystem:
    """Runs flows, durably, in one SQLite file that it alone writes to.

    Opening a store recovers every unfinished flow. Close it, or use it as a context manager; a
    process that dies without that loses nothing that was acknowledged. Several may live in one
    process, each on its own file.

    Args:
        path: the file, created when it is not there; ":memory:" for a store that dies with the process.
        flows: flow classes, and module-level flows, that may be started and recovered.
        durability: what an acknowledged write is worth when the power fails.
        limits: bounds of one flow.
        rules: how flows are put to rest, and restarted after a crash.
        workers: threads that drive flows; more than two only help flows whose bodies compute.
        step_threads: so many `def` steps may run at once.
        step_processes: so many isolated steps may run at once; None: as many as processors.
        seam: clock, threads and chance; for tests.
        store: an open store to use instead of `path`; it is closed with the system.

    Raises:
        FlowDefinitionError: a flow's definition cannot work; nothing was opened.
        StoreOwned: another process owns the store; the message names it.
        StoreError: the file cannot be used; the message says why.
    """

    def __init__(  # noqa: PLR0913 - settings, all by name but the first, all with defaults
        self,
        path: str | os.PathLike[str] = ":memory:",
        *,
        flows: Sequence[type[Flow] | FlowDefinition[..., Any]] = (),
        durability: Durability = Durability.FULL,
        limits: Limits | None = None,
        rules: SupervisorRules | None = None,
        workers: int = 2,
        step_threads: int = 64,
        step_processes: int | None = None,
        seam: Seam | None = None,
        store: EventStore | None = None,
    ) -> None:
        registry = Registry(tuple(flows))
        limits = limits or Limits()
        self._owns_seam = seam is None
        self.seam = seam or Seam.system()
        self.store: EventStore = store or SqliteStore.open(
            path, now=self.seam.clock.now, durability=durability
        )
        self.door = Door(registry, self.store, limits)
        self._actors: dict[str, ActorRef[Any]] = {}
        self._starting = Lock()
        self._closing = Lock()
        self._closed = Event()
        self._executor = StepExecutor(self.seam, max_threads=step_threads, max_processes=step_processes)
        self._desk = StepDesk(self._executor, limits.payload, self.seam, self.ring)
        make = self.seam.dispatcher
        self._writing = make("persistasaurus-journal", workers=1, on_dead_letter=_refuse)
        self._control = make("persistasaurus-control", workers=1, on_dead_letter=_refuse)
        self._working = make("persistasaurus-flows", workers=workers, on_dead_letter=self._undelivered)
        self._run(Recovery(self.store, registry, limits, self._desk), rules or SupervisorRules())

    def _run(self, recovery: Recovery, rules: SupervisorRules) -> None:
        """Start the actors, and only when all of them are there, what they do on their own."""
        moments = Moments(self.seam.clock)
        self.journal = Journal.start_on(self._writing, self.store, self.seam, self._on_health)
        self._home = Home(self.store, self.journal, self.seam.clock)

        def around(report: Callable[[Any], None]) -> Surroundings:
            return Surroundings(self._home, recovery, self._desk, self.seam, moments, self._arm, report)

        self.supervisor = Supervisor.start_on(self._control, self.seam, self._working, around, rules)
        self._timers = Timers.start_on(self._control, self.store, self.seam, moments, self.ring)
        self.supervisor.tell(requests.LookAtParked())
        self._timers.tell(Look())

    # ---------------------------------------------------------------------------------------- starting
    @overload
    def start(
        self,
        flow: Callable[[Unpack[Ts]], FlowCall[R]],
        /,
        *args: *Ts,
        flow_id: str | None = None,
    ) -> FlowHandle[R]: ...
    @overload
    def start(self, flow: FlowCall[R], /, *, flow_id: str | None = None) -> FlowHandle[R]: ...
    @overload
    def start(
        self, flow: Callable[P, FlowCall[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> FlowHandle[R]: ...
    def start(self, flow: Any, /, *args: Any, flow_id: str | None = None, **kwargs: Any) -> FlowHandle[Any]:
        """Start a flow. When this returns, the flow is durable, and will run to its end.

        With a `flow_id` that exists, returns that flow's handle if type and arguments are the same.
        To give both arguments by keyword and an id: `start(SignupFlow.sign_up(user_name=...), flow_id=...)`.

        Raises:
            FlowAlreadyExists: the id belongs to another flow, or to other arguments.
            FlowDefinitionError: the flow is not registered here.
            PayloadError: an argument cannot be stored; nothing was written.
            TypeError: the arguments do not fit the flow.
            Overloaded: too much is queued; nothing was written.
            StoreUnavailable: the store could not confirm; the same again, with the same id, is safe.
        """
        start = self._start(flow, args, kwargs, flow_id)
        start.reply.get()
        return FlowHandle(self, start.flow_id, start.type)

    @overload
    async def start_async(
        self,
        flow: Callable[[Unpack[Ts]], FlowCall[R]],
        /,
        *args: *Ts,
        flow_id: str | None = None,
    ) -> FlowHandle[R]: ...
    @overload
    async def start_async(self, flow: FlowCall[R], /, *, flow_id: str | None = None) -> FlowHandle[R]: ...
    @overload
    async def start_async(
        self, flow: Callable[P, FlowCall[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> FlowHandle[R]: ...
    async def start_async(
        self, flow: Any, /, *args: Any, flow_id: str | None = None, **kwargs: Any
    ) -> FlowHandle[Any]:
        """Start a flow, and await that it is durable; raises as `start` does."""
        start = self._start(flow, args, kwargs, flow_id)
        await start.reply
        return FlowHandle(self, start.flow_id, start.type)

    @overload
    def run(
        self,
        flow: Callable[[Unpack[Ts]], FlowCall[R]],
        /,
        *args: *Ts,
        flow_id: str | None = None,
    ) -> R: ...
    @overload
    def run(self, flow: FlowCall[R], /, *, flow_id: str | None = None) -> R: ...
    @overload
    def run(self, flow: Callable[P, FlowCall[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def run(self, flow: Any, /, *args: Any, flow_id: str | None = None, **kwargs: Any) -> Any:
        """Start a flow and wait for its result; raises as `start` and `FlowHandle.result` do."""
        return self.start(flow, *args, flow_id=flow_id, **kwargs).result()

    @overload
    async def run_async(
        self,
        flow: Callable[[Unpack[Ts]], FlowCall[R]],
        /,
        *args: *Ts,
        flow_id: str | None = None,
    ) -> R: ...
    @overload
    async def run_async(self, flow: FlowCall[R], /, *, flow_id: str | None = None) -> R: ...
    @overload
    async def run_async(self, flow: Callable[P, FlowCall[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def run_async(self, flow: Any, /, *args: Any, flow_id: str | None = None, **kwargs: Any) -> Any:
        """Start a flow and await its result; raises as `start` and `FlowHandle.result` do."""
        return await (await self.start_async(flow, *args, flow_id=flow_id, **kwargs))

    def _start(
        self, flow: Any, args: tuple[Any, ...], kwargs: dict[str, Any], flow_id: str | None
    ) -> requests.Start:
        self.door.enter(self.queued)
        call = self.door.flow_call(flow, args, kwargs)
        chosen = self.seam.new_id() if flow_id is None else checked_id(flow_id, "flow id")
        start = requests.Start(chosen, call.definition.name, call.data, Reply())
        self.ask(start)
        return start

    # ----------------------------------------------------------------------------------------- looking
    def flow(self, flow_id: str) -> FlowHandle[Any]:
        """Return the handle of any flow, running, at rest or ended.

        Raises:
            FlowNotFound: there is no such flow.
        """
        handle: FlowHandle[Any] = FlowHandle(self, flow_id, "")
        return FlowHandle(self, flow_id, handle.header().type)

    def flows(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        status: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Header]:
        """List flows in the order in which they were started; `after` is the last id of the page before.

        Raises:
            FlowNotFound: there is no flow `after`.
        """
        self.door.enter()
        found: list[Header] = []
        try:
            while len(found) < limit:
                page = self.store.headers(type=type, status=status, after=after, limit=limit)
                found += [header for header in page if header.status != ACTOR_STATUS]
                if len(page) < limit:
                    break
                after = page[-1].stream
        except StoreError as error:
            raise outside_error(after or "", error) from error
        return found[:limit]

    # ------------------------------------------------------------------------------------ other actors
    def actor(self, kind: type[A], stream_id: str, *args: Any) -> ActorRef[A]:
        """Return the live actor of a stream, started and recovered when there is none.

        For event-sourced actors of your own. There is one at a time for each stream id; one that
        has ended is started anew by the next call.

        Raises:
            ValueError: the stream belongs to something else.
        """
        self.door.enter()
        with self._starting:
            ref = self._actors.get(checked_id(stream_id, "stream id"))
            if ref is None or not ref.is_alive():
                self._check_kind(kind, stream_id)
                ref = kind.start_on(self._working, stream_id, self._home, *args)
                self._actors[stream_id] = ref
            if not issubclass(ref.actor_class, kind):
                raise ValueError(  # noqa: TRY004 - it is the id that does not fit
                    f"stream {stream_id!r} has a {ref.actor_class.__name__}, not a {kind.__name__}"
                )
            return ref

    def _check_kind(self, kind: type[EventSourcedActor[Any]], stream_id: str) -> None:
        header = self.store.header(stream_id)
        if header is not None and header.status != ACTOR_STATUS:
            raise ValueError(f"stream {stream_id!r} is a flow, {header.type!r}")
        if header is not None and header.type != kind.stream_type:
            raise ValueError(f"stream {stream_id!r} is a {header.type!r}, not a {kind.stream_type!r}")

    # -------------------------------------------------------------------------------------- the parts
    @property
    def queued(self) -> int:
        """How much waits to be written."""
        return len(self.journal.actor_inbox) + len(self.supervisor.actor_inbox)  # pyright: ignore[reportArgumentType] - our own mailboxes

    def ask(self, request: requests.Request | requests.Watch) -> None:
        """Hand a request to the supervisor, which sees to it that it is answered."""
        if not tell(self.supervisor, request):
            _refuse("", request)

    def ring(self, flow_id: str) -> None:
        """Have a flow look into its inbox, and at the clock."""
        tell(self.supervisor, requests.Ring(flow_id))

    def _arm(self, flow_id: str, elapsed: float) -> None:
        tell(self._timers, Arm(flow_id, elapsed))

    def _on_health(self, state: bool | Exception) -> None:  # noqa: FBT001 - a state, not a switch
        if isinstance(state, Exception):
            self.door.refusal = state
        tell(self.supervisor, requests.Health(state))
        if state is True:
            tell(self._timers, Look())  # nobody has rung for what was written without an answer

    def _undelivered(self, recipient: str, message: Any) -> None:
        """Take back what an actor was told that had just ended."""
        if isinstance(message, StepReport):
            self.ring(message.flow_id)  # the desk has kept it
        elif not (isinstance(message, requests.Ring) or hasattr(message, "reply")):
            return
        elif not tell(self.supervisor, message):
            _refuse(recipient, message)

    # ----------------------------------------------------------------------------------------- closing
    def close(self, timeout: float = 10.0) -> None:
        """Stop in good order, within about `timeout` seconds. From any thread; idempotent.

        Takes no more work, waits for running steps and records how they ended; what is not through
        by then is recorded as interrupted, and goes on at the next start. Who comes second waits until
        the first is through. In a forked child this does nothing: the system is its parent's.
        """
        if not self.door.is_of_this_process:
            return
        with self._closing:
            is_first, self.door.is_closed = not self.door.is_closed, True
        if not is_first:
            self._closed.wait(timeout)
            return
        deadline = self.seam.clock.elapsed() + timeout
        try:
            self._wait_for(requests.Drain(Reply()), deadline)
            self._desk.end(self._executor.close(deadline))
            self._wait_for(requests.Finish(Reply()), deadline)
        finally:
            for dispatcher in (self._working, self._control, self._writing):
                dispatcher.close(self._left(deadline))
            if self._owns_seam:
                self.seam.alarms.close()
            self._closed.set()

    def _wait_for(self, request: requests.Drain | requests.Finish, deadline: float) -> None:
        try:
            if tell(self.supervisor, request):
                request.reply.get(timeout=self._left(deadline))
        except Timeout:
            logger.warning("The system does not stop in good order: not all flows have answered in time")

    def _left(self, deadline: float) -> float:
        return max(1.0, deadline - self.seam.clock.elapsed())

    async def close_async(self, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - the same as close's
        """Stop in good order, as `close` does, without blocking the event loop."""
        done: Reply[None] = Reply()

        def close() -> None:
            try:
                self.close(timeout)
            except BaseException as error:  # noqa: BLE001 - the caller's
                done.fail(error)
            else:
                done.resolve(None)

        start_thread(close, "persistasaurus-close", daemon=True)
        await done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close_async()


def _refuse(_: str, message: Any) -> None:
    """Answer what came too late: its recipient is closed."""
    closed = SystemClosed("the system is closed; the same again, after the next start, is safe")
    if isinstance(message, Entry):
        message.done(closed)
    elif hasattr(message, "reply"):
        message.reply.fail(closed)
