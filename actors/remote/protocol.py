"""Orders: what other processes leave in the spool for the system that owns the store, and its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from ...flows import errors
from ...flows.errors import PayloadError, PersistasaurusError
from ...flows.values.codec import PayloadLimits, check
from ...flows.values.depth import DEPTH_MAX
from ..flows.client import Receipt

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Answered",
    "Order",
    "PauseOrder",
    "ResumeOrder",
    "RetryOrder",
    "SignalOrder",
    "answered_with",
    "decode_answer",
    "decode_order",
    "encode",
]

# An order wraps a payload, which has been looked at, in one object.
_LIMITS = PayloadLimits(size=2**62, depth=DEPTH_MAX)

encode = msgspec.json.Encoder().encode


class _Order(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    flow_id: str
    by: str


class SignalOrder(_Order, tag="signal", frozen=True):
    """Send a signal. `at`: when it was left, in microseconds since the epoch, UTC."""

    name: str
    signal_id: str
    payload: msgspec.Raw
    at: int


class PauseOrder(_Order, tag="pause", frozen=True):
    """Pause a flow."""

    why: str


class ResumeOrder(_Order, tag="resume", frozen=True):
    """Resume a flow."""

    why: str


class RetryOrder(_Order, tag="retry", frozen=True):
    """Let a flow run on that was seen failed, or parked, at a version of its history."""

    why: str
    version: int


Order: TypeAlias = SignalOrder | PauseOrder | ResumeOrder | RetryOrder


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the system said to an order. `kind`: the public error's name; empty, when it was done.

    A signal that is durable has a `receipt`.
    """

    receipt: Receipt | None = None
    kind: str = ""
    error: str = ""
    status: str = ""

    @property
    def is_done(self) -> bool:
        """Whether what was asked for is durable."""
        return not self.kind

    def result(self, flow_id: str) -> Receipt | None:
        """Return the receipt of a signal, or None for anything else.

        Raises:
            PersistasaurusError: the same that a `FlowHandle` would have raised.
        """
        if not self.kind:
            return self.receipt
        match self.kind:
            case "FlowNotFound":
                raise errors.FlowNotFound(flow_id)
            case "FlowEnded":
                raise errors.FlowEnded(flow_id, self.status)
            case name:
                raise _BY_TEXT.get(name, PersistasaurusError)(self.error)


_BY_TEXT = {
    kind.__name__: kind
    for kind in (
        errors.FlowDefinitionError,
        errors.NondeterminismError,
        errors.Overloaded,
        errors.PersistasaurusError,
        errors.SignalRejected,
    )
}
_KINDS = {"FlowNotFound", "FlowEnded", *_BY_TEXT}

_order_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Order)
_answer_decoder = msgspec.json.Decoder(Answered)


def answered_with(error: Exception) -> Answered:
    """Return the answer that tells an error, by the public class that fits it best."""
    names = (kind.__name__ for kind in type(error).__mro__)
    kind = next((name for name in names if name in _KINDS), PersistasaurusError.__name__)
    return Answered(kind=kind, error=str(error), status=getattr(error, "status", ""))


def decode_order(data: bytes) -> Order:
    """Read an order.

    Raises:
        PayloadError: it is none that this version knows; the message says where, and why.
    """
    check(data, "the request", _LIMITS)
    try:
        return _order_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError("the request", "$", f"{error} (was it left by another version?)") from error


def decode_answer(data: bytes) -> Answered:
    """Read an answer.

    Raises:
        MsgspecError: it is none.
    """
    try:
        check(data, "the answer", _LIMITS)
        return _answer_decoder.decode(data)
    except (PayloadError, UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
