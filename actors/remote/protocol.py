"""Requests of other processes to the system that owns the store, and its responses, as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from ...flows import errors
from ...flows.errors import PayloadError, PersistasaurusError
from ...flows.values.codec import PayloadLimits, check
from ...flows.values.depth import DEPTH_MAX
from ..flows.client import Receipt

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "PauseRequest",
    "RemoteRequest",
    "RemoteResponse",
    "ResumeRequest",
    "RetryRequest",
    "SignalRequest",
    "decode_request",
    "decode_response",
    "encode",
    "request_kind",
    "response_of",
]

# A request wraps a payload, which has been checked, in one object.
_LIMITS = PayloadLimits(size=2**62, depth=DEPTH_MAX)

encode = msgspec.json.Encoder().encode

_Version: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class _Request(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True, omit_defaults=True):
    """A request about one flow. `created_at`: when that flow was started, in microseconds since the epoch.

    A flow of the same id that was started at another time is a different flow, in a store that has replaced
    the one that the request was left for. None: any flow of that id.
    """

    flow_id: str
    by: str
    created_at: int | None = None


class SignalRequest(_Request, tag="signal", frozen=True, kw_only=True):
    """Send a signal. `at`: when it was left, in microseconds since the epoch, UTC."""

    name: str
    signal_id: str
    payload: msgspec.Raw
    at: int


class PauseRequest(_Request, tag="pause", frozen=True, kw_only=True):
    """Pause a flow that was seen at a version of its history. Only what follows can say that it was done."""

    why: str
    version: _Version = 0


class ResumeRequest(_Request, tag="resume", frozen=True, kw_only=True):
    """Resume a flow; `version` is as in `PauseRequest`."""

    why: str
    version: _Version = 0


class RetryRequest(_Request, tag="retry", frozen=True, kw_only=True):
    """Continue a flow that had failed, or was parked, at a version of its history."""

    why: str
    version: _Version


RemoteRequest: TypeAlias = SignalRequest | PauseRequest | ResumeRequest | RetryRequest


class RemoteResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The response to a request. `kind`: the public error's name; empty if it was done.

    A signal that is durable has a `receipt`. `status`, `name` and `known` are what the error has of these.
    """

    receipt: Receipt | None = None
    kind: str = ""
    error: str = ""
    status: str = ""
    name: str = ""
    known: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether what was requested is durable."""
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
            case "SignalNotFound":
                raise errors.SignalNotFound(flow_id, self.name, self.known)
            case "WrongStatus":
                raise errors.WrongStatus(flow_id, self.status, self.error)
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
_KINDS = {"FlowNotFound", "FlowEnded", "SignalNotFound", "WrongStatus", *_BY_TEXT}

_request_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(RemoteRequest)
_response_decoder = msgspec.json.Decoder(RemoteResponse)


def response_of(error: Exception) -> RemoteResponse:
    """Return the response for an error, by the public class that fits it best."""
    names = (kind.__name__ for kind in type(error).__mro__)
    kind = next((name for name in names if name in _KINDS), PersistasaurusError.__name__)
    status = getattr(error, "status", "")
    named = (error.name, error.known) if isinstance(error, errors.SignalNotFound) else ("", ())
    return RemoteResponse(None, kind, str(error), status, *named)


def request_kind(request: RemoteRequest) -> str:
    """Return what is asked for, in a word: signal, pause, resume or retry."""
    return str(request.__struct_config__.tag)


def decode_request(data: bytes) -> RemoteRequest:
    """Read a request.

    Raises:
        PayloadError: this version does not know it; the message says where, and why.
    """
    check(data, "the request", _LIMITS)
    try:
        return _request_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError("the request", "$", f"{error} (was it left by another version?)") from error


def decode_response(data: bytes) -> RemoteResponse:
    """Read a response.

    Raises:
        MsgspecError: it is not one.
    """
    try:
        check(data, "the response", _LIMITS)
        return _response_decoder.decode(data)
    except (PayloadError, UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
