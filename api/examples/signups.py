"""The routes of sign-ups. They keep nothing in memory: every answer comes from the store."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import msgspec
from litestar import Request, Response, get, post
from litestar.concurrency import sync_to_thread

from ...actors.flows.admission import outside_error
from ...actors.flows.replay import recorded
from ...actors.handle import from_microseconds
from ...flows.errors import FlowEnded, FlowNotFound, SignalRejected
from ...flows.examples import SignupFlow
from ...flows.summary import summary_of
from ...store import StoreError
from ..http.contract.models import ApiModel, FlowStatus, Instant, RequestModel
from ..http.contract.parsing import derived_id, flow_id_of, handle_of, idempotency_key, read_body, system_of
from ..http.contract.promise import Contract
from ..http.contract.views import json_response
from ..http.middleware.identity import Scope
from ..http.middleware.mounting import link
from ..http.routes.histories import header_of
from ..links.links import link_signal_id

if TYPE_CHECKING:
    from ...actors import FlowSystem
    from ...flows import SignalCall, Step
    from ...flows.summary import FlowSummary
    from ...store import Header

ApiRequest = Request[Any, Any, Any]
_TAG: Final = "examples"
_TYPE: Final = SignupFlow.sign_up.name
_CONFIRM: Final = SignupFlow.confirm_email_address.name
_CREATE: Final = cast("Step[..., int]", SignupFlow.create_user_record).name
_CONTROLS: Final = "\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029"
# Links for people send it under this id, too: the first one counts.
_SIGNAL_ID: Final = link_signal_id(_CONFIRM)


class NewSignup(RequestModel, frozen=True):
    """Who signs up."""

    user_name: Annotated[
        str, msgspec.Meta(pattern=f"^[^{_CONTROLS}]+$", min_length=1, max_length=200, examples=["ada"])
    ]
    email: Annotated[
        str,
        msgspec.Meta(
            pattern=f"^[^{_CONTROLS} @]+@[^{_CONTROLS} @]+$", max_length=254, examples=["ada@example.com"]
        ),
    ]


class SignupAccepted(ApiModel, frozen=True):
    """The sign-up is durable, and in progress."""

    flow_id: str
    message: str
    user_name: str


class SignupView(ApiModel, frozen=True):
    """The state of a sign-up. `userId` is null until the user's record has been created."""

    flow_id: str
    user_name: str
    email: str
    user_id: int | None
    status: FlowStatus


class NewConfirmation(RequestModel, frozen=True):
    """When the address was confirmed; by default, now."""

    confirmed_at: Instant | msgspec.UnsetType = msgspec.UNSET


class Confirmed(ApiModel, frozen=True):
    """The confirmation is durable. `confirmedAt` is the instant of the first one."""

    flow_id: str
    message: str
    confirmed_at: datetime


class _SignupArguments(msgspec.Struct):
    user_name: str
    email: str


class _Confirmation(msgspec.Struct):
    confirmed_at: datetime


_decode_confirmation = msgspec.json.Decoder(_Confirmation).decode


@post(
    "/signups",
    status_code=202,
    opt=Contract(
        scope=Scope.START,
        tag=_TAG,
        body=NewSignup,
        answers={202: SignupAccepted},
        problems=(409,),
        takes_key=True,
        locates=True,
    ).opt,
)
async def sign_up(request: ApiRequest) -> Response[bytes]:
    """Sign a user up.

    Once this is answered, the sign-up is durable; its e-mail follows ten seconds later. With an
    `Idempotency-Key`, repeating the request gives the same answer; 409 if name or address differ.
    """
    new, system = await read_body(request, NewSignup), system_of(request)
    definition = system.client.admission.registry.find(_TYPE) or SignupFlow.sign_up
    handle = await system.start_async(definition(new.user_name, new.email), flow_id=derived_id(request))
    accepted = SignupAccepted(
        flow_id=handle.id,
        user_name=new.user_name,
        message="Sign-up started. Please confirm your e-mail address.",
    )
    return json_response(accepted, 202, {"Location": link(request.scope, "signups", handle.id)})


@get(
    "/signups/{flow_id:str}",
    opt=Contract(scope=Scope.READ, tag=_TAG, answers={200: SignupView}, problems=(404,)).opt,
)
async def show_signup(request: ApiRequest) -> Response[bytes]:
    """Show the state of a sign-up.

    404 if no sign-up has this id.
    """
    return json_response(await sync_to_thread(_shown, system_of(request), flow_id_of(request)))


@post(
    "/signups/{flow_id:str}/confirm",
    status_code=200,
    opt=Contract(
        scope=Scope.SIGNAL,
        tag=_TAG,
        body=NewConfirmation,
        body_optional=True,
        answers={200: Confirmed},
        problems=(404, 409),
        takes_key=True,
    ).opt,
)
async def confirm_signup(request: ApiRequest) -> Response[bytes]:
    """Confirm the e-mail address of a sign-up.

    The first confirmation counts: later ones are answered with its instant, even after the end. So an
    `Idempotency-Key` may be given, and makes no difference. 409 if the sign-up failed unconfirmed.
    """
    asked = await read_body(request, NewConfirmation, optional=True)
    idempotency_key(request)
    system, flow_id = system_of(request), flow_id_of(request)
    at = asked.confirmed_at
    if at is msgspec.UNSET:
        at = from_microseconds(system.environment.clock.now())
    found = await sync_to_thread(_confirmed_or_call, system, flow_id, at)
    at = found if isinstance(found, datetime) else await _confirm(system, flow_id, found)
    return json_response(
        Confirmed(flow_id=flow_id, message="The e-mail address is confirmed.", confirmed_at=at)
    )


def _confirmed_or_call(system: FlowSystem, flow_id: str, at: datetime) -> datetime | SignalCall[Any]:
    """Return the first confirmation's instant, or the signal to send. Reads the store."""
    first = _confirmed_at(system, flow_id)
    return first if first is not None else system.client.admission.signal_call(flow_id, _CONFIRM, (at,))


async def _confirm(system: FlowSystem, flow_id: str, call: SignalCall[Any]) -> datetime:
    try:
        await handle_of(system, flow_id).signal_async(call, signal_id=_SIGNAL_ID)
    except (SignalRejected, FlowEnded):
        # Another confirmation was faster, or it really is refused.
        first = await sync_to_thread(_confirmed_at, system, flow_id)
        if first is None:
            raise
        return first
    return _decode_confirmation(call.data).confirmed_at


def _signup(system: FlowSystem, flow_id: str) -> Header:
    header = header_of(system, flow_id)
    if header.type != _TYPE:
        raise FlowNotFound(flow_id)
    return header


def _shown(system: FlowSystem, flow_id: str) -> SignupView:
    header, summary = _signup(system, flow_id), _summary(system, flow_id)
    arguments = msgspec.json.decode(summary.args, type=_SignupArguments)
    created = next((step for step in summary.steps.values() if step.name == _CREATE), None)
    result = None if created is None else created.result
    return SignupView(
        flow_id=flow_id,
        user_name=arguments.user_name,
        email=arguments.email,
        user_id=None if result is None else msgspec.json.decode(result, type=int),
        status=header.status,  # pyright: ignore[reportArgumentType] - one of them
    )


def _confirmed_at(system: FlowSystem, flow_id: str) -> datetime | None:
    """Return the first confirmation's instant, if one is recorded.

    The inbox is read first, since signals move from there into the history.

    Raises:
        FlowNotFound: it is not a sign-up.
    """
    _signup(system, flow_id)
    try:
        waiting = [entry.data for entry in system.store.inbox(flow_id) if entry.name == _CONFIRM]
    except StoreError as error:
        raise outside_error(flow_id, error) from error
    received = [signal.args for signal in _summary(system, flow_id).signals.get(_CONFIRM, ())]
    first = next(iter([*received, *waiting]), None)
    return None if first is None else _decode_confirmation(first).confirmed_at


def _summary(system: FlowSystem, flow_id: str) -> FlowSummary:
    try:
        return summary_of(recorded(system.store.read(flow_id)))
    except (StoreError, msgspec.MsgspecError) as error:
        raise outside_error(flow_id, error) from error


SIGNUP_ROUTES: Final = [sign_up, show_signup, confirm_signup]
