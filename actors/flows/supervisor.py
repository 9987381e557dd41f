"""The supervisor: knows every flow at work, and brings to it what is meant for it.

One for one: a flow's crash is its own affair. Passivated flows are not known here; they are woken by
a message for them, by time, or by the boot's look for what is owed. There is at most one live actor
for each flow: the supervisor alone starts them, one after the other.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Any

from ...flows import events
from ...flows.errors import FlowNotFound, PersistasaurusError, StoreUnavailable, SystemClosed
from ...store import StoreError, StreamState
from ..persistence.journal import Mend
from ..runtime.actor import PooledActor, try_tell
from . import requests
from .active_flow import ActiveFlow, ActorPhase, SupervisorRules
from .backlog import Backlog
from .flow_actor import FlowActor
from .harmful import HarmfulFlows
from .loader import Load, Question
from .parking import WHAT_TO_DO, advice, is_flow, known_last_word, may_go_on
from .passivation import IdleFlows
from .refusals import check_control, was_done
from .restarts import Restarts, broken, halted
from .result_waiters import Watchers
from .suspects import SuspectQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from pykka import ActorRef

    from ...store import EventStore, Header, Inspection, LoadedStream
    from ..runtime.environment import Environment
    from ..runtime.futures import Reply
    from ..runtime.scheduler import Scheduler
    from .actor_context import ActorContext
    from .loader import Loader
    from .parking import LastWord

__all__ = ["Supervisor", "SupervisorRules"]

logger = logging.getLogger("persistasaurus")

_PAGE = 100
_HEADERS = 500
_NEWS_S, _SHARE = 0.1, 8
"""So long after a request, only this part of the flows that may recover at a time does. And this part more
new flows than may be at work begin, before those that have waited for longer."""
_WAITING_MAX = 1000
"""More flows that are woken wait in the store, where they are found again."""


class Supervisor(PooledActor):
    """Routes, starts, restarts, passivates and parks flow actors. `ResumeRecoverable` has it begin."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it works with
        self,
        environment: Environment,
        scheduler: Scheduler,
        context: Callable[[Any], ActorContext],
        loader: ActorRef[Loader],
        look_from: Callable[[int], None],
        rules: SupervisorRules,
        *,
        is_held_back: bool = False,
    ) -> None:
        super().__init__()
        self._environment = environment
        self._scheduler = scheduler
        self._rules = rules
        self._context = context(self._hear)
        self._starts = self._context.starts
        self._harmful = HarmfulFlows()
        self._loader = loader
        self._active: dict[str, ActiveFlow] = {}
        self._activating = 0
        self._waiting: deque[str] = deque()
        self._asked: deque[str] = deque()
        """Of these somebody has asked something: they begin before those that wait because of the time."""
        self._asked_at = -math.inf
        self._pages: deque[Callable[[], None]] = deque()
        """Calls for more flows that are due, when there is room."""
        self._backlog = Backlog(self._context.access, environment, self._hear, look_from)
        self._ahead = 0
        """How many new flows have begun before some that have waited for longer."""
        self._is_held_back = is_held_back
        self._suspects: deque[str] = deque()
        self._alone: str | None = None
        """Whose turn it is to begin, while all others are held back."""
        self._idle = IdleFlows(
            environment, rules.idle_s, rules.max_idle, lambda: self._hear(requests.Sweep())
        )
        self._watchers = Watchers(self._ask, self._is_at_work)
        self._suspect_queue = SuspectQueue(environment, self._tell_flow, self._hear)
        self._incarnations = 0
        self._lost: set[str] = set()
        """Of these it was said; once is enough."""
        self._refusal: Exception | None = None
        self._is_draining = False
        self._finishing: Reply[None] | None = None
        self._restarts = Restarts(environment, self._context.access, rules, self._hear)

    def on_stop(self) -> None:
        """Tell those who wait that nobody will tell them."""
        self._watchers.fail(_closing())

    def _hear(self, message: Any) -> None:
        try_tell(self.actor_ref, message)

    def _tell_flow(self, flow_id: str, message: Any) -> bool:
        active = self._active.get(flow_id)
        return active is not None and active.tell(message)

    def on_receive(self, message: Any) -> None:
        """Take one message. Whatever goes wrong with it, all other flows go on."""
        try:
            self._dispatch(message)
        except Exception as error:
            logger.exception("The supervisor could not handle %s", type(message).__name__)
            reply: Reply[Any] | None = getattr(message, "reply", None)
            if reply is not None:
                reply.fail(error)

    def _dispatch(self, message: Any) -> None:  # noqa: C901, PLR0912, PLR0915 - one line a message
        match message:
            case requests.Wake():
                self._wake(message.flow_id)
            case requests.Idle():
                self._idled(message)
            case requests.Loaded():
                self._loaded(message)
            case requests.Recovered():
                self._recovered(message)
            case (
                requests.StartFlow()
                | requests.Ask()
                | requests.PauseFlow()
                | requests.ResumeFlow()
                | requests.RetryFlow()
            ):
                self._forward(message)
            case requests.Ended():
                self._ended(message)
            case requests.StartsSettled():
                for start in self._starts.admitted():
                    self._forward(start, has_waited=True)
            case requests.Watch():
                self._watch(message)
            case requests.Unwatch():
                self._watchers.remove(message.flow_id, message.reply)
            case requests.Passivated() if (active := self._current(message)) is not None:
                self._gone(active)
            case requests.Busy():
                self._busy(message)
            case requests.Answer():
                message.then(message.found)
            case requests.Crashed():
                self._crashed(message)
            case requests.Blocked():
                self._blocked(message)
            case requests.Restart():
                self._restart(message)
            case requests.NotParked():
                self._not_parked(message)
            case requests.RequestSlot():
                self._suspect_queue.ask(message)
            case requests.SlotFreed():
                self._suspect_queue.over(message.flow_id, message.slot)
            case requests.Sweep():
                self._sweep()
            case requests.StoreHealth():
                self._health(message.state)
            case requests.Drain():
                self._drain(message.reply)
            case requests.Shutdown():
                self._finish(message.reply)
            case requests.Begin():
                self._let_begin(message)
            case requests.ResumeRecoverable():
                self._resume_recoverable(message.after)
            case requests.WhenRoom():
                self._pages.append(message.then)
                self._go_on_with_backlog()
            case requests.StartDeferred():
                self._backlog.leave(message.at)
                self._begin_waiting()
            case requests.LookAtHeaders():
                self._look_at_headers(message)
            case requests.Passivated():
                return  # of an earlier incarnation
            case _:
                logger.error("The supervisor does not know %r", message)

    # --------------------------------------------------------------------------------------- routing
    def _wake(self, flow_id: str) -> None:
        active = self._active.get(flow_id)
        if active is None:
            if self._refusal is None:
                self._wake_at_rest(flow_id)
        elif active.phase is ActorPhase.LIVE:
            self._idle.end(flow_id)
            active.wake()
        else:
            active.must_wake = True

    def _wake_at_rest(self, flow_id: str) -> None:
        # The outcome of a step is in memory alone.
        if len(self._waiting) < _WAITING_MAX or self._context.attempts.unrecorded(flow_id):
            self._activate(flow_id)
        else:
            self._backlog.leave()

    def _not_found(self, flow_id: str, error: Exception) -> None:
        what_to_do = advice(error)
        if what_to_do and flow_id in self._lost:
            return
        if what_to_do:
            self._lost.add(flow_id)
        logger.warning("Flow %r could not be looked up, and will be later: %s%s", flow_id, error, what_to_do)

    def _forward(self, request: requests.Request, *, has_waited: bool = False) -> None:
        if self._refusal is not None:
            request.reply.fail(self._refusal)
            return
        self._asked_at = self._environment.clock.elapsed()
        active = self._active.get(request.flow_id)
        is_without_actor = active is None or active.phase is ActorPhase.QUEUED
        if self._is_held_back and is_without_actor and isinstance(request, requests.PauseFlow):
            self._pause_without_actor(request)
            return
        if active is None and isinstance(request, requests.StartFlow) and request.may_be_new:
            if not (self._is_held_back or request.flow_id in self._harmful):
                self._start(request, has_waited=has_waited)
                return
            if len(self._active) - len(self._idle) >= self._rules.max_active:
                self._backlog.put(request)
                return
        self._hand(active or self._activate(request.flow_id, self._asked), request)

    def _hand(self, active: ActiveFlow, request: requests.Request) -> None:
        if isinstance(request, requests.StartFlow):
            if active.is_over:
                request.end.resolve(None)
            else:
                self._watchers.add_start(request)
        self._idle.end(request.flow_id)
        if active.phase in (ActorPhase.LIVE, ActorPhase.ACTIVATING) and active.tell(request):
            return
        if self._is_held_back and isinstance(request, requests.RetryFlow):
            active.held.appendleft(request)  # who asks for a result means that of the retry
        else:
            active.held.append(request)
        if active.is_broken:
            active.refuse(broken(active))
        elif active.phase is ActorPhase.BACKOFF and not self._restarts.is_store_up:
            active.refuse(halted())

    def _watch(self, message: requests.Watch) -> None:
        if self._refusal is not None and not self._is_draining:
            message.reply.fail(self._refusal)
            return
        active = self._active.get(message.flow_id)
        trouble = broken(active) if active is not None and active.is_broken else None
        self._watchers.add(message.flow_id, message.reply, trouble)
        if message.by_step and not self._has_room and self._refusal is None:
            self._prefer(message.flow_id, active)

    def _prefer(self, flow_id: str, active: ActiveFlow | None) -> None:
        """Let a flow begin that a step waits for: else all that are at work could wait for such flows."""
        if active is None:
            self._activate(flow_id, self._asked)
        elif active.phase is ActorPhase.QUEUED:
            self._asked.append(flow_id)
            self._begin_waiting()

    def _is_at_work(self, flow_id: str) -> bool:
        """Tell whether a flow has an actor, or is to get one, that will announce its end."""
        active = self._active.get(flow_id)
        return active is not None and not active.is_over and not active.is_broken

    def _ask(self, question: Callable[[EventStore], Any], then: Callable[[Any], None]) -> None:
        """Have the store asked, and go on with its answer, or with the error."""

        def done(found: Any) -> None:
            self._hear(requests.Answer(then, found))

        try_tell(self._loader, Question(question, done))

    def _resume_recoverable(self, after: str | None) -> None:
        """Start parked flows whose code may be back; page by page, and not too many at once."""

        def ask(store: EventStore) -> list[tuple[str, LastWord | None]]:
            page = store.headers(status="parked", after=after, limit=_PAGE)
            return [(header.stream, known_last_word(store, header)) for header in page]

        if self._refusal is None:
            self._ask(ask, self._resume)

    def _resume(self, parked: list[tuple[str, LastWord | None]] | Exception) -> None:
        if isinstance(parked, Exception):
            logger.warning("Parked flows could not be looked at: %s", parked)
            return
        if self._refusal is not None:
            return
        for flow_id, word in parked:
            self._harmful.look_at(flow_id, word)
            if flow_id not in self._active and may_go_on(word):
                self._activate(flow_id, is_certain=True)
        if len(parked) == _PAGE:
            self._hear(requests.ResumeRecoverable(parked[-1][0]))
        else:
            self._harmful.complete()

    def _look_at_headers(self, message: requests.LookAtHeaders) -> None:
        """Start flows whose header is damaged, page by page; their histories say how they stand."""
        if self._refusal is None:
            self._ask(
                lambda store: store.inspect(after=message.after, limit=_HEADERS),
                lambda found: self._inspected(message, found),
            )

    def _inspected(self, message: requests.LookAtHeaders, found: Inspection | Exception) -> None:
        if isinstance(found, Exception):
            logger.warning("Headers could not be looked at: %s%s", found, advice(found))
            return
        if self._refusal is not None:
            return
        for header in found.damaged:
            if header.is_sound:
                logger.error("Flow %r is damaged: %s. %s", header.stream, header.damage, WHAT_TO_DO)
            if header.stream in self._active:
                self._wake(header.stream)
            else:
                self._activate(header.stream)  # nothing else may find it
        if found.is_index_damaged and not message.is_again:
            try_tell(
                self._context.access.journal, Mend(lambda: self._hear(requests.LookAtHeaders(is_again=True)))
            )
        elif found.after is not None:
            self._hear(message._replace(after=found.after))

    # ------------------------------------------------------------------------------------- beginning
    def _pause_without_actor(self, request: requests.PauseFlow) -> None:
        """Pause a flow before anything has begun, so that its code does not run first."""

        def ask(store: EventStore) -> tuple[Header, bool]:
            header = store.header(request.flow_id)
            if header is None or not is_flow(store, header):
                raise FlowNotFound(request.flow_id)
            is_done = was_done(store, request)
            if not is_done:
                check_control(request.flow_id, header.status)
            return header, is_done

        self._ask(ask, lambda found: self._pause_found(request, found))

    def _pause_found(self, request: requests.PauseFlow, found: tuple[Header, bool] | Exception) -> None:
        if isinstance(found, Exception):
            known = isinstance(found, PersistasaurusError)
            request.reply.fail(found if known else StoreUnavailable(str(found)))
            return
        header, is_done = found
        if is_done or (header.status == "paused" and request.left is None):
            request.reply.resolve(None)
        elif self._has_not_begun(request.flow_id):
            self._restarts.pause(self._active_without_actor(request.flow_id), header, request)
        else:
            self._forward(request)

    def _has_not_begun(self, flow_id: str) -> bool:
        active = self._active.get(flow_id)
        return self._is_held_back and (active is None or active.phase is ActorPhase.QUEUED)

    def _active_without_actor(self, flow_id: str) -> ActiveFlow:
        active = self._active.setdefault(flow_id, ActiveFlow(flow_id))
        self._incarnations += 1
        active.incarnation = self._incarnations
        return active

    def _let_begin(self, message: requests.Begin) -> None:
        """Let flows begin, after those have been looked up that are not to: it is asked after them."""

        def ask(store: EventStore) -> list[tuple[Header, int]]:
            found = [(_header_of_open(store, flow_id), deaths) for flow_id, deaths in message.lethal]
            return [(header, deaths) for header, deaths in found if header is not None]

        def begin(lethal: list[tuple[Header, int]]) -> None:
            for header, deaths in lethal:
                self._restarts.convict(self._active_without_actor(header.stream), header, deaths)
            self._suspects.extend(message.suspects)
            self._next_begins()

        self._ask(ask, begin)

    def _next_begins(self) -> None:
        """Let the next suspect begin, by itself; when all have come through, everybody."""
        while self._suspects:
            flow_id = self._alone = self._suspects.popleft()
            active = self._active.get(flow_id)
            if active is None:
                self._activate(flow_id)
                return
            if active.phase is ActorPhase.QUEUED:
                self._begin(active)
                return
        self._is_held_back = False
        self._begin_waiting()

    # ------------------------------------------------------------------------------------ activation
    def _activate(
        self, flow_id: str, queue: deque[str] | None = None, *, is_certain: bool = False
    ) -> ActiveFlow:
        active = self._active[flow_id] = ActiveFlow(flow_id)
        active.is_certain = is_certain
        self._begin(active, queue)
        return active

    def _start(self, request: requests.StartFlow, *, has_waited: bool) -> None:
        """Start a flow that most probably is new: its actor finds out by the first append."""
        if not has_waited and (self._starts.waiting or not self._starts.has_room()):
            self._starts.wait(request)
            return
        if not self._may_start():
            self._backlog.put(request)
            return
        active = self._active[request.flow_id] = ActiveFlow(request.flow_id)
        self._incarnations += 1
        active.begin(self._incarnations)
        active.phase = ActorPhase.LIVE
        self._starts.begin(active.wake_flag)
        self._launch(active, None)
        self._hand(active, request)

    @property
    def _at_work(self) -> int:
        """How many flows are at work, as far as is known."""
        return len(self._active) - len(self._asked) - len(self._waiting) - len(self._idle)

    @property
    def _has_room(self) -> bool:
        return self._at_work < self._rules.max_active

    def _may_start(self) -> bool:
        """Tell whether a new flow may begin now. Some may before those that have waited for longer."""
        if self._has_room:
            return True
        if self._ahead >= self._rules.max_active // _SHARE:
            return False
        self._ahead += 1
        return True

    @property
    def _max_activations(self) -> int:
        """How many flows may recover at a time: few, while new work comes that would wait for them."""
        most = self._rules.max_activations
        is_asked = self._environment.clock.elapsed() < self._asked_at + _NEWS_S
        return most // _SHARE or most if is_asked else most

    def _begin(self, active: ActiveFlow, queue: deque[str] | None = None) -> None:
        """Have a flow loaded, when fewer than the allowed number are recovering; see `_loaded`."""
        is_held_back = self._is_held_back and active.flow_id != self._alone
        is_crowded = queue is not self._asked and self._at_work > self._rules.max_active
        if is_held_back or is_crowded or self._activating >= self._max_activations:
            active.phase = ActorPhase.QUEUED
            (self._waiting if queue is None else queue).append(active.flow_id)
            return
        self._activating += 1
        self._incarnations += 1
        active.begin(self._incarnations)
        flow_id, incarnation = active.flow_id, active.incarnation

        def done(found: LoadedStream | Exception | None, is_flow: bool) -> None:  # noqa: FBT001 - by position
            self._hear(requests.Loaded(flow_id, incarnation, found, is_flow))

        if not try_tell(self._loader, Load(flow_id, done)):
            self._hear(requests.Crashed(flow_id, incarnation, _closing()))

    def _loaded(self, message: requests.Loaded) -> None:
        """Start the actor of a flow that has been loaded, if it has anything to do."""
        active = self._current(message)
        if active is None or active.phase is not ActorPhase.ACTIVATING or active.ref is not None:
            return
        found = message.found
        if isinstance(found, Exception):
            self._not_loaded(active, found)
            return
        if not message.is_flow:
            active.refuse_until_started(FlowNotFound(active.flow_id))
        if active.held or active.is_certain or (message.is_flow and self._has_work(found)):
            self._launch(active, found)
            active.hand_over()
        else:
            self._watchers.look_again(active.flow_id)
            self._gone(active)

    def _has_work(self, found: LoadedStream | None) -> bool:
        """Tell whether a flow has something to do, as far as its header says."""
        assert found is not None, "a flow exists"
        header = found.header
        # By a damaged header nobody can tell. One that is paused needs nothing but to have recorded what
        # its last steps came to.
        return (
            not header.is_sound
            or header.state is StreamState.OPEN
            or (header.status == "paused" and bool(self._context.attempts.unrecorded(header.stream)))
        )

    def _not_loaded(self, active: ActiveFlow, error: Exception) -> None:
        if active.is_certain:
            self._crashed(requests.Crashed(active.flow_id, active.incarnation, error))
            return
        if not active.held:
            self._not_found(active.flow_id, error)
        active.refuse(StoreUnavailable(str(error)) if isinstance(error, StoreError) else error)
        self._watchers.look_again(active.flow_id)
        self._forget(active)

    def _launch(self, active: ActiveFlow, found: LoadedStream | None) -> None:
        try:
            active.ref = FlowActor.start_on(
                self._scheduler, active.flow_id, active.incarnation, active.wake_flag, self._context, found
            )
        except RuntimeError as error:  # closed, or no thread to be had
            self._hear(requests.Crashed(active.flow_id, active.incarnation, error))

    def _begun(self) -> None:
        """Note that one recovery has ended, well or not; the next may begin."""
        self._activating -= 1
        if self._is_held_back:
            self._next_begins()
        else:
            self._begin_waiting()

    def _begin_waiting(self) -> None:
        """Let flows begin that wait for it, once so many may that the store is asked for a page of them."""
        if self._is_held_back or self._finishing is not None:
            return
        if not self._asked and self._activating > self._max_activations // 2:
            return
        while (
            self._asked or (self._waiting and self._has_room)
        ) and self._activating < self._max_activations:
            queue = self._asked or self._waiting
            active = self._active.get(queue.popleft())
            if active is not None and active.phase is ActorPhase.QUEUED:
                self._begin(active, queue)
                self._ahead = max(0, self._ahead - 1)
        self._go_on_with_backlog()

    def _go_on_with_backlog(self) -> None:
        """Have more flows woken that are due, when few wait: what is due is in the store, not in memory."""
        while self._pages and len(self._waiting) < self._rules.max_activations:
            self._pages.popleft()()
        if len(self._waiting) < self._rules.max_activations:
            self._backlog.look()

    def _recovered(self, message: requests.Recovered) -> None:
        active = self._current(message)
        if active is None or active.phase is not ActorPhase.ACTIVATING:
            return
        active.phase = ActorPhase.LIVE
        active.note_recovery()
        self._begun()
        active.is_over = message.is_over
        if message.is_over:
            self._watchers.look_again(message.flow_id)
        active.hand_over()
        if self._is_draining:
            active.tell(requests.StopExecuting())
        if self._finishing is not None:
            _dismiss(active)

    def _current(self, message: Any) -> ActiveFlow | None:
        """Return the flow that a report is about, unless it is from an earlier incarnation."""
        active = self._active.get(message.flow_id)
        return active if active is not None and active.incarnation == message.incarnation else None

    # ------------------------------------------------------------------------------------ passivation
    def _idled(self, message: requests.Idle) -> None:
        active = self._current(message)
        if active is None or active.phase is not ActorPhase.LIVE or active.wake_flag.is_set:
            return
        longest = self._idle.begin(message.flow_id)
        if longest is not None:
            self._passivate(longest)
        self._begin_waiting()

    def _sweep(self) -> None:
        for flow_id in self._idle.overdue():
            self._passivate(flow_id)

    def _passivate(self, flow_id: str) -> None:
        self._idle.end(flow_id)
        active = self._active.get(flow_id)
        if active is not None and active.phase is ActorPhase.LIVE and active.tell(requests.Passivate()):
            active.phase = ActorPhase.PASSIVATING

    def _busy(self, message: requests.Busy) -> None:
        active = self._current(message)
        if active is not None and active.phase is ActorPhase.PASSIVATING:
            active.phase = ActorPhase.LIVE
            active.hand_over()

    def _gone(self, active: ActiveFlow) -> None:
        """Forget a flow whose actor has ended in good order, or begin anew for what has come meanwhile."""
        self._forget(active)
        for request in active.held:
            self._forward(request)
        if active.must_wake:
            self._wake(active.flow_id)

    def _forget(self, active: ActiveFlow) -> None:
        del self._active[active.flow_id]
        self._settle_start(active)
        self._watchers.release(active.flow_id)
        self._idle.end(active.flow_id)
        self._suspect_queue.over(active.flow_id)
        if active.phase is ActorPhase.ACTIVATING:
            self._begun()
        else:
            self._begin_waiting()
        if self._finishing is not None and not self._active:
            self._finishing.resolve(None)

    def _settle_start(self, active: ActiveFlow) -> None:
        if active.wake_flag.is_starting and self._starts.settle(active.wake_flag):
            self._hear(requests.StartsSettled())

    def _ended(self, message: requests.Ended) -> None:
        active = self._current(message)
        if active is None:
            return
        active.is_over = True
        self._harmful.hear(message.flow_id, message.event)
        self._watchers.tell(message.flow_id, message.event)
        if isinstance(message.event, events.Parked):
            event = message.event
            advice = f". {WHAT_TO_DO}" if event.reason == "unreadable" else ""
            logger.error("Flow %r is parked (%s): %s%s", message.flow_id, event.reason, event.message, advice)
        if message.has_left:
            self._gone(active)

    # ------------------------------------------------------------------------------------- restarting
    def _crashed(self, message: requests.Crashed) -> None:
        active = self._current(message)
        if active is None or active.phase in (ActorPhase.BACKOFF, ActorPhase.PARKING, ActorPhase.BROKEN):
            return
        if self._refusal is not None:
            self._abandon(active, self._refusal)
            return
        self._idle.end(active.flow_id)
        was_activating = active.phase is ActorPhase.ACTIVATING
        active.phase = ActorPhase.BACKOFF
        self._settle_start(active)
        self._suspect_queue.over(active.flow_id)
        self._restarts.after(active, message.error)
        self._look_after_watchers(active)
        if was_activating:
            self._begun()

    def _blocked(self, message: requests.Blocked) -> None:
        """Give up an actor that somebody's code holds. What was meant for it is for the next one."""
        active = self._current(message)
        if active is None or active.phase in (ActorPhase.BACKOFF, ActorPhase.PARKING, ActorPhase.BROKEN):
            return
        self._idle.end(active.flow_id)
        was_activating = active.phase is ActorPhase.ACTIVATING
        active.phase = ActorPhase.PARKING
        self._settle_start(active)
        self._suspect_queue.over(active.flow_id)
        self._harmful.add(message.flow_id)
        message.actor.abandon()
        self._restarts.blocked(active, message)
        if was_activating:
            self._begun()

    def _restart(self, message: requests.Restart) -> None:
        active = self._current(message)
        if active is not None and active.is_broken:
            self._forget(active)
        elif active is not None and active.phase is ActorPhase.BACKOFF and self._refusal is None:
            self._begin_anew(active)

    def _begin_anew(self, active: ActiveFlow) -> None:
        active.must_wake = active.is_certain = True
        self._begin(active)

    def _not_parked(self, message: requests.NotParked) -> None:
        active = self._current(message)
        if active is not None and active.phase is ActorPhase.PARKING:
            self._restarts.not_parked(active, message.error)
            self._look_after_watchers(active)

    def _look_after_watchers(self, active: ActiveFlow) -> None:
        # A broken flow says nothing any more, not even of the end that is on record.
        if active.is_broken:
            self._watchers.look_again(active.flow_id, broken(active))

    def _abandon(self, active: ActiveFlow, why: Exception) -> None:
        """Forget a flow that cannot be worked with; refuse what was meant for it."""
        active.refuse(why)
        self._forget(active)

    def _health(self, state: bool | Exception) -> None:  # noqa: FBT001 - a state, not a switch
        self._restarts.is_store_up = state is True
        if isinstance(state, Exception):
            logger.critical("Nothing runs any longer: %s", state)
            self._refusal = state
            self._starts.refuse(state)
            self._watchers.fail(state)
        for active in [active for active in self._active.values() if active.phase is ActorPhase.BACKOFF]:
            if isinstance(state, Exception):
                self._abandon(active, state)
            elif state:
                self._begin_anew(active)
            else:
                active.refuse(halted())

    # ---------------------------------------------------------------------------------------- closing
    def _drain(self, reply: Reply[None]) -> None:
        self._is_draining = True
        self._refusal = _closing()
        self._starts.refuse(self._refusal)
        for active in self._active.values():
            active.tell(requests.StopExecuting())
            active.refuse(self._refusal)
        reply.resolve(None)

    def _finish(self, reply: Reply[None]) -> None:
        self._finishing = reply
        for active in list(self._active.values()):
            if active.phase in (ActorPhase.QUEUED, ActorPhase.BACKOFF, ActorPhase.PARKING, ActorPhase.BROKEN):
                self._forget(active)
            else:
                _dismiss(active)
        if not self._active:
            reply.resolve(None)


def _header_of_open(store: EventStore, flow_id: str) -> Header | None:
    try:
        header = store.header(flow_id)
    except StoreError:
        return None
    return header if header is not None and header.state is StreamState.OPEN else None


def _dismiss(active: ActiveFlow) -> None:
    active.tell(requests.AbandonSteps())
    active.tell(requests.Stop())


def _closing() -> SystemClosed:
    return SystemClosed("the system is closing; the same request again, after the next start, is safe")
