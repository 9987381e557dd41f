"""The errors of the engine, by what the reader does next.

PersistasaurusError
├── FlowDefinitionError     fix the definition, which is refused when it is made or registered
│   └── FlowNotRegistered   this process does not have the flow's code
├── ActorDefinitionError    fix the actor's class, which is refused when it is defined or registered
├── ActorStateError         record an event, and change the state in `apply` only
├── Refused                 the actor has refused the command, on purpose; nothing was recorded
├── MailboxFull             too many messages wait for the actor; send this one again later
├── ActorTypeMismatch       the id belongs to a flow, or to an actor of another class
├── ActorFailed             the actor cannot be recovered from its events; the message says why
├── NotDurableError         await the durable replacement that the message names
├── AlreadyAwaitedError     make a new call for each await, or keep the first one's result
├── NotInFlowError          call steps, and wait, inside a flow only
├── FlowStateError          return the value from the step instead of changing the flow's state
├── PayloadError            the value at `path` cannot be stored; change it or its annotation
├── StepError               raised in the flow: a step has failed for good
├── NondeterminismError     restore the code, or repair the flow; nothing was changed
├── FlowNotFound            no flow has this id
├── QueryNotFound           the flow answers no query of this name
├── FlowAlreadyExists       the id belongs to another flow, or to other arguments
├── FlowEnded               the flow accepts nothing any more
├── WrongStatus             the flow's status does not allow this; nothing was changed
├── FlowFailed              the flow ended with an error; the message has it
├── FlowParked              the flow needs a person; the message says why
├── SignalRejected          the signal's payload is not what the flow declares; nothing was written
│   └── SignalNotFound      the flow never waits for a signal of this name; nothing was written
├── DeadlockError           the wait would never end; the message says what to do instead
├── Overloaded              a queue is full; nothing was written, try again later
├── PartialFailure          some items of a batch failed; `outcomes` has the outcome of each
├── ProjectionDefinitionError  fix the projection's class, which is refused when it is made or registered
├── ProjectionParked        the projection needs a person; the message says why
├── StoreUnavailable        the outcome of a write is unknown: repeat it with the same id
└── SystemClosed            the system is closed, or closing
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from .values.ancestry import is_recorded_as
from .values.text import shown

if TYPE_CHECKING:
    from .events import Failure
    from .values.location import Location


class PersistasaurusError(Exception):
    """Base of everything that the engine raises on purpose.

    `code` identifies the kind of error and stays the same even if its class is renamed: `persistasaurus error
    CODE` and docs/errors.md explain it. It is "other" where the message is all there is to say.
    """

    code: ClassVar[str] = "other"


class FlowDefinitionError(PersistasaurusError, TypeError):
    """A flow, step, signal or query is defined in a way that cannot work."""

    code = "flow-definition-error"


class FlowNotRegistered(FlowDefinitionError):
    """No flow of this name is registered in this system; `known` lists those that are."""

    code = "flow-not-registered"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        names = ", ".join(map(repr, known)) or "none at all"
        super().__init__(f"no flow named {shown(name)} is registered here; there is {names}")
        self.name = name
        self.known = known


class ActorDefinitionError(PersistasaurusError, TypeError):
    """An actor's class is defined in a way that cannot work, or is not registered in this system."""

    code = "actor-definition-error"


class ActorStateError(PersistasaurusError, AttributeError):
    """An actor's state was changed outside of `apply`. Its events would not repeat that at a recovery."""

    code = "actor-state-error"


class Refused(PersistasaurusError):
    """Raise it in a command to refuse that: `raise Refused("the balance is only 20")`.

    It goes to the asker. Nothing is recorded, and the state is as it was before the command, also if it had
    recorded something.
    """

    code = "refused"


class MailboxFull(PersistasaurusError):
    """As many messages wait for the actor as its `mailbox` may hold. This one was not accepted."""

    code = "mailbox-full"


class ActorTypeMismatch(PersistasaurusError, ValueError):
    """The id belongs to a flow, or to an actor of another class; the message names both."""

    code = "actor-type-mismatch"


class ActorFailed(PersistasaurusError):
    """The actor cannot be recovered from its events, or has crashed. What it was asked had no effect."""

    code = "actor-failed"


class NotDurableError(PersistasaurusError):
    """A flow awaited something that would be lost with the process."""

    code = "not-durable-error"


class AlreadyAwaitedError(PersistasaurusError, RuntimeError):
    """A flow awaited the same call, or coroutine, a second time; nothing was done again."""

    code = "already-awaited-error"


class NotInFlowError(PersistasaurusError):
    """A step was called, or something durable awaited, outside a flow."""

    code = "not-in-flow-error"


class FlowStateError(PersistasaurusError, AttributeError):
    """A step or query assigned to the flow's state or changed it in place. A replay would not repeat that."""

    code = "flow-state-error"


class PayloadError(PersistasaurusError, ValueError):
    """A value cannot be stored, or would not come back equal; `path` locates it within `what`."""

    code = "payload-error"

    def __init__(self, what: str, path: str, reason: str) -> None:
        super().__init__(f"{what}: the value at {path} cannot be stored: {reason}")
        self.what = what
        self.path = path
        self.reason = reason


class StepError(PersistasaurusError):
    """A step has failed for good. Raised in the flow, at the await, live and in each replay alike.

    The exception itself is gone: only text is stored. `except ConnectionError` around a step catches nothing;
    write `except StepError as error`, and ask `error.is_a(ConnectionError)`. `type` is the name of the
    exception's class, and `line` the place in the step's code where it was raised.
    """

    code = "step-error"

    def __init__(self, step: int, name: str, failure: Failure) -> None:
        super().__init__(f"step {step} {name!r} failed: {failure.type}: {failure.message}")
        self.step = step
        self.name = name
        self.type = failure.type
        self.message = failure.message
        self.traceback = failure.traceback
        self.line = failure.line
        self._failure = failure

    def is_a(self, kind: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
        """Return whether the step raised an exception of this class or a subclass: `isinstance`, as recorded.

        Classes are compared by module and name; those of the script itself by name alone. A class that was
        moved or renamed since counts as a different one.

        Raises:
            TypeError: it is not an exception class, or a tuple of them.
        """
        return is_recorded_as(self._failure, kind)


class NondeterminismError(PersistasaurusError):
    """The flow's code does something other than its history says.

    `version` is that of the first event that does not fit, and `attempted_at` the place in the source
    (file and line) of what the code did, where they are known.
    """

    code = "nondeterminism-error"

    version: int | None = None
    attempted_at: Location | None = None


class FlowNotFound(PersistasaurusError, LookupError):
    """There is no such flow."""

    code = "flow-not-found"

    def __init__(self, flow_id: str) -> None:
        super().__init__(f"there is no flow {shown(flow_id)}")
        self.flow_id = flow_id


class QueryNotFound(PersistasaurusError, LookupError):
    """The flow has no query of this name; `known` lists those that it has."""

    code = "query-not-found"

    def __init__(self, flow: str, name: str, known: tuple[str, ...]) -> None:
        names = ", ".join(map(repr, known)) or "none at all"
        super().__init__(f"flow {flow!r} has no query {shown(name)}; it answers {names}")
        self.name = name
        self.known = known


class FlowAlreadyExists(PersistasaurusError):
    """A flow with this id exists, of another type or with other arguments."""

    code = "flow-already-exists"

    def __init__(self, flow_id: str, difference: str) -> None:
        super().__init__(f"flow {flow_id!r} already exists: {difference}")
        self.flow_id = flow_id


class FlowEnded(PersistasaurusError):
    """The flow has ended with this `status`, and accepts no more signals or commands."""

    code = "flow-ended"

    def __init__(self, flow_id: str, status: str) -> None:
        super().__init__(f"flow {flow_id!r} has ended ({status})")
        self.flow_id = flow_id
        self.status = status


class WrongStatus(PersistasaurusError):
    """The flow's `status` does not allow this: a pause of a parked flow, a retry of a running one."""

    code = "wrong-status"

    def __init__(self, flow_id: str, status: str, message: str) -> None:
        super().__init__(message)
        self.flow_id = flow_id
        self.status = status


class FlowFailed(PersistasaurusError):
    """The flow has failed: an error left its body. `type`, `message` and `line` are that error's."""

    code = "flow-failed"

    def __init__(self, flow_id: str, failure: Failure) -> None:
        at = f" at {failure.line}" if failure.line else ""
        super().__init__(f"flow {flow_id!r} failed{at}: {failure.type}: {failure.message}{_hint(failure)}")
        self.flow_id = flow_id
        self.type = failure.type
        self.message = failure.message
        self.traceback = failure.traceback
        self.line = failure.line
        self._failure = failure

    def is_a(self, kind: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
        """Return whether the error was of this class or a subclass, like `StepError.is_a`."""
        return is_recorded_as(self._failure, kind)


def _hint(failure: Failure) -> str:
    """Say how a flow catches the failure of a step, whose own exception it does not get."""
    if failure.type != StepError.__name__:
        return ""
    return (
        "\n  A flow catches it with `except StepError as error`, and distinguishes kinds with"
        " `error.is_a(ConnectionError)`; the step's own exception is not raised in the flow."
    )


class FlowParked(PersistasaurusError):
    """The flow is parked and needs a person. `reason` is one of `events.ParkReason`."""

    code = "flow-parked"

    def __init__(self, flow_id: str, reason: str, message: str) -> None:
        super().__init__(f"flow {flow_id!r} is parked ({reason}): {message}")
        self.flow_id = flow_id
        self.reason = reason
        self.message = message


class SignalRejected(PersistasaurusError, ValueError):
    """The signal does not fit the flow, or its id was used with another payload; nothing was written."""

    code = "signal-rejected"


class SignalNotFound(SignalRejected, LookupError):
    """The flow never waits for a signal of this name; `known` lists its signals. Nothing was written."""

    code = "signal-not-found"

    def __init__(self, flow_id: str, name: str, known: tuple[str, ...]) -> None:
        from difflib import get_close_matches  # noqa: PLC0415 - only errors pay for the import

        close = get_close_matches(name, known, 1)
        meant = f"Did you mean {close[0]!r}? " if close else ""
        takes = ", ".join(map(repr, known)) or "none at all"
        never = f"flow {flow_id!r} never waits for a signal {shown(name)}"
        super().__init__(f"{never}. {meant}It takes {takes}; nothing was written")
        self.flow_id = flow_id
        self.name = name
        self.known = known


class Overloaded(PersistasaurusError):
    """A bounded queue is full; nothing was written. You can safely repeat the request later."""

    code = "overloaded"


class PartialFailure(PersistasaurusError):
    """Some items of a batch failed. All others are done; you can safely repeat the batch with the same ids.

    `outcomes` has, in the order of the items, what each would have returned, or its error. `errors` has the
    errors alone, by the number of the item, from 0.
    """

    code = "partial-failure"

    def __init__(self, what: str, first: str, outcomes: tuple[Any, ...]) -> None:
        self.outcomes = outcomes
        self.errors = {n: error for n, error in enumerate(outcomes) if isinstance(error, Exception)}
        number, error = next(iter(self.errors.items()))
        super().__init__(
            f"{len(self.errors):,} of {len(outcomes):,} {what} failed; the first is item {number}, {first!r}:"
            f" {type(error).__name__}: {error}"
        )


class DeadlockError(PersistasaurusError, RuntimeError):
    """Waiting here would never end: what the caller waits for needs the caller."""

    code = "deadlock-error"


class ProjectionDefinitionError(PersistasaurusError, TypeError):
    """A projection is defined in a way that cannot work, or is not registered."""

    code = "projection-definition-error"


class ProjectionParked(PersistasaurusError):
    """A projection has failed too often, and does not follow the store until somebody sees to it."""

    code = "projection-parked"


class StoreUnavailable(PersistasaurusError):
    """The store could not confirm the write. You can safely repeat the request with the same id."""

    code = "store-unavailable"


class SystemClosed(PersistasaurusError):
    """The system is closed, or closing, and accepts no more work."""

    code = "system-closed"


class NotDurableWarning(UserWarning):
    """A flow's body calls something that a replay would repeat or answer differently.

    Silence it with `warnings.filterwarnings("ignore", category=NotDurableWarning)`, with `module=` for some
    modules only.
    """
