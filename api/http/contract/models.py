"""The bodies of requests and answers, in camelCase JSON.

A request may have the declared fields and no others. An answer is always written from a declared shape, so
nothing is disclosed by accident.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

_INSTANT: Final = "^(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-5][0-9]"
ANYTHING: Final = "^[!-~]{1,200}$"
# "." and "..": clients and proxies would take them out of the path.
_ADDRESSABLE: Final = "^(?!\\.{1,2}$)[!-~]{1,200}$"

NewId: TypeAlias = Annotated[
    str,
    Meta(
        pattern=_ADDRESSABLE,
        max_length=200,
        description="1 to 200 visible ASCII characters. The same id again is the same request.",
        examples=["signup-ada"],
    ),
]
FlowStatus: TypeAlias = Literal["running", "waiting", "paused", "parked", "completed", "failed"]
Instant: TypeAlias = Annotated[
    datetime, Meta(tz=True, extra_json_schema={"pattern": _INSTANT}, examples=["2026-05-17T09:30:00Z"])
]
Arguments: TypeAlias = Annotated[
    Raw,
    Meta(description="The arguments, by the names of the parameters.", extra_json_schema={"type": "object"}),
]


def _nothing() -> Raw:
    # A schema cannot show a default of raw JSON.
    return Raw(b"{}")


class ApiModel(msgspec.Struct, rename="camel", frozen=True, kw_only=True): ...


class RequestModel(ApiModel, frozen=True, forbid_unknown_fields=True): ...


class HealthView(ApiModel, frozen=True):
    """The system runs, and its store takes writes."""

    status: Literal["ok"]


# ------------------------------------------------------------------------------------------ any flow
class NewFlow(RequestModel, frozen=True):
    """A flow to start."""

    type: Annotated[str, Meta(description="The name under which the flow is registered.")]
    args: Arguments = msgspec.field(default_factory=_nothing)
    flow_id: NewId | UnsetType = UNSET


class FlowAccepted(ApiModel, frozen=True):
    """The flow is durable, and will run to its end."""

    flow_id: str
    type: str


class FlowView(ApiModel, frozen=True):
    """The state of a flow as of the last commit. `wakeAt`: when it next does something by itself."""

    flow_id: str
    type: str
    status: FlowStatus
    version: Annotated[int, Meta(description="How many events its history has.")]
    started_at: datetime
    updated_at: datetime
    wake_at: datetime | None


class FlowError(ApiModel, frozen=True):
    """The error that a flow has failed with."""

    type: str
    message: str


class Parking(ApiModel, frozen=True):
    """Why a flow is parked, and what to do."""

    reason: str
    message: str


class FlowDetails(FlowView, frozen=True):
    """A flow, with its result if it has completed, its error if it has failed, or why it is parked.

    `unreadSignals` counts the signals, by name, that it was sent and has not taken, if there are any.
    """

    result: Raw | UnsetType = UNSET
    error: FlowError | UnsetType = UNSET
    parked: Parking | UnsetType = UNSET
    unread_signals: dict[str, int] | UnsetType = UNSET


class FlowOutcome(ApiModel, frozen=True):
    """How a flow has ended, or why it is parked, if it has or is."""

    flow_id: str
    status: FlowStatus
    result: Raw | UnsetType = UNSET
    error: FlowError | UnsetType = UNSET
    parked: Parking | UnsetType = UNSET


NextPage: TypeAlias = Annotated[
    str | None, Meta(description="Where the next page is; null: this was the last one.")
]


class FlowPage(ApiModel, frozen=True):
    """Flows, in the order in which they were started."""

    flows: list[FlowView]
    next: NextPage


class EventView(ApiModel, frozen=True):
    """An event of a flow's history.

    `event` has a `type`, and is as recorded, without stack traces and the seed of random numbers.
    """

    version: int
    at: datetime
    event: Annotated[
        Raw,
        Meta(
            extra_json_schema={
                "type": "object",
                "required": ["type"],
                "properties": {"type": {"type": "string"}},
            }
        ),
    ]


class UnreadableEvent(ApiModel, frozen=True, omit_defaults=True):
    """Takes the place of an event that is damaged in the store, and gives the reason."""

    flow_id: str | None
    version: int | None
    detail: str
    position: int | None = None


class EventPage(ApiModel, frozen=True, omit_defaults=True):
    """Events, oldest first. `unreadable` lists the damaged ones among them."""

    events: list[EventView]
    next: NextPage
    unreadable: list[UnreadableEvent] = []


class FollowedEvent(EventView, frozen=True):
    """An event of any flow, as a follower receives it."""

    position: int
    flow_id: str


class FlowEnd(ApiModel, frozen=True):
    """The last event that a follower of a flow receives: how the flow has ended."""

    flow_id: str
    status: FlowStatus


class NewSignal(RequestModel, frozen=True):
    """A signal. `payload`: the values by the names of the signal's parameters, or what is awaited."""

    payload: Annotated[Raw, Meta(description="Any JSON that fits what the flow declares.")] = msgspec.field(
        default_factory=_nothing
    )
    signal_id: NewId | UnsetType = UNSET


class SignalTaken(ApiModel, frozen=True):
    """The signal is durable. `at` is when it first arrived; `duplicate`: it had arrived before."""

    flow_id: str
    signal_id: str
    at: datetime
    duplicate: bool


class NewQuery(RequestModel, frozen=True):
    """A question to a flow."""

    args: Arguments = msgspec.field(default_factory=_nothing)


class QueryAnswer(ApiModel, frozen=True):
    """A flow's answer to a query."""

    flow_id: str
    query: str
    result: Raw


class Reason(RequestModel, frozen=True):
    """The reason; it is recorded, together with who asked."""

    why: Annotated[str, Meta(max_length=1000, examples=["the bank is back"])] = ""


class FlowStatusView(ApiModel, frozen=True):
    """The flow's status now. What was asked for is durable."""

    flow_id: str
    status: FlowStatus


# ----------------------------------------------------------------------------------- query parameters
_POSITION: Final = 2**53
Position: TypeAlias = Annotated[int, Meta(ge=0, le=_POSITION)]


class FlowFilter(RequestModel, frozen=True):
    type: str | UnsetType = UNSET
    status: FlowStatus | UnsetType = UNSET
    after: Annotated[str, Meta(description="The last flowId of the page before.")] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class EventRange(RequestModel, frozen=True):
    after: Annotated[int, Meta(ge=0, le=_POSITION, description="The last version of the page before.")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class FollowRange(RequestModel, frozen=True):
    """After which event to follow. The header `Last-Event-ID` takes precedence."""

    after: Position | UnsetType = UNSET
    seconds: (
        Annotated[int, Meta(ge=0, le=86_400, description="Ends the stream after a while: to be resumed.")]
        | UnsetType
    ) = UNSET


class WaitQuery(RequestModel, frozen=True):
    """How many seconds to wait for the end of a flow."""

    wait: Annotated[int, Meta(ge=0, le=30)] = 0
