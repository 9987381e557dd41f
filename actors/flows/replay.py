"""Whether a history fits the code as it is: a replay of it, after which nothing has changed anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...flows import FlowMachine, Limits, events
from ...flows.errors import NondeterminismError
from ...flows.machine.history import Recorded
from ...flows.values.location import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...flows import FlowDefinition
    from ...store import NewRecord, Record

__all__ = ["Compatible", "Diverges", "check_history", "rebuild", "recorded"]

_ADVICE = "\nNothing in the history"
_TODO = (
    "let flows that are under way take the path that they were started on, or let them end under the old"
    " version before this one is shipped"
)


class Compatible(msgspec.Struct, frozen=True, tag="compatible"):
    """The code does what the history says, in all of its `events`."""

    flow_id: str
    events: int


class Diverges(msgspec.Struct, frozen=True, tag="diverges"):
    """The code does something else than the history says at event `version`; 0: no event is to blame.

    `recorded_at` and `attempted_at` are lines of flows, as far as they are known; `message` tells both
    sides whole, and `todo` what can be done.
    """

    flow_id: str
    version: int
    message: str
    recorded_at: str = ""
    attempted_at: str = ""
    todo: str = _TODO


def check_history(
    definition: FlowDefinition[..., Any],
    flow_id: str,
    history: Sequence[Recorded],
    limits: Limits | None = None,
) -> Compatible | Diverges:
    """Replay a flow's history with the code as it is, and tell whether it fits; nothing else happens.

    What the flow's own body does when it runs happens, of course: a body that waits for anything but its
    history is at fault already.
    """
    rebuilt = rebuild(definition, flow_id, history, limits)
    if isinstance(rebuilt, Diverges):
        return rebuilt
    rebuilt.close()
    return Compatible(flow_id, len(history))


def rebuild(
    definition: FlowDefinition[..., Any],
    flow_id: str,
    history: Sequence[Recorded],
    limits: Limits | None = None,
) -> FlowMachine | Diverges:
    """Replay as `check_history` does. What has come of it may be looked at, and is to be closed."""
    machine = FlowMachine(flow_id, definition, limits or Limits())
    try:
        machine.replay(history)
    except NondeterminismError as error:
        machine.close()
        return _diverges(flow_id, history, error)
    except BaseException:
        machine.close()
        raise
    return machine


def _diverges(flow_id: str, history: Sequence[Recorded], error: NondeterminismError) -> Diverges:
    version = error.version or 0
    event = next((r.event for r in history if r.version == version), None)
    place = error.attempted_at
    attempted_at = text_of(place) if place is not None and place.file else ""
    both_sides = str(error).partition(_ADVICE)[0]  # what follows is for a flow that has been parked
    return Diverges(flow_id, version, both_sides, getattr(event, "line", ""), attempted_at)


def recorded(records: Iterable[Record | NewRecord]) -> list[Recorded]:
    """Decode records, in order from the first, into a history.

    Raises:
        msgspec.MsgspecError: one of them is no event that this version knows.
    """
    return [Recorded(version, r.at, events.decode(r.data)) for version, r in enumerate(records, 1)]
