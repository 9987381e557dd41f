"""A flow goes to rest while somebody rings for it. It shall not sleep through that.

The store's regular look for what is due would find it later; here it must not be needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model.explorer import Guard
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.flows.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = 3


class State(NamedTuple):
    delivered: int = 0
    seen: int = 0
    bells: int = 0
    """Rings on their way to the supervisor."""
    phase: str = "none"
    is_held: bool = False
    """The supervisor keeps a ring for the flow."""
    is_rung: bool = False
    mailbox: tuple[str, ...] = ()
    """Of the actor: ring, rest."""
    look: str = ""
    """Between two halves of a look: found, or cleared."""
    found: int = 0
    report: str = ""
    """On the way from the actor to the supervisor."""


class Rest:
    guards: ClassVar[dict[str, Guard]] = {
        "wake": Guard("a ring wakes a flow at rest", Supervisor._ring, "self._wake(flow_id)"),
        "hold": Guard("a ring is kept while it goes to rest", Supervisor._ring, "active.is_rung = True"),
        "again": Guard("a kept ring wakes it again", Supervisor._gone, "self._ring(active.flow_id)"),
        "stay": Guard("a flow that was rung for stays", FlowActor._on_rest, "if self._bell.is_rung or"),
        "resume": Guard("who stays hears what was kept", Supervisor._busy, "active.hand_over()"),
        "clear first": Guard(
            "the bell is free again before the look",
            FlowActor._on_ring,
            "self._bell.is_rung = False\n        if self.machine is None",
        ),
    }

    def __init__(self, without: str = "") -> None:
        self._has = dict.fromkeys(self.guards, True)
        if without:
            _ = self.guards[without]
            self._has[without] = False

    def initial(self) -> State:
        return State()

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        if state.delivered < SIGNALS:
            yield "a signal comes", state._replace(delivered=state.delivered + 1, bells=state.bells + 1)
        if state.bells:
            yield "the supervisor hears the bell", self._ring(state._replace(bells=state.bells - 1))
        if state.phase == "live" and not state.is_rung and "rest" not in state.mailbox and not state.report:
            asked = state._replace(phase="resting", mailbox=(*state.mailbox, "rest"))
            yield "it shall go to rest", asked
        if state.report:
            yield f"the supervisor hears: {state.report}", self._heard(state)
        if state.look:
            yield "the second half of its look", self._looked(state)
        elif state.mailbox:
            yield f"the actor takes {state.mailbox[0]}", self._taken(state)

    def _ring(self, state: State) -> State:
        if state.phase == "none":
            if not self._has["wake"]:
                return state
            # Its start is a look of its own.
            return state._replace(phase="live", is_rung=False, mailbox=("start",), look="")
        if state.phase == "live":
            if state.is_rung:
                return state
            return state._replace(is_rung=True, mailbox=(*state.mailbox, "ring"))
        return state._replace(is_held=True) if self._has["hold"] else state

    def _taken(self, state: State) -> State:
        message, *rest = state.mailbox
        state = state._replace(mailbox=tuple(rest))
        if message == "rest":
            stays = state.is_rung and self._has["stay"]
            return state._replace(report="busy" if stays else "left")
        if message == "start" or self._has["clear first"]:
            # An actor that starts has a new bell, which is free.
            return state._replace(is_rung=state.is_rung and message == "start", look="cleared")
        return state._replace(found=state.delivered, look="found")

    def _looked(self, state: State) -> State:
        if state.look == "found":
            return state._replace(seen=state.found, found=0, is_rung=False, look="")
        # It takes one at a time. When there are more, it rings for itself.
        seen = min(state.seen + 1, state.delivered)
        if seen == state.delivered or state.is_rung:
            return state._replace(seen=seen, look="")
        return state._replace(seen=seen, look="", is_rung=True, mailbox=(*state.mailbox, "ring"))

    def _heard(self, state: State) -> State:
        held = state.is_held
        if state.report == "left":
            gone = state._replace(phase="none", report="", is_held=False, is_rung=False, mailbox=())
            return self._ring(gone) if held and self._has["again"] else gone
        live = state._replace(phase="live", report="")
        if not self._has["resume"]:
            return live
        return self._ring(live._replace(is_held=False)) if held else live

    def wrong(self, state: State) -> str | None:
        idle = not (state.bells or state.mailbox or state.look or state.report)
        if idle and state.phase in ("live", "none") and state.seen < state.delivered:
            return "a signal waits, and nobody is going to look"
        return None

    def is_done(self, state: State) -> bool:
        return state.seen == SIGNALS
