"""What goes over the wire: the bodies of requests and answers, in camelCase JSON.

What is asked may have the fields that are declared here and no others. What is answered is always
written from a declared shape, so that nothing is told by accident.
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


class ApiModel(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Base of everything that goes over the wire."""


class RequestModel(ApiModel, frozen=True, forbid_unknown_fields=True):
    """Base of what is asked."""


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
    """How a flow stands, as of the last commit. `wakeAt`: when it has something to do by itself."""

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
    """A flow, with its result when it has completed, its error when it has failed, and why it is parked.

    `unreadSignals` are those that it was sent and has not taken, if there are any: how many of each name.
    """

    result: Raw | UnsetType = UNSET
    error: FlowError | UnsetType = UNSET
    parked: Parking | UnsetType = UNSET
    unread_signals: dict[str, int] | UnsetType = UNSET


class FlowOutcome(ApiModel, frozen=True):
    """What has become of a flow, if it has ended or is parked."""

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

    `event` has a `type`, and is as it was recorded, stack traces and the seed of random numbers left out.
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
    """What stands in the place of an event that is damaged in the store: which one it is, and the reason."""

    flow_id: str | None
    version: int | None
    detail: str
    position: int | None = None


class EventPage(ApiModel, frozen=True, omit_defaults=True):
    """Events, oldest first. `unreadable`: those between them that are damaged."""

    events: list[EventView]
    next: NextPage
    unreadable: list[UnreadableEvent] = []


class FollowedEvent(EventView, frozen=True):
    """An event of any flow, as it is followed."""

    position: int
    flow_id: str


class FlowEnd(ApiModel, frozen=True):
    """The last thing that is heard of a flow that is followed: how it has ended."""

    flow_id: str
    status: FlowStatus


class NewSignal(RequestModel, frozen=True):
    """A signal. `payload`: the values by the names of the signal's parameters, or what is waited for."""

    payload: Annotated[Raw, Meta(description="Any JSON that fits what the flow declares.")] = msgspec.field(
        default_factory=_nothing
    )
    signal_id: NewId | UnsetType = UNSET


class SignalTaken(ApiModel, frozen=True):
    """The signal is durable. `at` is when it first came; `duplicate`: it had come before."""

    flow_id: str
    signal_id: str
    at: datetime
    duplicate: bool


class NewQuery(RequestModel, frozen=True):
    """A question to a flow."""

    args: Arguments = msgspec.field(default_factory=_nothing)


class QueryAnswer(ApiModel, frozen=True):
    """What a flow has answered."""

    flow_id: str
    query: str
    result: Raw


class Reason(RequestModel, frozen=True):
    """Why; it is recorded, together with who."""

    why: Annotated[str, Meta(max_length=1000, examples=["the bank is back"])] = ""


class FlowStatusView(ApiModel, frozen=True):
    """How the flow stands now. What was asked for is durable."""

    flow_id: str
    status: FlowStatus


# ----------------------------------------------------------------------------------- query parameters
_POSITION: Final = 2**53
Position: TypeAlias = Annotated[int, Meta(ge=0, le=_POSITION)]


class FlowFilter(RequestModel, frozen=True):
    """Which flows."""

    type: str | UnsetType = UNSET
    status: FlowStatus | UnsetType = UNSET
    after: Annotated[str, Meta(description="The last flowId of the page before.")] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class EventRange(RequestModel, frozen=True):
    """Which events."""

    after: Annotated[int, Meta(ge=0, le=_POSITION, description="The last version of the page before.")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class FollowRange(RequestModel, frozen=True):
    """From behind which event to follow; the header `Last-Event-ID` says so, too, and counts for more."""

    after: Position | UnsetType = UNSET
    seconds: (
        Annotated[int, Meta(ge=0, le=86_400, description="Ends the stream after a while: to be resumed.")]
        | UnsetType
    ) = UNSET


class WaitQuery(RequestModel, frozen=True):
    """How many seconds to wait for the end of a flow."""

    wait: Annotated[int, Meta(ge=0, le=30)] = 0
