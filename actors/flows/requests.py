"""What flow actors, and the supervisor, are asked for: requests in the imperative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...flows import events
    from ...flows.machine.effects import Decision
    from ...store import LoadedStream
    from ..runtime.futures import Reply
    from ..runtime.stacks import Held


class Wake(NamedTuple):
    """Look: a signal has come, or it is time. Carries nothing, so that losing one loses nothing."""

    flow_id: str


class StartFlow(NamedTuple):
    """Start a flow, or find that it exists. Answered with None once it is durable.

    `end` is told how the flow completed, if it does while its actor lives; None: look into the store.
    `may_be_new`: whether to begin as if the flow were new; its first append finds out.
    """

    flow_id: str
    type: str
    args: bytes
    reply: Reply[None]
    end: Reply[events.FlowCompleted | None]
    may_be_new: bool = True


class Ask(NamedTuple):
    """Answer a query from the flow's state."""

    flow_id: str
    query: Any  # a Query, which as an attribute of a class would be taken for a descriptor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    reply: Reply[Any]


class Left(NamedTuple):
    """A request that another process left, under an id, when it had seen the flow at a version."""

    id: str
    seen: int


class PauseFlow(NamedTuple):
    """Start nothing more."""

    flow_id: str
    by: str
    why: str
    reply: Reply[None]
    left: Left | None = None


class ResumeFlow(NamedTuple):
    """Go on."""

    flow_id: str
    by: str
    why: str
    reply: Reply[None]
    left: Left | None = None


class RetryFlow(NamedTuple):
    """Let a failed or parked flow run on.

    `seen`: at which version it was seen so. If it was repaired since, there is nothing to do.
    """

    flow_id: str
    by: str
    why: str
    reply: Reply[None]
    seen: int | None = None


class Watch(NamedTuple):
    """Tell the flow's end, once it has ended; or that it is parked. `by_step`: a step waits for that."""

    flow_id: str
    reply: Reply[events.FlowCompleted]
    by_step: bool = False


class Unwatch(NamedTuple):
    """Forget that somebody wanted to know."""

    flow_id: str
    reply: Reply[Any]


Request: TypeAlias = StartFlow | Ask | PauseFlow | ResumeFlow | RetryFlow


class Passivate(NamedTuple):
    """Stop, if there is nothing to do."""


class Drain(NamedTuple):
    """Begin nothing more; what has ended is still recorded. Answered when everybody has been told."""

    reply: Reply[None]


class StopExecuting(NamedTuple):
    """Let the flow's code stand still; outcomes are still recorded."""


class AbandonSteps(NamedTuple):
    """Record that the steps that still run are not waited for."""


class Stop(NamedTuple):
    """Stop, once what came before is recorded."""


class Shutdown(NamedTuple):
    """Have all flows abandon their steps and stop. Answered when they have."""

    reply: Reply[None]


class Begin(NamedTuple):
    """Let flows begin: those first, and one at a time, during whose code the process has died before.

    `lethal` are those that did that too often, and how often; they are parked.
    """

    suspects: tuple[str, ...] = ()
    lethal: tuple[tuple[str, int], ...] = ()


class ResumeRecoverable(NamedTuple):
    """Find out whether parked flows can go on with the present code, a page after a flow."""

    after: str | None = None


class WhenRoom(NamedTuple):
    """Call back when more flows may be woken that have been due for a while."""

    then: Callable[[], None]


class LookAtHeaders(NamedTuple):
    """Find flows with damaged headers, a page after a place: nothing else would ever read them.

    `is_again`: the indexes have been mended meanwhile.
    """

    after: int = 0
    is_again: bool = False


class SlotGranted(NamedTuple):
    """The suspected step may run."""

    step: int


class Loaded(NamedTuple):
    """What the store has of a flow that is to be at work, or why that cannot be read."""

    flow_id: str
    incarnation: int
    found: LoadedStream | Exception | None
    is_flow: bool


class Answer(NamedTuple):
    """Go on with the answer of the store, or with the error."""

    then: Callable[[Any], None]
    found: Any


# ------------------------------------------------------------------ what flow actors report
class Recovered(NamedTuple):
    """The flow is at work; or has ended or is parked, and only answers requests."""

    flow_id: str
    incarnation: int
    is_over: bool


class StartsSettled(NamedTuple):
    """A start is recorded, or has come to nothing, and others have waited for that."""


class StartDeferred(NamedTuple):
    """A flow was started, and waits in the store for its turn, having been due since an instant."""

    at: int


class Idle(NamedTuple):
    """The flow has nothing to do for now."""

    flow_id: str
    incarnation: int


class Busy(NamedTuple):
    """The flow was to be passivated and has something to do after all."""

    flow_id: str
    incarnation: int


class Passivated(NamedTuple):
    """The flow's actor has stopped, in good order."""

    flow_id: str
    incarnation: int


class Ended(NamedTuple):
    """The flow has ended, or is parked. `has_left`: its actor is gone, and what was sent to it comes back.

    Otherwise it stays until the last of its steps has been heard.
    """

    flow_id: str
    incarnation: int
    event: events.FlowCompleted | events.FlowFailed | events.Parked
    has_left: bool


class Crashed(NamedTuple):
    """The flow's actor is gone, by an error."""

    flow_id: str
    incarnation: int
    error: BaseException


class HeldActor(Protocol):
    """A flow's actor that somebody's code holds, as its supervisor sees it from another thread."""

    @property
    def in_hand(self) -> Any:
        """The message that it handles."""
        ...

    @property
    def is_unconfirmed(self) -> bool:
        """Whether it takes its flow to be new, and the store has not confirmed that."""
        ...

    def abandon(self) -> None:
        """Take nothing more from it: what it still does is discarded."""
        ...

    def undecided(self) -> Decision:
        """Return what it has decided so far, and neither recorded nor done."""
        ...


class Blocked(NamedTuple):
    """The flow's actor is held by somebody's code, and given up."""

    flow_id: str
    incarnation: int
    actor: HeldActor
    held: Held


class NotParked(NamedTuple):
    """That a flow is parked could not be recorded, and why."""

    flow_id: str
    incarnation: int
    error: Exception


class RequestSlot(NamedTuple):
    """A step that may have killed the process asks whether it may run."""

    flow_id: str
    step: int


class SlotFreed(NamedTuple):
    """The suspected step has ended, or has run long enough to be trusted. `slot`: that one only."""

    flow_id: str
    slot: int | None = None


class Restart(NamedTuple):
    """The time that a crashed flow had to wait is over."""

    flow_id: str
    incarnation: int


class Sweep(NamedTuple):
    """See who has been idle for long."""


class StoreHealth(NamedTuple):
    """The store takes writes (again), or does not; or never will, for this reason."""

    state: bool | Exception
