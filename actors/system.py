"""The flow system: a store with flows in it, and all that runs them. The one place where parts are joined."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, TypeVarTuple, cast, overload

from pykka import Timeout

from ..flows import FlowCall, Limits, Registry, SignalCall
from ..flows.authoring.request import is_in_flow
from ..flows.authoring.step import is_in_step
from ..flows.entities.actor import EventSourcedActor, definition_of
from ..flows.entities.actor_types import ActorTypes
from ..flows.errors import ActorDefinitionError, NotInFlowError, ProjectionDefinitionError, SystemClosed
from ..flows.machine.in_doubt import Evidence
from ..flows.values.settings import check_count, check_timeout, check_type
from ..flows.values.text import shown
from ..store import Durability, SqliteStore, StoreError, StreamState
from ..store.files.black_box import BlackBox, Blocking, Present, blackbox_of, suspicions_after
from ..store.sqlite.projection_place import ProjectionPlaces
from ..store.sqlite.requests import OWNER_PATIENCE_MS, SqliteRequests
from .batches import Batch, SignalTo
from .entities.directory import EntityDirectory
from .entities.messages import HandleCall, LookAt
from .flows import requests
from .flows.actor_context import ActorContext
from .flows.admission import Admission, checked_id
from .flows.awaited import Awaited
from .flows.client import CLOSED, EngineClient, Receipt
from .flows.clock import JumpAwareClock
from .flows.flow_actor import FlowActor
from .flows.heartbeat import Heartbeat
from .flows.listing import STATUSES, flows_of
from .flows.loader import Loader
from .flows.recovery import Recovery
from .flows.starting import Starts
from .flows.supervisor import Supervisor, SupervisorRules
from .flows.timers import Arm, LoadDue, LookFrom, Timers
from .handle import FlowHandle
from .persistence.commits import Commits, Committed
from .persistence.journal import Entry, Journal
from .persistence.persistent_actor import StreamAccess
from .persistence.single_actor_guard import SingleActorGuard
from .projections.projection import Projection, projection_of
from .projections.projection_handle import ProjectionHandle
from .projections.projector import Projector
from .ref import Ref
from .remote.poller import Poll, RequestPoller
from .replies import refuse_on_step_loop
from .runtime.actor import try_tell
from .runtime.environment import Environment
from .runtime.futures import Reply
from .runtime.primitives import RLock, start_thread
from .runtime.watchdog import Watchdog, WatchdogRules
from .statistics import SystemStatistics
from .steps.attempts import AttemptRegistry, StepReport
from .steps.executor import StepExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType, TracebackType
    from typing import Self, Unpack

    from ..flows import Flow, FlowDefinition
    from ..store import EventStore, Header
    from .flows.active_flow import RestartRules
    from .projections.projection import ProjectionDefinition
    from .runtime.posts import Task
    from .runtime.scheduler import DeadLetterCallback, Scheduler
    from .runtime.stacks import Held

__all__ = ["FlowSystem"]

logger = logging.getLogger("persistasaurus")

_IMPORTED_SCRIPT = "__mp_main__"
"""What a script is called while a process that was spawned imports it."""

_PATIENCE_S = 3.0
"""How long the parts of a system that could not start are waited for."""
_SUSPICIOUS = 2
"""So many deaths in a row during a flow's code, and it begins alone the next time."""

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")
A = TypeVar("A", bound=EventSourcedActor[Any, Any])


class FlowSystem:
    """Runs flows, durably, in one SQLite file that it alone writes to.

    Opening a store recovers every unfinished flow. Close it, or use it as a context manager; a
    process that dies without that loses nothing that was acknowledged. Several may live in one
    process, each on its own file.

    Args:
        path: the file, created if it does not exist; ":memory:" for a store that ends with the process.
        flows: flow classes, and module-level flows, that may be started and recovered.
        actors: the classes of event-sourced actors that may be asked.
        projections: the projections that are kept up to date.
        durability: whether acknowledged writes survive a loss of power.
        limits: bounds of one flow.
        rules: when flows are passivated, and how they are restarted after a crash.
        workers: threads that run flows, actors and the journal at a time. One that is held by code that
            blocks or computes is replaced within milliseconds; more than one helps only where Python itself
            runs in parallel.
        step_threads: how many `def` steps may run at once, not counting those that wait for other flows.
        step_processes: how many isolated steps may run at once; None: as many as there are processors.
        debug: whether to compare an actor's state, after each command and query, with what its events make of
            it; None: in Python's development mode (`python -X dev`).
        environment: clock, threads and chance; for tests.
        store: an open store to use instead of `path`; the system closes it, even if the system fails to
            start.
        executor: what runs steps; for tests.
        blackbox: where the engine notes what it runs; for tests.
        projection_places: where projections are kept; for tests.

    Raises:
        FlowDefinitionError: a flow's definition cannot work; nothing was opened.
        ActorDefinitionError: an actor's definition cannot work, or two classes have one name.
        ProjectionDefinitionError: two projections have one name, or something is none.
        StoreOwned: another process owns the store; the message names it.
        StoreError: the file cannot be used; the message says why.
    """

    def __init__(  # noqa: PLR0913 - settings, all by name but the first, all with defaults
        self,
        path: str | os.PathLike[str] = ":memory:",
        *,
        flows: Sequence[type[Flow] | FlowDefinition[..., Any]] = (),
        actors: Sequence[type[EventSourcedActor[Any, Any]]] = (),
        projections: Sequence[type[Projection]] = (),
        durability: Durability = Durability.FULL,
        limits: Limits | None = None,
        rules: SupervisorRules | None = None,
        workers: int = 1,
        step_threads: int = 64,
        step_processes: int | None = None,
        debug: bool | None = None,
        environment: Environment | None = None,
        store: EventStore | None = None,
        executor: StepExecutor | None = None,
        blackbox: BlackBox | None = None,
        projection_places: ProjectionPlaces | None = None,
    ) -> None:
        _refuse_while_imported()
        registry = Registry(flows)
        self._actor_types = _actor_types(actors)
        projected = _projections(projections)
        limits = Limits() if limits is None else limits
        rules = SupervisorRules() if rules is None else rules
        check_type("FlowSystem", "durability", durability, Durability)
        check_type("FlowSystem", "limits", limits, Limits)
        check_type("FlowSystem", "rules", rules, SupervisorRules)
        check_count("FlowSystem", "workers", workers)
        check_count("FlowSystem", "step_threads", step_threads)
        if step_processes is not None:
            check_count("FlowSystem", "step_processes", step_processes)
        _check_path(path)
        self._owns_environment = environment is None
        self.environment = environment or Environment.system()
        self._is_writable = True
        self._is_debug = sys.flags.dev_mode if debug is None else debug
        self._guard = SingleActorGuard()
        self._starts = Starts()
        self._closing = RLock()
        self._is_closing = False
        self._is_closed = False
        patience = WatchdogRules(rules.report_blocking_s, rules.park_blocking_s)
        self._watchdog = Watchdog(self.environment.clock, self.environment.alarms, patience, self._on_held)
        self._dispatchers: list[Scheduler] = []
        """In the order in which they were made; they are closed the other way round."""
        try:
            self.store: EventStore = store or SqliteStore.open(
                path, now=self.environment.clock.now, durability=durability
            )
            self._admission = Admission(registry, self.store, limits)
            self._awaited = Awaited(self._guard, self.store)
            self._box = self._black_box(registry) if blackbox is None else blackbox
            self.environment.alarms.start()
            # Listeners are the user's and may do I/O at each commit, requests are read from a file: they have
            # threads of their own. All others share carriers, and stop before what they depend on.
            self._commits = Commits(self._dispatcher("listeners", 1, _refuse))
            self._asking = self._dispatcher("requests", 1, _refuse)
            self._writing = self._dispatcher("carrier", workers, _refuse, has_watchman=True)
            self._control = self._beside(self._writing, _refuse)
            self._reading = self._beside(self._writing, _refuse)
            self._working = self._beside(self._writing, self._undelivered)
            # A machine that grants no thread refuses the start, and not each flow.
            self._writing.start_workers()
            self._executor = executor or StepExecutor(
                self.environment,
                max_threads=step_threads,
                max_processes=step_processes,
                patience=patience,
                ready=self._working.ready,
            )
            self._attempts = AttemptRegistry(self._executor, limits.payload, self._wake)
            past = self._box.past
            evidence = Evidence(past.is_blameless, past.alive_at)
            self._run(Recovery(self.store, registry, limits, self._attempts, evidence), rules)
            places = projection_places or ProjectionPlaces(getattr(self.store, "path", None))
            self._projections = {
                definition.name: self._follow(definition, places, rules.restart) for definition in projected
            }
        except BaseException:
            # The next attempt needs the store.
            self._abandon()
            raise

    def _dispatcher(
        self, name: str, workers: int, on_dead_letter: DeadLetterCallback, *, has_watchman: bool = False
    ) -> Scheduler:
        made = self.environment.dispatcher(
            f"persistasaurus-{name}",
            workers=workers,
            on_dead_letter=on_dead_letter,
            has_watchman=has_watchman,
        )
        made.watch(self._watchdog)
        self._dispatchers.append(made)
        return made

    def _beside(self, dispatcher: Scheduler, on_dead_letter: DeadLetterCallback) -> Scheduler:
        made = dispatcher.beside(on_dead_letter)
        self._dispatchers.append(made)
        return made

    def _abandon(self) -> None:
        """Give back what a start has taken that failed or was interrupted, however far it came."""
        store: EventStore | None = getattr(self, "store", None)
        box: BlackBox | None = getattr(self, "_box", None)
        executor: StepExecutor | None = getattr(self, "_executor", None)
        # What comes last is closed first; and all of it is, whatever is raised or interrupts once more.
        with ExitStack() as stack:
            if self._owns_environment:
                stack.callback(self.environment.alarms.close)
            if box is not None:
                stack.callback(box.close)
            if store is not None:
                stack.callback(store.close)
            for dispatcher in self._dispatchers:
                stack.callback(dispatcher.close, _PATIENCE_S)
            if executor is not None:
                stack.callback(executor.close, self.environment.clock.elapsed())

    def _run(self, recovery: Recovery, rules: SupervisorRules) -> None:
        """Start the actors, and only when all of them are there, what they do on their own."""
        clock = JumpAwareClock(self.environment.clock)
        self.journal = Journal.start_on(
            self._writing, self.store, self.environment, self._on_health, self._commits.tell
        )
        self._access = StreamAccess(self.store, self.journal, self.environment.clock)
        self.entities = EntityDirectory(
            access=self._access,
            scheduler=self._working,
            environment=self.environment,
            limits=recovery.limits.payload,
            guard=SingleActorGuard(),
            is_store_up=lambda: self._is_writable,
            is_checked=self._is_debug,
        )

        def context(report: Callable[[Any], None]) -> ActorContext:
            access, attempts, guard = self._access, self._attempts, self._guard
            said: set[str] = set()
            own = (self._awaited, self._starts, self._box, heart)
            return ActorContext(
                access, recovery, attempts, self.environment, clock, self._arm, report, guard, said, *own
            )

        heart = None
        if self._box.is_real:
            heart = Heartbeat(self.environment, self._box, self._executor.running, self._present)
            self._watchdog.on_report = heart.wake
        self._loader = loader = Loader.start_on(self._reading, self.store)
        self.supervisor = Supervisor.start_on(
            self._control,
            self.environment,
            self._working,
            context,
            loader,
            self._look_from,
            rules,
            is_held_back=True,
        )
        self._timers = Timers.start_on(
            self._control,
            loader,
            self.environment,
            clock,
            self._wake,
            rules.horizon_s,
            when_room=self._when_room,
        )
        self.client = EngineClient(
            store=self.store,
            admission=self._admission,
            environment=self.environment,
            journal=self.journal,
            supervisor=self.supervisor,
            workers=self._working,
            active=self._guard,
            awaited=self._awaited,
            attempts=self._attempts,
            starts=self._starts,
        )
        begin = self._beginning(recovery.limits.poison_after)
        path = getattr(self.store, "path", None)
        if path is None:
            self.supervisor.tell(begin)
        else:
            # First what other processes have left beside the store: somebody may want a flow not to begin.
            asked = SqliteRequests(path, self.environment.clock.now, patience_ms=OWNER_PATIENCE_MS)
            poller = RequestPoller.start_on(
                self._asking, self.client, asked, lambda: try_tell(self.supervisor, begin)
            )
            poller.tell(Poll())
        self.supervisor.tell(requests.LookAtHeaders())
        self.supervisor.tell(requests.ResumeRecoverable())
        self._timers.tell(LoadDue())

    def _follow(
        self, definition: ProjectionDefinition, places: ProjectionPlaces, rules: RestartRules
    ) -> ProjectionHandle:
        """Have a projection follow the store, on a thread of its own."""
        name, file = definition.name, definition.file
        place = places.of(name, file)
        projector = Projector(
            definition,
            store=self.store,
            places=(place, places.draft_of(name, file)),
            environment=self.environment,
            rules=rules,
        )
        projector.actor_inbox.attach(projector, self._dispatcher(f"projection-{name}", 1, _refuse))
        self._commits.enlist(projector, projector.actor_ref)
        try_tell(projector.actor_ref, Committed())  # perhaps there was one in between
        return ProjectionHandle(definition, projector, self.store, place, self._admission.check_open)

    def _black_box(self, registry: Registry) -> BlackBox:
        """Open the black box of a store that is a file; without one, if that cannot be."""
        path = getattr(self.store, "path", None)
        if path is None:
            return BlackBox()
        try:
            return BlackBox(blackbox_of(path), registry.fingerprint())
        except OSError as error:
            logger.warning("What runs when this process dies cannot be noted: %s", error)
            return BlackBox()

    def _beginning(self, poison_after: int) -> requests.Begin:
        """Return with whom to begin, by what ran when the process before has died."""

        def version_of(stream: str) -> int | None:
            header = self.store.header(stream)
            return None if header is None or header.state is not StreamState.OPEN else header.version

        try:
            found = suspicions_after(self._box.past, version_of)
        except StoreError as error:
            logger.warning("What ran when the process before has died is not looked at: %s", error)
            found = {}
        self._box.suspect(found)
        lethal = tuple((name, s.deaths) for name, s in found.items() if s.deaths >= poison_after)
        suspects = tuple(n for n, s in found.items() if _SUSPICIOUS <= s.deaths < poison_after)
        return requests.Begin(suspects, lethal)

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
            StoreUnavailable: the store could not confirm; you can safely repeat it with the same id.
        """
        start = self._start(flow, args, kwargs, flow_id)
        start.reply.get()
        return FlowHandle(self.client, start.flow_id, start.type, start.end)

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
        """Start a flow, and wait until it is durable; raises like `start`."""
        start = self._start(flow, args, kwargs, flow_id)
        await start.reply
        return FlowHandle(self.client, start.flow_id, start.type, start.end)

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
        """Start a flow and wait for its result; raises like `start` and `FlowHandle.result`.

        A `def` step may call this: other steps, including those it waits for, run meanwhile. In an `async
        def` step, await `run_async`.
        """
        refuse_on_step_loop("await run_async()")
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
        """Start a flow and await its result; raises like `start` and `FlowHandle.result`."""
        return await (await self.start_async(flow, *args, flow_id=flow_id, **kwargs))

    def _start(
        self, flow: Any, args: tuple[Any, ...], kwargs: dict[str, Any], flow_id: str | None
    ) -> requests.StartFlow:
        self.client.check_open()
        return self._begin(self._admission.flow_call(flow, args, kwargs), flow_id)

    def start_json(self, flow: str, args: bytes = b"{}", *, flow_id: str | None = None) -> FlowHandle[Any]:
        """Start a flow by name, with a JSON object of its parameters; returns and raises like `start`.

        Unknown, missing and repeated fields are refused; each nested type decides on unknown fields itself.

        Raises:
            FlowNotRegistered: no flow of this name is registered here.
            PayloadError: the arguments do not fit the flow; the message has the path.
        """
        start = self._start_json(flow, args, flow_id)
        start.reply.get()
        return FlowHandle(self.client, start.flow_id, start.type, start.end)

    async def start_json_async(
        self, flow: str, args: bytes = b"{}", *, flow_id: str | None = None
    ) -> FlowHandle[Any]:
        """Start a flow by name, and wait until it is durable; raises like `start_json`."""
        start = self._start_json(flow, args, flow_id)
        await start.reply
        return FlowHandle(self.client, start.flow_id, start.type, start.end)

    def start_many(self, flows: Mapping[str, FlowCall[R]] | Iterable[FlowCall[R]], /) -> list[FlowHandle[R]]:
        """Start many flows by one call; they share commits. When this returns, all of them are durable.

        Give a mapping of flow ids to calls, `{"signup-ada": SignupFlow.sign_up("ada")}`, or calls alone: then
        their flows get ids. The handles come in the same order. Where a call cannot be right, because its
        flow is not registered or its id is none, this raises like `start`, and starts nothing.

        Raises:
            PartialFailure: some flows were not started, or could not be confirmed; all others are. Its
                `outcomes` have the handle or the error of each. You can safely repeat it with the same ids.
        """
        return self._start_batch(flows).run(lambda: None)

    async def start_many_async(
        self, flows: Mapping[str, FlowCall[R]] | Iterable[FlowCall[R]], /
    ) -> list[FlowHandle[R]]:
        """Start many flows, and wait until all of them are durable; raises like `start_many`."""
        return await self._start_batch(flows).run_async()

    def _start_batch(self, flows: Mapping[str, FlowCall[R]] | Iterable[FlowCall[R]]) -> Batch[FlowHandle[R]]:
        self.client.check_open()
        if not isinstance(flows, Iterable) or isinstance(flows, (str, bytes)):  # pyright: ignore[reportUnnecessaryIsInstance] - the user's
            raise TypeError(f"{flows!r}: give a list of calls, or a dict of flow ids and calls")
        if isinstance(flows, Mapping):
            by_id = cast("Mapping[str, FlowCall[R]]", flows)
            ids, calls = [checked_id(flow_id, "flow id") for flow_id in by_id], list(by_id.values())
        else:
            calls = list(flows)
            ids = [self.environment.new_id() for _ in calls]
        for call in calls:
            self._admission.check_flow(call)
        handles: dict[int, FlowHandle[R]] = {}

        def send(number: int) -> Reply[None]:
            start = self._start(calls[number], (), {}, ids[number])
            handles[number] = FlowHandle(self.client, start.flow_id, start.type, start.end)
            return start.reply

        return Batch("starts", ids, send, lambda number, _: handles.pop(number))

    def signal_many(self, signals: Iterable[SignalTo], /, *, timeout: float | None = None) -> list[Receipt]:
        """Send many signals by one call; they share commits. When this returns, all of them are durable.

        Signals for the same flow keep their order. The receipts come in the order of the signals. `timeout`
        is in seconds, for all of them.

        Raises:
            PartialFailure: some signals were refused, or could not be confirmed; all others are recorded. Its
                `outcomes` have the receipt of each, or the error that `FlowHandle.signal` raises. You can
                safely repeat the call if each signal has a `signal_id`.
        """
        check_timeout("signal_many", timeout)
        clock = self.environment.clock
        deadline = None if timeout is None else clock.elapsed() + timeout
        return self._signal_batch(signals).run(
            lambda: None if deadline is None else max(0.0, deadline - clock.elapsed())
        )

    async def signal_many_async(self, signals: Iterable[SignalTo], /) -> list[Receipt]:
        """Send many signals, and wait until all of them are durable; raises like `signal_many`."""
        return await self._signal_batch(signals).run_async()

    def _signal_batch(self, signals: Iterable[SignalTo]) -> Batch[Receipt]:
        self.client.check_open()
        given = [_checked_signal(one) for one in signals]

        def send(number: int) -> Reply[Receipt]:
            flow_id, signal, payload, signal_id = given[number]
            args = (payload,) if isinstance(signal, str) else ()
            handle: FlowHandle[Any] = FlowHandle(self.client, flow_id, "")
            return handle._send(signal, args, signal_id)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as it would

        names = [one.flow_id for one in given]
        return Batch("signals", names, send, lambda _, receipt: receipt)

    def _start_json(self, flow: str, args: bytes, flow_id: str | None) -> requests.StartFlow:
        self.client.check_open()
        return self._begin(self._admission.flow_json(flow, args), flow_id)

    def _begin(self, call: FlowCall[Any], flow_id: str | None) -> requests.StartFlow:
        chosen = self.environment.new_id() if flow_id is None else checked_id(flow_id, "flow id")
        start = requests.StartFlow(chosen, call.definition.name, call.data, Reply(), Reply())
        self.client.ask(start)
        return start

    # ----------------------------------------------------------------------------------------- looking
    def flow(self, flow_id: str) -> FlowHandle[Any]:
        """Return the handle of any flow, running, passivated or ended.

        Raises:
            FlowNotFound: there is no such flow.
            TypeError: it is not an id.
        """
        if not isinstance(flow_id, str):  # pyright: ignore[reportUnnecessaryIsInstance] - the user's
            raise TypeError(f"flow({shown(flow_id)}): give the id of a flow, which is text")
        handle: FlowHandle[Any] = FlowHandle(self.client, flow_id, "")
        return FlowHandle(self.client, flow_id, handle.header().type)

    def flows(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        status: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Header]:
        """List flows in the order in which they were started; `after` is the last id of the previous page.

        Raises:
            FlowNotFound: there is no flow `after`.
            ValueError: there is no such status.
        """
        if status is not None and status not in STATUSES:
            raise ValueError(f"flows(status={shown(status)}): give one of {', '.join(map(repr, STATUSES))}")
        self._admission.check_open()
        return flows_of(self.store, type=type, status=status, after=after, limit=limit)

    # ------------------------------------------------------------------------------------------ actors
    def actor(self, kind: type[A], actor_id: str, /) -> Ref[A]:
        """Return a reference to an event-sourced actor. It reads and starts nothing: the first message does.

        Raises:
            ActorDefinitionError: the class is not registered here.
            ValueError: it is not an id.
        """
        definition = definition_of(kind)
        self._actor_types.check(definition)
        return Ref(definition, checked_id(actor_id, "actor id"), self.entities, self.client)

    def projection(self, kind: type[Projection]) -> ProjectionHandle:
        """Return the handle of a projection.

        Raises:
            ProjectionDefinitionError: the class is not registered here.
        """
        definition = projection_of(kind)
        handle = self._projections.get(definition.name)
        if handle is None or not handle.is_of(definition):
            name = kind.__name__
            raise ProjectionDefinitionError(
                f"{name} is not registered: FlowSystem(..., projections=[{name}])"
            )
        return handle

    @property
    def projections(self) -> tuple[ProjectionHandle, ...]:
        """The handles of all projections, in the order in which they were given."""
        return tuple(self._projections.values())

    # --------------------------------------------------------------------------------------- listening
    def on_commit(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after durable commits; call the returned function to stop that.

        The call means that there may be new events: read on from a position with `store.read_all`. The
        callback runs on a thread of its own, once for all commits that came while it ran. Its exceptions
        are logged.
        """
        self._admission.check_open()
        return self._commits.add(callback)

    def statistics(self) -> SystemStatistics:
        """Return counters of the system without reading the store; also works after `close`.

        Raises:
            SystemClosed: the system belongs to the process that this one was forked from.
        """
        self._admission.check_process()
        return SystemStatistics(
            live_flows=self._working.live_actors - self.entities.live,
            live_actors=self.entities.live,
            queued_writes=len(self.journal.actor_inbox),  # pyright: ignore[reportArgumentType] - our own mailbox
            queued_requests=len(self.supervisor.actor_inbox),  # pyright: ignore[reportArgumentType]
            commits=self._commits.count,
            running_steps=len(self._executor.running()),
            leaked_steps=self._executor.leaked,
            queued_steps=self._executor.queued,
            blocked_steps=self._executor.blocked,
            lost_threads=self._lost_threads,
            is_writable=self._is_writable,
        )

    # -------------------------------------------------------------------------------------- the parts
    def _wake(self, flow_id: str) -> None:
        try_tell(self.supervisor, requests.Wake(flow_id))

    def _when_room(self, then: Callable[[], None]) -> None:
        try_tell(self.supervisor, requests.WhenRoom(then))

    def _look_from(self, at: int) -> None:
        try_tell(self._timers, LookFrom(at))

    def _arm(self, flow_id: str, elapsed: float) -> None:
        try_tell(self._timers, Arm(flow_id, elapsed))

    def _on_health(self, state: bool | Exception) -> None:  # noqa: FBT001 - a state, not a switch
        self._is_writable = state is True
        if isinstance(state, Exception):
            self._admission.refusal = state
        try_tell(self.supervisor, requests.StoreHealth(state))
        if state is True:
            try_tell(self._timers, LoadDue())  # nobody was woken for what was written without an answer

    def _on_held(self, actor: Task, held: Held) -> bool:
        """Have a flow seen to that holds a thread; of others nobody else could do the work."""
        return isinstance(actor, FlowActor) and try_tell(
            self.supervisor, requests.Blocked(actor.flow_id, actor.incarnation, actor, held)
        )

    def _present(self) -> Present:
        """Tell what keeps this process from its work, for others to read."""
        blocking: list[Blocking] = []
        for actor, held, since in self._watchdog.blocking():
            stream, what = actor.blamed() if isinstance(actor, FlowActor) else ("", actor.described())
            blocking.append(Blocking(stream, what, f"{held.line} in {held.function}()", since))
        step = self._executor.blocking
        if step is not None:
            place = "" if step.place is None else f"{step.place.line} in {step.place.function}()"
            blocking.append(Blocking(getattr(step.key, "flow_id", ""), step.name, place, step.since))
        return Present(tuple(blocking), self._lost_threads)

    @property
    def _lost_threads(self) -> int:
        return self._executor.lost_threads + self._watchdog.lost

    def _undelivered(self, recipient: str, message: Any) -> None:
        """Take back what an actor was told that had just ended."""
        if isinstance(message, (HandleCall, LookAt)):
            self.entities.undelivered(message)
        elif isinstance(message, StepReport):
            self._wake(message.flow_id)  # the registry has kept it
        elif not (isinstance(message, requests.Wake) or hasattr(message, "reply")):
            return
        elif not try_tell(self.supervisor, message):
            _refuse(recipient, message)

    # ----------------------------------------------------------------------------------------- closing
    def close(self, timeout: float = 10.0) -> None:
        """Stop cleanly, within about `timeout` seconds. From any thread; idempotent.

        The system accepts no more work, waits for running steps and records their results. Steps that do
        not end in time are recorded as interrupted, and continue at the next start. A second call waits for
        the first; but a signal handler that interrupts the first returns at once. A step, a query or a
        listener only starts the shutdown, which would otherwise wait for it. In a forked child this does
        nothing: the system belongs to the parent.

        Raises:
            NotInFlowError: the caller is a flow's body.
        """
        if not self._admission.is_of_this_process:
            return
        if is_in_flow():
            raise NotInFlowError("a flow's body closed the FlowSystem; do that outside, or in a step")
        self._admission.is_closed = True
        if is_in_step() or any(dispatcher.runs_caller() for dispatcher in self._dispatchers):
            start_thread(lambda: self._close(timeout), "persistasaurus-close", daemon=False)
        else:
            self._close(timeout)

    def _close(self, timeout: float) -> None:
        deadline = self.environment.clock.elapsed() + timeout
        if not self._closing.acquire(timeout=max(0.0, timeout)):
            return
        try:
            # Is it closing, then this is a handler of signals that has interrupted it.
            if not (self._is_closed or self._is_closing):
                try:
                    self._is_closing = True
                    self._end(deadline)
                    # Not before: Ctrl-C may have come in between, and then the next close does the rest.
                    self._is_closed = True
                finally:
                    self._is_closing = False
        finally:
            self._closing.release()

    def _end(self, deadline: float) -> None:
        try:
            self._wait_for(requests.Drain(Reply()), deadline)
            self._attempts.end(self._executor.close(deadline))
            self._finish_actors(deadline)
            self._wait_for(requests.Shutdown(Reply()), deadline)
            self._box.end()
        finally:
            # What comes last is closed first; and all of it is, whatever interrupts once more.
            with ExitStack() as stack:
                if self._owns_environment:
                    stack.callback(self.environment.alarms.close)
                stack.callback(self._box.close)
                stack.callback(self._watchdog.close)
                for dispatcher in self._dispatchers:
                    stack.callback(self._end_actors, dispatcher, deadline)

    def _end_actors(self, dispatcher: Scheduler, deadline: float) -> None:
        dispatcher.close(self._left(deadline))

    def _wait_for(self, request: requests.Drain | requests.Shutdown, deadline: float) -> None:
        try:
            if try_tell(self.supervisor, request):
                request.reply.get(timeout=self._left(deadline))
        except Timeout:
            logger.warning("The system did not stop cleanly: not all flows answered in time")

    def _finish_actors(self, deadline: float) -> None:
        """Answer all that actors have accepted."""
        try:
            for reply in self.entities.finish():
                reply.get(timeout=self._left(deadline))
        except Timeout:
            logger.warning("The system did not stop cleanly: not all actors answered in time")

    def _left(self, deadline: float) -> float:
        return max(1.0, deadline - self.environment.clock.elapsed())

    async def close_async(self, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - the same as close's
        """Stop cleanly like `close`, without blocking the event loop."""
        if is_in_flow() or is_in_step() or not self._admission.is_of_this_process:
            self.close(timeout)
            return
        done: Reply[None] = Reply()

        def close() -> None:
            try:
                self._admission.is_closed = True
                self._close(timeout)
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


def _refuse_while_imported() -> None:
    """Refuse a system that a script opens when another process imports it, to run what is isolated.

    That script lacks its guard: its flows would run once more there, with all of their effects.

    Raises:
        RuntimeError: saying what to write.
    """
    if _IMPORTED_SCRIPT not in sys.modules:
        return
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - nothing else says who asks
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == _IMPORTED_SCRIPT:
            raise RuntimeError(
                f"{frame.f_code.co_filename}:{frame.f_lineno} opens a FlowSystem whenever the script is"
                " imported, as a process of isolated steps has to: put what the script does under"
                ' `if __name__ == "__main__":`'
            )
        frame = frame.f_back


def _actor_types(actors: Any) -> ActorTypes:
    """Return the given classes of actors.

    Raises:
        ActorDefinitionError: it is not a list of them, or one of them cannot work.
    """
    if isinstance(actors, (str, bytes)) or not isinstance(actors, Iterable):
        named = getattr(actors, "__name__", repr(actors))
        raise ActorDefinitionError(f"actors={named} is not a list of classes: write actors=[{named}]")
    return ActorTypes(map(definition_of, cast("Iterable[Any]", actors)))


def _projections(projections: Any) -> list[ProjectionDefinition]:
    """Return the definitions of the given projections.

    Raises:
        ProjectionDefinitionError: it is not a list of them, or two have one name or one file.
    """
    if isinstance(projections, (str, bytes)) or not isinstance(projections, Iterable):
        named = getattr(projections, "__name__", repr(projections))
        raise ProjectionDefinitionError(
            f"projections={named} is not a list of classes: write projections=[{named}]"
        )
    known: dict[str, ProjectionDefinition] = {}
    for definition in map(projection_of, cast("Iterable[Any]", projections)):
        for key in (definition.name, definition.file):
            other = known.setdefault(key, definition) if key is not None else definition
            if other is not definition:
                raise ProjectionDefinitionError(
                    f"two projections have {key!r}: {other.kind.__name__} at {other.location}, and"
                    f" {definition.kind.__name__} at {definition.location}; rename one of them"
                )
    return list(dict.fromkeys(known.values()))


def _checked_signal(given: Any) -> SignalTo:
    """Refuse what cannot be a signal for a flow, before anything is sent.

    Raises:
        TypeError, ValueError: saying what to give.
    """
    if not isinstance(given, SignalTo):
        raise TypeError(f"{given!r}: give SignalTo(flow_id, SignupFlow.confirm(...), signal_id=...)")
    if not isinstance(given.signal, (str, SignalCall)):  # pyright: ignore[reportUnnecessaryIsInstance] - the user's
        raise TypeError(f"{given.signal!r} is not a signal: give SignupFlow.confirm(...), or a name")
    if given.payload is not None and not isinstance(given.signal, str):
        raise TypeError(f"{given!r}: the signal has its payload, so give no other")
    checked_id(given.flow_id, "flow id")
    if given.signal_id is not None:
        checked_id(given.signal_id, "signal id")
    return given


def _check_path(path: Any) -> None:
    """Refuse what no store can be opened at.

    Raises:
        TypeError, ValueError: saying what to give.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(
            f"FlowSystem({path!r}): give the path of the store's file first, and flows=[...] by name"
        )
    if not os.fspath(cast("os.PathLike[str] | str", path)):
        raise ValueError("FlowSystem(''): give the path of the store's file, or ':memory:'")


def _refuse(_: str, message: Any) -> None:
    """Answer what came too late: its recipient is closed."""
    closed = SystemClosed(CLOSED)
    if isinstance(message, Entry):
        message.done(closed)
    elif hasattr(message, "reply"):
        message.reply.fail(closed)
