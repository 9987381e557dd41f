"""Reads requests strictly: anything doubtful is refused, never guessed."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_type_hints
from urllib.parse import parse_qsl

import msgspec

from ....actors import FlowHandle
from ....flows.errors import FlowNotFound, PayloadError, SignalRejected
from ....flows.values.depth import DEPTH_MAX, depth
from ....flows.values.duplicates import refuse_duplicates
from ..middleware.mounting import segment
from ..middleware.problem import FieldError, ProblemError
from ..middleware.request_context import access_of, context_of
from .models import RequestModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

    from litestar import Request

    from ....actors import FlowSystem

A = TypeVar("A")
T = TypeVar("T", bound=RequestModel)

_KEY: Final = re.compile(r'([!#-~]{1,200})|"([!#-~]{1,200})"', re.ASCII)
_ID_LENGTH: Final = 200
_PARAMETERS_MAX: Final = 20


def system_of(request: Request[Any, Any, Any]) -> FlowSystem:
    return request.app.state.system


def handle_of(system: FlowSystem, flow_id: str) -> FlowHandle[Any]:
    """Return a handle without checking that the flow exists: whatever it is used for does."""
    return FlowHandle(system.client, flow_id, "")


def caller_name(request: Request[Any, Any, Any]) -> str:
    access = access_of(request.scope)
    return "" if access is None else access.name


async def until_stopping(request: Request[Any, Any, Any], answer: Awaitable[A]) -> A:
    """Wait for something that may take long, but not after the server stops.

    Raises:
        TimeoutError: the server stops.
    """
    context = context_of(request.scope)
    return await (answer if context is None else context.wait(answer))


def flow_id_of(request: Request[Any, Any, Any]) -> str:
    """Return the flow's id in the path. Raises FlowNotFound: no flow can have it."""
    flow_id = segment(request.path_params["flow_id"])
    if len(flow_id) > _ID_LENGTH or not flow_id.isprintable():
        raise FlowNotFound(flow_id[:_ID_LENGTH])
    return flow_id


def name_of(request: Request[Any, Any, Any]) -> str:
    """Return the name of a signal or query in the path.

    Raises:
        ProblemError: no signal or query can have it.
    """
    name = segment(request.path_params["name"])
    if len(name) > _ID_LENGTH or not name.isprintable():
        raise ProblemError(404, "no signal or query can have this name", code="name-not-found")
    return name


# --------------------------------------------------------------------------------------------- bodies
async def read_body(request: Request[Any, Any, Any], shape: type[T], *, optional: bool = False) -> T:
    """Read the body: one JSON object in which each field is known and occurs once.

    Raises:
        ProblemError: it is something else; with the position, or the path.
    """
    data = await request.body()
    if not data and optional:
        return shape()
    _check_media_type(request)
    if len(data) > DEPTH_MAX and depth(data, DEPTH_MAX) > DEPTH_MAX:
        raise ProblemError(400, f"the body is nested more than {DEPTH_MAX} levels deep")
    try:
        value = _decoder(shape).decode(data)
        refuse_duplicates(data, "the body")
    except msgspec.ValidationError as error:
        raise _unfit("the body", _with_choices(shape, _with_known(shape, str(error)))) from None
    except PayloadError as error:
        raise ProblemError(
            400, str(error), errors=[FieldError(path=error.path, reason=error.reason)]
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError(400, f"the body is not JSON: {_position(error, data)}") from None
    return value


@contextmanager
def in_body_field(field: str) -> Generator[None]:
    """Report a payload that does not fit with its path in the whole body.

    Raises:
        PayloadError: it does not fit.
    """
    try:
        yield
    except (PayloadError, SignalRejected) as error:
        unfit = error if isinstance(error, PayloadError) else error.__cause__
        if not isinstance(unfit, PayloadError):
            raise
        path = unfit.path.replace("$", f"$.{field}", 1)
        raise PayloadError(unfit.what, path, unfit.reason) from None


async def refuse_body(request: Request[Any, Any, Any]) -> None:
    """Refuse a body where none is read: its sender expects something of it.

    Raises:
        ProblemError: there is one.
    """
    if await request.body():
        raise ProblemError(400, "this request takes no body")


@lru_cache(maxsize=64)
def _decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def _check_media_type(request: Request[Any, Any, Any]) -> None:
    given = request.headers.getall("content-type", [])
    media_type, _, parameters = (given[0] if len(given) == 1 else "").partition(";")
    is_utf8 = parameters.strip().lower() in ("", "charset=utf-8", 'charset="utf-8"')
    if media_type.strip().lower() != "application/json" or not is_utf8:
        raise ProblemError(
            415,
            "send JSON, with the header Content-Type: application/json",
            headers={"Accept": "application/json"},
        )


def _position(error: Exception, data: bytes) -> str:
    """Return what is wrong with JSON, and at which byte."""
    if isinstance(error, UnicodeDecodeError):
        return f"invalid UTF-8 (byte {error.start})"
    message = str(error).removeprefix("JSON is malformed: ")
    if "(byte " in message:
        return message
    return f"{message} (byte {len(data)})"


def _with_known(shape: type[Any], message: str) -> str:
    """Add the known fields to a message about an unknown one."""
    fields = ", ".join(field.encode_name for field in msgspec.structs.fields(shape))
    return (
        message.replace("unknown field", f"an unknown field (known are {fields}):", 1) if fields else message
    )


def _with_choices(shape: type[Any], message: str) -> str:
    """Add the possible values to a message about a value that is none of them."""
    reason, at, path = message.partition(" - at `$.")
    if not reason.startswith("Invalid enum value"):
        return message
    hints = get_type_hints(shape)
    field = next((f.name for f in msgspec.structs.fields(shape) if f.encode_name == path.rstrip("`")), "")
    choices = [text for part in (hints.get(field), *get_args(hints.get(field))) for text in get_args(part)]
    known = ", ".join(text for text in choices if isinstance(text, str))
    return f"{reason} (give one of {known}){at}{path}" if known else message


def _unfit(what: str, message: str) -> ProblemError:
    reason, _, path = message.partition(" - at `")
    path = path.rstrip("`") or "$"
    field = FieldError(path=path, reason=reason)
    return ProblemError(400, f"{what} does not match the description: {reason}, at {path}", errors=[field])


# --------------------------------------------------------------------------------------------- queries
def read_query(request: Request[Any, Any, Any], shape: type[T]) -> T:
    """Read the query string: each parameter is known and occurs once.

    Raises:
        ProblemError: it is something else.
    """
    text: bytes = request.scope["query_string"]
    if not text:
        return shape()
    values = _parameters(text)
    try:
        return msgspec.convert(values, shape, strict=False)
    except msgspec.ValidationError as error:
        refused = _unfit("the query string", _with_choices(shape, str(error)))
    raise refused


def _parameters(text: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX
        )
    except ValueError:
        raise ProblemError(400, "the query string cannot be read: it is not UTF-8, or too long") from None
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1)
        raise ProblemError(400, f"the parameter {twice!r} occurs twice")
    return values


# ------------------------------------------------------------------------------------------------ keys
def idempotency_key(request: Request[Any, Any, Any]) -> str | None:
    """Return the `Idempotency-Key`, with or without its quotes.

    Raises:
        ProblemError: it is not a valid key.
    """
    given = request.headers.getall("idempotency-key", [])
    if not given:
        return None
    match = _KEY.fullmatch(given[0]) if len(given) == 1 else None
    if match is None:
        raise ProblemError(400, "Idempotency-Key must occur once, with 1 to 200 visible ASCII characters")
    return match[1] or match[2]


def derived_id(request: Request[Any, Any, Any], given: str | msgspec.UnsetType = msgspec.UNSET) -> str | None:
    """Return the given id, or one derived from the caller and the key; None: neither is given.

    Equal keys of two callers give different ids. Raises ProblemError: the key is not valid.
    """
    key = idempotency_key(request)
    if given is not msgspec.UNSET:
        return given
    if key is None:
        return None
    return "key-" + hashlib.sha256(f"{caller_name(request)}\n{key}".encode()).hexdigest()[:32]
