"""What a flow's code holds while it waits: in the live machine, and in one rebuilt from its log."""

from __future__ import annotations

from reprlib import Repr
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from ...flows.values.location import Location, text_of
from ...flows.values.sameness import Comparison, Pair, attributes, by_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from ...flows import FlowMachine
    from ..system import FlowSystem

__all__ = ["Difference", "first_difference", "live_machine"]

_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 100
_short.maxlevel = 3
_AROUND = 30


class Difference(NamedTuple):
    """The first difference: where it is held, and both values in short."""

    path: str
    live: str
    rebuilt: str


def live_machine(system: FlowSystem, flow_id: str) -> FlowMachine | None:
    """Return the machine of a flow's actor, if it has one now. Called between two turns."""
    active = _actor(system.supervisor)._active.get(flow_id)  # noqa: SLF001 - no actor offers this
    actor = None if active is None or active.ref is None else _actor(active.ref)
    return None if actor is None else actor.machine


def _actor(ref: Any) -> Any:
    return ref.actor_inbox.owner


def first_difference(live: FlowMachine, rebuilt: FlowMachine) -> Difference | None:
    """Compare the flow's attributes, what it has begun, and its local variables.

    Only where both must be at the same place: not when the flow has decided something that is not in the log
    yet, when its code has been replaced, or when it is drained. A paused, parked or ended flow replays to the
    same place.
    """
    here, there = _execution(live), _execution(rebuilt)
    is_settled = live.version == rebuilt.version and live.definition is rebuilt.definition
    if not is_settled or here.draining:
        return None
    comparison = Comparison()
    kept = attributes("self", here.instance, there.instance)
    begun = Pair("what has begun and not ended", _begun(here), _begun(there))
    found = comparison.first_difference([*kept, begun]) or _in_frames(comparison, here, there)
    return None if found is None else Difference(found.path, *_in_short(found.live, found.rebuilt))


def _execution(machine: FlowMachine) -> Any:
    return machine._execution  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as above


def _begun(execution: Any) -> list[str]:
    return [
        operation.describe() for kind in (execution.steps, execution.timers) for operation in kind.values()
    ]


# ----------------------------------------------------------------------------------- local variables
def _in_frames(comparison: Comparison, live: Any, rebuilt: Any) -> Pair | None:
    """Compare branch by branch, and in each from the outside in, as far as the code is the same."""
    for branch, other in zip(live.queue.branches, rebuilt.queue.branches, strict=False):
        for frame, its_other in zip(_frames(branch), _frames(other), strict=False):
            if frame.f_code is not its_other.f_code:
                break
            found = _in_frame(comparison, frame, its_other)
            if found is not None:
                return found
    return None


def _in_frame(comparison: Comparison, live: FrameType, rebuilt: FrameType) -> Pair | None:
    name, place = live.f_code.co_qualname, _place(live)
    if place != _place(rebuilt):
        return Pair(f"where `{name}` waits", place, _place(rebuilt))
    found = comparison.first_difference(by_name(_variables(live), _variables(rebuilt)))
    return None if found is None else found._replace(path=f"local `{found.path}` in `{name}` at {place}")


def _frames(branch: Any) -> Iterator[FrameType]:
    coroutine = branch._coroutine  # noqa: SLF001 - as above
    while type(coroutine) is CoroutineType and (frame := coroutine.cr_frame) is not None:
        yield frame
        coroutine = coroutine.cr_await


def _place(frame: FrameType) -> str:
    return text_of(Location(frame.f_code.co_filename, frame.f_lineno))


def _variables(frame: FrameType) -> dict[str, Any]:
    found = frame.f_locals
    variables = dict(found)
    if type(found) is dict:
        found.clear()  # before 3.13 it would keep alive whatever the flow drops from here on
    return variables


# ------------------------------------------------------------------------------------------ in words
def _in_short(live: Any, rebuilt: Any) -> tuple[str, str]:
    if isinstance(live, str) and isinstance(rebuilt, str):
        differ = [n for n, (a, b) in enumerate(zip(live, rebuilt, strict=False)) if a != b]
        begin = max(0, min([*differ, len(live), len(rebuilt)]) - _AROUND)
        return _cut(live, begin), _cut(rebuilt, begin)
    return _short.repr(live), _short.repr(rebuilt)


def _cut(text: str, begin: int) -> str:
    """Show a text from where the other one begins to differ."""
    end = begin + 3 * _AROUND
    return f"{'...' if begin else ''}{text[begin:end]!r}{'...' if end < len(text) else ''}"
