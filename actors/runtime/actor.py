"""Pooled actors: Pykka's actors, sharing a few threads.

    class Greeter(PooledActor):
        def on_receive(self, message): ...

    ref = Greeter.start_on(dispatcher, "args", of="init")     # the engine's: not in ActorRegistry
    ref = Greeter.start()                                     # Pykka's: registered, default threads

`BatchingActor` gets all that is queued as one `MessageBatch`. A handler answers later by returning
`self.defer()`. All the rest is as in Pykka, whose own receive loop runs here, with these differences:

- A `BaseException` (`SystemExit`, say) that leaves a handler or hook is that actor's failure like
  any exception, wrapped in `EscapedError`; Pykka would stop all actors of the process.
- When `on_start` raises, `on_start_failure` is called; Pykka tells nobody.
- Messages that are left when an actor ends go to the dispatcher's dead letters; Pykka drops them.
- An ask that races with a stop fails; in Pykka it may wait for ever.
- An actor has no thread of its own: no thread-locals, and whoever waits does so in `blocking()`.
"""

from __future__ import annotations

import sys
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pykka import Actor, ActorDeadError, ActorRef
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr

from .dispatcher import Dispatcher
from .futures import Deferred, PooledFuture
from .mailbox import ActorStop, BatchMailbox, Letter, Mailbox, Park
from .primitives import Event, new_id
from .watchdog import watches

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .scheduler import Scheduler

__all__ = ["BatchingActor", "EscapedError", "PooledActor", "PooledRef", "StopFlag", "try_tell"]

# What Pykka's own `_handle_receive` is for; everything else goes to `on_receive` without the detour.
_PYKKA_MESSAGES = frozenset((ProxyCall, ProxyGetAttr, ProxySetAttr, ActorStop))
# Pykka's, under a name that needs no `super()` at every message.
_handle_receive = Actor._handle_receive  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


class EscapedError(Exception):
    """A handler raised something that is no `Exception`; it is the `__cause__`.

    So neither the actor's thread nor whoever asked is torn down by another one's `SystemExit`.
    """


class StopFlag:
    """What actors need of a `threading.Event`, at a twentieth of its size.

    It has no lock that a thread could leave behind taken when Ctrl-C strikes it.
    """

    __slots__ = ("raised",)

    _waiting: ClassVar[dict[StopFlag, list[Event]]] = {}

    def __init__(self) -> None:
        self.raised = False
        """What `is_set` returns, for those who ask at each message."""

    def is_set(self) -> bool:
        """Whether the actor has stopped."""
        return self.raised

    def set(self) -> None:
        """Mark the actor as stopped, for good."""
        self.raised = True
        for event in self._waiting.pop(self, ()):
            event.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the actor has stopped; tell whether it has."""
        event = Event()
        self._waiting.setdefault(self, []).append(event)
        if self.raised:  # perhaps since before the event was there
            self.set()
        return event.wait(timeout) or self.raised


class PooledRef(ActorRef[Any]):
    """Pykka's reference, with a shorter way to the mailbox."""

    def tell(self, message: Any) -> None:
        """Send a message without waiting. Messages of one sender arrive in order.

        Raises:
            ActorDeadError: when the actor has stopped.

        """
        if self.actor_stopped.raised:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - a `StopFlag`
            raise ActorDeadError(f"{self} not found")
        self.actor_inbox.put(Letter(message))  # pyright: ignore[reportArgumentType] - all that Pykka's loop asks for


def try_tell(ref: Any, message: Any) -> bool:
    """Tell an actor that may be dead; say whether it was alive."""
    try:
        ref.tell(message)
    except ActorDeadError:
        return False
    return True


class PooledActor(Actor):
    """An actor that runs on a dispatcher's threads, one message at a time, now on one, now on another."""

    may_block: bool = False
    """What holds an actor's thread for long is reported, and given up."""

    actor_inbox: Mailbox
    _failure: BaseException | None = None
    _deferred: set[Deferred] | None = None

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # Not Pykka's, which takes a UUID and a threading.Event for each actor. A test compares.
        self.actor_urn = _new_urn()
        self.actor_inbox = self._create_actor_inbox()  # pyright: ignore[reportIncompatibleVariableOverride] - for good
        self.actor_stopped = cast("Any", StopFlag())
        self._actor_ref = PooledRef(self)

    @classmethod
    def start_on(cls, scheduler: Scheduler, /, *args: Any, **kwargs: Any) -> ActorRef[Self]:
        """Start an actor on a dispatcher, without entering it in Pykka's registry.

        `__init__` runs in the caller's thread, everything else on the dispatcher. The actor may be
        at work, or dead, before this returns.

        Raises:
            DispatcherClosedError: when the dispatcher was closed.

        """
        actor = cls(*args, **kwargs)
        actor.actor_inbox.attach(actor, scheduler)
        return actor.actor_ref

    def defer(self) -> Deferred:
        """Make a reply that comes later: return it from a handler, and complete it from any thread.

        When this actor ends without having replied, the asker gets `ActorDeadError`. To be called
        by the actor itself.
        """
        deferred = Deferred()
        pending = self._deferred
        if pending is None:
            pending = self._deferred = set()
        pending.add(deferred)
        deferred.on_done(lambda: pending.discard(deferred))
        return deferred

    def on_start_failure(self, error: BaseException) -> None:
        """Learn that `on_start` has raised, after the actor was marked as stopped.

        Runs where `on_start` ran, and is the last that this actor does; what it raises is logged.
        """

    @classmethod
    def _create_actor_inbox(cls) -> Mailbox:  # pyright: ignore[reportIncompatibleMethodOverride] - Pykka calls it on self
        return Mailbox()

    @staticmethod
    def _create_future() -> PooledFuture[Any]:
        return PooledFuture()

    def _start_actor_loop(self) -> None:
        self.actor_inbox.attach(self, _default_dispatcher())

    def described(self) -> str:
        """Say, for messages to people, who this is and what it is at."""
        return f"Actor {type(self).__name__}"

    @watches
    def _run_slice(self) -> None:
        """Go on with Pykka's loop on the calling thread, until it parks or ends."""
        inbox = self.actor_inbox
        if not inbox.enter():
            return
        try:
            if not inbox.is_set_up:
                inbox.is_set_up = True
                self._actor_loop_setup()
            inbox.open_slice()
            self._actor_loop_running()
        except Park:
            inbox.park()
            return
        except BaseException:  # noqa: BLE001 - it is logged
            # From on_failure, which Pykka calls unprotected from these.
            self._handle_failure(*sys.exc_info())
        self._end()

    def _run_failed(self) -> None:
        self.actor_stopped.set()
        self.actor_inbox.close(None)
        self.actor_inbox.detach()

    def _actor_loop_setup(self) -> None:
        """As Pykka's, but somebody learns of the failure."""
        try:
            self.on_start()
        except BaseException as error:  # noqa: BLE001 - it is logged
            self._handle_failure(*sys.exc_info())
            try:
                self.on_start_failure(error)
            except BaseException:  # noqa: BLE001 - it is logged
                self._handle_failure(*sys.exc_info())

    def _handle_receive(self, message: Any) -> Any:
        try:
            if type(message) in _PYKKA_MESSAGES:
                return _handle_receive(self, message)
            return self.on_receive(message)
        except Exception:
            raise
        except BaseException as error:
            # Pykka would stop all actors of the process, the host's included.
            raise EscapedError(f"{self} raised {type(error).__name__}: {error}") from error

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._failure = exception_value
        super()._handle_failure(exception_type, exception_value, traceback)

    def _end(self) -> None:
        """Answer for what is left, and leave the dispatcher."""
        # Kept, the error's traceback would keep this actor, in a circle.
        failure, self._failure = self._failure, None
        inbox = self.actor_inbox
        try:
            inbox.close(failure)
            self._actor_loop_teardown()
            self._fail_deferred(failure)
        finally:
            inbox.detach()

    def _fail_deferred(self, cause: BaseException | None) -> None:
        for deferred in list(self._deferred or ()):
            error = ActorDeadError(f"{self} stopped before it replied")
            error.__cause__ = cause
            deferred.fail(error)


class BatchingActor(PooledActor):
    """An actor whose `on_receive` gets everything that is queued as one `MessageBatch`.

    It completes each envelope's `reply_to` itself, at once or later; what its handler returns is
    ignored. A handler that raises fails the actor, and with it all asks not yet answered.
    """

    max_batch: ClassVar[int] = 512
    """How many envelopes a batch may hold."""

    @classmethod
    def _create_actor_inbox(cls) -> Mailbox:
        return BatchMailbox(cls.max_batch)


_urn_numbers = count()


def _new_urn() -> str:
    return f"{_urn_prefix()}{next(_urn_numbers):012x}"


@cache
def _urn_prefix() -> str:
    """Draw the part of our URNs that tells processes apart; the rest is counted."""
    bits = new_id()
    return f"urn:uuid:{bits[:8]}-{bits[8:12]}-4{bits[12:15]}-8{bits[15:18]}-"


@cache
def _default_dispatcher() -> Dispatcher:
    """Make the threads of actors that are started the way of Pykka."""
    return Dispatcher("persistasaurus-pykka", daemon=False)
