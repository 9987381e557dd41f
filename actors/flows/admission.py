"""Admission: what comes from outside is checked here, before anything is written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from ...flows import FlowCall, FlowDefinition, Registry, SignalCall, SignalType, events
from ...flows.authoring.flow import not_a_flow
from ...flows.authoring.query import JsonQuery
from ...flows.authoring.request import is_in_flow
from ...flows.errors import (
    FlowDefinitionError,
    FlowEnded,
    FlowNotFound,
    FlowNotRegistered,
    NotInFlowError,
    Overloaded,
    PayloadError,
    QueryNotFound,
    SignalNotFound,
    SignalRejected,
    StoreUnavailable,
    SystemClosed,
)
from ...flows.values.codec import Codec, check, in_one_order
from ...flows.values.duplicates import refuse_duplicates
from ...flows.values.location import defined_at
from ...flows.values.text import shown
from ...store import InboxFull, RecordTooLarge, SignalConflict, StoreError, StreamEnded, StreamNotFound
from ..persistence.persistent_actor import ACTOR_STATUS

if TYPE_CHECKING:
    from ...flows import Limits
    from ...flows.authoring.step import Step
    from ...store import Deliver, EventStore
    from .awaited import Awaited

__all__ = ["Admission", "checked_id", "outside_error", "rejected"]

_ID_LENGTH = 200
_QUEUE_LIMIT = 100_000
_KNOWN_TYPES = 10_000
_AWAITED = events.kind(events.SignalAwaited(""))


def checked_id(given: str, what: str) -> str:
    """Return an id that can be stored and shown in one line.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(given, str) or not given or not given.isprintable() or len(given) > _ID_LENGTH:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{shown(given)} is not a valid {what}: 1 to {_ID_LENGTH} printable characters")
    return given


def is_text(given: str) -> bool:
    """Tell whether it can be written as UTF-8, as all that is stored; bytes that were none cannot be."""
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


class Admission:
    """Checks flows, signals and ids against what is registered and stored."""

    def __init__(self, registry: Registry, store: EventStore, limits: Limits) -> None:
        self.registry = registry
        self._store = store
        self._limits = limits.payload
        self._types: dict[str, str] = {}
        self._any = Codec(Any, "the signal's payload")
        self._pid = os.getpid()
        self.is_closed = False
        self.refusal: Exception | None = None
        """Why nothing is taken any more, when another process owns the store now."""

    @property
    def is_of_this_process(self) -> bool:
        """Whether the system was made in this process, and not in the one that it was forked from."""
        return os.getpid() == self._pid

    def check_process(self) -> None:
        """Refuse a forked child: whatever it waited for, nobody would come.

        Raises:
            SystemClosed: the system belongs to the process that this one was forked from.
        """
        if not self.is_of_this_process:
            raise SystemClosed(
                "this process was forked from the one that the system lives in; open its own here"
            )

    def check_open(self, queued: int = 0) -> None:
        """Refuse a request that comes at a wrong time, or from a wrong place.

        Raises:
            SystemClosed: the system is closed, or belongs to the process that this one was forked from.
            NotInFlowError: the caller is a flow's body, which must not wait for anything but its history.
            Overloaded: too much is queued.
            StoreUnavailable: another process owns the store now.
        """
        if self.is_closed:
            raise SystemClosed("the system is closed")
        self.check_process()
        if self.refusal is not None:
            raise self.refusal
        if is_in_flow():
            raise NotInFlowError(
                "a flow's body used the FlowSystem; do that in a step, so that it is recorded"
            )
        if queued > _QUEUE_LIMIT:
            raise Overloaded(f"{queued:,} writes are queued; nothing was written, try again in a moment")

    def flow_call(
        self, flow: FlowDefinition[..., Any] | FlowCall[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> FlowCall[Any]:
        """Bind and check the arguments of a new flow.

        Raises:
            FlowDefinitionError: it is no flow, or not registered.
            TypeError: the arguments do not fit.
            PayloadError: one of them cannot be stored.
        """
        definition = self.check_flow(flow)
        call = flow if isinstance(flow, FlowCall) else definition(*args, **kwargs)
        check(call.data, f"flow {definition.name!r}", self._limits)
        return call

    def check_flow(self, flow: FlowDefinition[..., Any] | FlowCall[Any]) -> FlowDefinition[..., Any]:
        """Return the definition of a flow that is registered.

        Raises:
            FlowDefinitionError: it is no flow, or not registered.
        """
        definition = flow.definition if isinstance(flow, FlowCall) else flow
        if not isinstance(definition, FlowDefinition):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise FlowDefinitionError(f"{flow!r} is not a flow: {not_a_flow(flow)}")
        if definition not in self.registry:
            raise FlowDefinitionError(self._unknown(definition))
        return definition

    def _unknown(self, definition: FlowDefinition[..., Any]) -> str:
        """Say why a flow is not one of this system's, though it may look as if it were."""
        known = self.registry.find(definition.name)
        if known is None:
            return f"{definition!r} is not registered: FlowSystem(..., flows=[...]) takes its class"
        return (
            f"{definition!r} at {defined_at(definition.function)} is not the one that this system was opened"
            " with, which was defined at"
            f" {defined_at(known.function)}. If it was defined anew since (a notebook's cell was run again, a"
            " module reloaded), close the system, and open it with the new class"
        )

    def signal_call(
        self, flow_id: str, signal: SignalType[..., Any] | SignalCall[Any] | str, args: tuple[Any, ...]
    ) -> SignalCall[Any]:
        """Bind and check a signal for a flow.

        Raises:
            FlowNotFound: there is no such flow.
            SignalRejected: the payload does not fit what the flow declares.
            TypeError: it is no signal, or is given more or less than it takes.
        """
        if not isinstance(signal, (str, SignalType, SignalCall)):  # pyright: ignore[reportUnnecessaryIsInstance] - the user's
            raise TypeError(
                f"{signal!r} is not a signal: give one as its class has it, handle.signal(SignupFlow.confirm,"
                " ...), or its name"
            )
        declared = self._declared(flow_id, signal if isinstance(signal, str) else signal.name)
        try:
            if isinstance(signal, str):
                return self._named(signal, declared, args)
            call = signal if isinstance(signal, SignalCall) else signal(*args)
            check(call.data, f"signal {call.name!r}", self._limits)
            if declared is not None and not (isinstance(signal, SignalType) and signal.step is declared):
                declared.parameters.codec.decode(call.data)
        except PayloadError as error:
            raise rejected(error) from error
        return call

    def _named(self, name: str, declared: Step[..., Any] | None, args: tuple[Any, ...]) -> SignalCall[Any]:
        checked_id(name, "name of a signal")
        if declared is not None:
            parameters = declared.parameters
            return SignalCall(name, parameters.codec.seal(parameters.bind(args, {}), self._limits)[0])
        if len(args) > 1:
            raise TypeError(
                f"signal {name!r} is sent by its name to wait_for(), which takes one value, and is given"
                f" {len(args)}: put them into a list, a dict or a dataclass"
            )
        payload = in_one_order(args[0]) if args else None
        return SignalCall(name, self._any.encode(payload, self._limits))

    def flow_json(self, name: str, args: bytes) -> FlowCall[Any]:
        """Check the arguments of a new flow that come as a JSON object, by name.

        Raises:
            FlowNotRegistered: no flow of this name is registered.
            PayloadError: they do not fit.
        """
        definition = self._definition(name)
        return FlowCall(definition, definition.parameters.seal_json(args, self._limits)[0])

    def signal_json(self, flow_id: str, name: str, payload: bytes) -> SignalCall[Any]:
        """Check a signal whose payload comes as JSON.

        Raises:
            FlowNotFound: there is no such flow.
            SignalRejected: the payload does not fit what the flow declares.
        """
        declared = self._declared(flow_id, checked_id(name, "name of a signal"))
        try:
            data = self._any_json(payload) if declared is None else self._declared_json(declared, payload)
        except PayloadError as error:
            raise rejected(error) from error
        return SignalCall(name, data)

    def signal_refusal(self, signal: Deliver, awaited: Awaited) -> Exception | None:
        """Return why a flow can never take a signal, or not where it waits now; None: it can, or who knows.

        One that is parked may be waiting for other code, which may take others; and one that was started
        with other code may have waited for it before. The types of a declared signal have been looked at
        before.

        Raises:
            FlowNotFound: there is no such flow.
            StoreUnavailable: it cannot be looked at.
        """
        try:
            return self._signal_refusal(signal.stream, signal.name, signal.data, awaited)
        except StoreError as error:
            raise outside_error(signal.stream, error) from error

    def _signal_refusal(self, flow_id: str, name: str, data: bytes, awaited: Awaited) -> Exception | None:
        definition = self.registry.find(self._type_of(flow_id))
        if definition is None or name in definition.signals:
            return None
        if not (
            definition.takes_signal(name) or self._is_parked(flow_id) or self._has_awaited(flow_id, name)
        ):
            return SignalNotFound(flow_id, name, definition.signal_names)
        codecs = definition.awaited_as(name)
        if codecs is not None:
            reasons = [codec.refusal(data) for codec in codecs]
            if None not in reasons:
                return None if self._is_parked(flow_id) else rejected(reasons[0])
            if not any(reasons):
                return None
        # Only the flow itself can tell, by what it waits for now.
        reason = awaited.refusal(flow_id, name, data)
        return None if reason is None else rejected(reason)

    def _is_parked(self, flow_id: str) -> bool:
        header = self._store.header(flow_id)
        return header is None or header.status == "parked"

    def _has_awaited(self, flow_id: str, name: str) -> bool:
        records = (r for r in self._store.read(flow_id) if r.kind == _AWAITED)
        return any(getattr(events.decode(record.data), "name", None) == name for record in records)

    def is_same_signal(self, again: Deliver, name: str, data: bytes) -> bool:
        """Tell whether a signal says the same as an earlier one of other bytes, by the declared types."""
        if again.name != name:
            return False
        try:
            declared = self._declared(again.stream, name)
            codec = self._any if declared is None else declared.parameters.codec
            return codec.are_same(data, again.data)
        except BaseException:  # noqa: BLE001 - in doubt it is another, and nothing has been written
            return False

    def query_json(self, flow_id: str, name: str, args: bytes) -> JsonQuery:
        """Check the arguments of a query that come as a JSON object, by name.

        Raises:
            FlowNotFound: there is no such flow.
            FlowNotRegistered: its type is not registered.
            QueryNotFound: it has no query of this name.
            FlowDefinitionError: the query's parameters cannot be had from JSON.
            PayloadError: they do not fit.
        """
        definition = self._definition(self._type_of(flow_id))
        query = definition.queries.get(name)
        if query is None:
            raise QueryNotFound(definition.name, name, tuple(definition.queries))
        return JsonQuery(query, query.parameters.seal_json(args, self._limits)[1])

    def _definition(self, name: str) -> FlowDefinition[..., Any]:
        definition = self.registry.find(name)
        if definition is None:
            raise FlowNotRegistered(name, tuple(known.name for known in self.registry))
        return definition

    def _any_json(self, payload: bytes) -> bytes:
        check(payload, self._any.what, self._limits)
        value = self._any.decode(payload)
        refuse_duplicates(payload, self._any.what)
        return self._any.encode(value, self._limits)

    def _declared_json(self, declared: Step[..., Any], payload: bytes) -> bytes:
        """Take an object by name, or the bare value of the only parameter."""
        names = declared.parameters.names
        if len(names) == 1 and not payload.lstrip().startswith(b"{"):
            payload = b"{%b:%b}" % (msgspec.json.encode(names[0]), self._any_json(payload))
        return declared.parameters.seal_json(payload, self._limits)[0]

    def _declared(self, flow_id: str, name: str) -> Step[..., Any] | None:
        definition = self.registry.find(self._type_of(flow_id))
        return None if definition is None else definition.signals.get(name)

    def _type_of(self, flow_id: str) -> str:
        known = self._types.get(flow_id)
        return self._look_up_type(flow_id) if known is None else known

    def _look_up_type(self, flow_id: str) -> str:
        try:
            header = self._store.header(checked_id(flow_id, "flow id"))
        except StoreError as error:
            raise outside_error(flow_id, error) from error
        if header is None or header.status == ACTOR_STATUS:
            raise FlowNotFound(flow_id)
        if not header.is_sound:
            return header.type  # until its log says better
        if len(self._types) >= _KNOWN_TYPES:
            self._types.clear()
        self._types[flow_id] = header.type
        return header.type


def rejected(reason: object) -> SignalRejected:
    """Return the error for a signal that was refused before it was written."""
    return SignalRejected(f"{reason}; nothing was written")


def outside_error(flow_id: str, error: Exception) -> Exception:  # noqa: PLR0911 - one line an error
    """Turn an error of the store into what the caller is told."""
    match error:
        case StreamNotFound():
            return FlowNotFound(flow_id)
        case StreamEnded():
            return FlowEnded(flow_id, error.status)
        case SignalConflict():
            return rejected(error)
        case InboxFull():
            return Overloaded(f"{error}; nothing was written, try again later")
        case RecordTooLarge():
            return rejected(error)
        case StoreError() | msgspec.MsgspecError():
            return StoreUnavailable(str(error))
        case _:
            return error
