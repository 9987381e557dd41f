"""Answers: what a flow actor does about requests from outside, and what it replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...flows import events
from ...flows.errors import FlowAlreadyExists, FlowEnded, FlowParked, PersistasaurusError, StoreUnavailable
from ...flows.machine import messages
from ...flows.values.value_diff import differing_fields
from ..persistence.event_sourced import ACTOR_STATUS
from ..runtime.actor import EscapedError
from . import requests
from .parking import HARMFUL, UNREPLAYABLE, last_word

if TYPE_CHECKING:
    from .flow_actor import FlowActor

__all__ = ["Answers", "check_control", "nothing_to_retry", "unconfirmed"]

_REPAIRED = events.kind(events.Repaired())


class Answers:
    """Answers requests for one flow. What the request itself is to blame for goes to whoever asked."""

    __slots__ = ("_actor",)

    def __init__(self, actor: FlowActor) -> None:
        self._actor = actor

    def answer(self, request: requests.Request) -> None:
        """Answer, now or when it is durable. Any other error is the actor's, and ends it."""
        try:
            self._dispatch(request)
        except UNREPLAYABLE as error:
            known = isinstance(error, PersistasaurusError)
            self._refuse(request, error if known else StoreUnavailable(f"{error}; nothing was changed"))
        except StoreUnavailable:
            raise
        except PersistasaurusError as error:
            self._refuse(request, error)

    def _refuse(self, request: requests.Request, error: Exception) -> None:
        request.reply.fail(error)
        self._actor.idle_or_not()

    def _dispatch(self, request: requests.Request) -> None:
        match request:
            case requests.Start():
                self._start(request)
            case requests.Ask():
                self._ask(request)
            case requests.Pause():
                self._control(messages.Pause(request.by, request.why), request)
            case requests.Resume():
                self._control(messages.Resume(request.by, request.why), request)
            case requests.Retry():
                self._retry(request)

    def _start(self, request: requests.Start) -> None:
        actor = self._actor
        if actor.version:
            self._compare(request)
            return
        actor.machine = actor.around.recovery.new(request.flow_id, request.type)
        actor.decide(messages.Start(request.args, actor.around.environment.new_seed()), request.reply)

    def _compare(self, request: requests.Start) -> None:
        """Answer a start of a flow that exists: the same again is fine."""
        actor = self._actor
        if actor.status == ACTOR_STATUS:
            raise FlowAlreadyExists(actor.flow_id, "it is not a flow, but an actor")
        first = events.decode(actor.around.home.store.read(actor.flow_id, limit=1)[0].data)
        if not isinstance(first, events.FlowStarted) or first.flow != request.type:
            other = repr(first.flow) if isinstance(first, events.FlowStarted) else "another"
            raise FlowAlreadyExists(actor.flow_id, f"it is {other}, and not {request.type!r}")
        if not self._are_the_same(bytes(first.args), request):
            differs = differing_fields(bytes(first.args), request.args)
            raise FlowAlreadyExists(actor.flow_id, f"it was started with other arguments: {differs}")
        request.reply.resolve(None)
        actor.idle_or_not()

    def _are_the_same(self, recorded: bytes, request: requests.Start) -> bool:
        """Compare values, if it is known how; bytes otherwise."""
        definition = self._actor.around.recovery.registry.find(request.type)
        if definition is None:
            return recorded == request.args
        try:
            return definition.parameters.codec.are_same(recorded, request.args)
        except BaseException:  # noqa: BLE001 - the user's types may do anything when they are compared
            return False

    def _ask(self, request: requests.Ask) -> None:
        actor = self._actor
        machine = actor.machine or actor.replica
        if machine is None:
            self._must_be_harmless()
            machine = actor.replica = actor.around.recovery.replayed(actor.header)
        try:
            answer = machine.query(request.query, request.args, request.kwargs)
        except Exception as error:  # noqa: BLE001 - the query's own, and the asker's
            request.reply.fail(error)
        except BaseException as error:  # noqa: BLE001 - the asker's, but not to be torn down by
            escaped = EscapedError(f"the query raised {type(error).__name__}: {error}")
            escaped.__cause__ = error
            request.reply.fail(escaped)
        else:
            request.reply.resolve(answer)
        actor.idle_or_not()

    def _must_be_harmless(self) -> None:
        """See to it that to replay the flow does no harm: it does to one that is parked for that.

        Raises:
            FlowParked: it is.
        """
        actor = self._actor
        if actor.status == "parked":
            word = last_word(actor.around.home.store, actor.header)
            if isinstance(word, events.Parked) and word.reason in HARMFUL:
                raise FlowParked(actor.flow_id, word.reason, word.message)

    def _control(self, message: messages.Message, request: requests.Pause | requests.Resume) -> None:
        actor = self._actor
        _ = actor.header
        check_control(actor.flow_id, actor.status)
        actor.decide(message, request.reply)

    def _retry(self, request: requests.Retry) -> None:
        """Run on from the log, with the fatal failure made void."""
        actor = self._actor
        if request.seen is not None and self._was_repaired_since(request.seen):
            request.reply.resolve(None)
            actor.idle_or_not()
            return
        if actor.status not in ("failed", "parked"):
            raise nothing_to_retry(actor.flow_id, actor.status)
        made = actor.around.recovery.repair(actor.header, request.by, request.why, actor.around.moments.now())
        actor.adopt(*made, request.reply)

    def _was_repaired_since(self, version: int) -> bool:
        actor = self._actor
        if version >= actor.version:
            return False
        records = actor.around.home.store.read(actor.flow_id, after=version)
        return any(record.kind == _REPAIRED for record in records)


def check_control(flow_id: str, status: str) -> None:
    """Refuse to pause or resume what cannot be.

    Raises:
        FlowEnded: the flow has ended.
        PersistasaurusError: it is parked.
    """
    if status in ("completed", "failed"):
        raise FlowEnded(flow_id, status)
    if status == "parked":
        raise PersistasaurusError(
            f"flow {flow_id!r} is parked: find out why, then handle.retry(); nothing was changed"
        )


def nothing_to_retry(flow_id: str, status: str) -> PersistasaurusError:
    """Return what somebody is told who wants to retry what has not failed."""
    return PersistasaurusError(f"flow {flow_id!r} is {status}: there is nothing to retry")


def unconfirmed(flow_id: str, why: Any) -> StoreUnavailable:
    """Return what a caller is told whose request may, or may not, have been recorded."""
    if isinstance(why, StoreUnavailable):
        return why
    unavailable = StoreUnavailable(
        f"flow {flow_id!r} could not confirm: {why}. Whether it is recorded is not known; the same request"
        " again, with the same id, is safe"
    )
    if isinstance(why, BaseException):
        unavailable.__cause__ = why
    return unavailable
