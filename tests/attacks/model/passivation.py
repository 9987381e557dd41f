"""A flow goes to rest while somebody wakes it. It shall not sleep through that.

The store's regular look for what is due would find it later; here it must not be needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model.explorer import Guard, Model
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.flows.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = 3


class State(NamedTuple):
    delivered: int = 0
    seen: int = 0
    wakes: int = 0
    """Wake-ups on their way to the supervisor."""
    phase: str = "none"
    is_held: bool = False
    """The supervisor keeps a wake-up for the flow."""
    is_set: bool = False
    mailbox: tuple[str, ...] = ()
    """Of the actor: wake, rest."""
    look: str = ""
    """Between two halves of a look: found, or cleared."""
    found: int = 0
    report: str = ""
    """On the way from the actor to the supervisor."""


class Passivation(Model):
    guards: ClassVar[dict[str, Guard]] = {
        "wake": Guard("a wake-up starts a flow at rest", Supervisor._wake, "self._wake_at_rest(flow_id)"),
        "hold": Guard("a wake-up is kept while it goes to rest", Supervisor._wake, "active.must_wake = True"),
        "again": Guard("a kept wake-up wakes it again", Supervisor._gone, "self._wake(active.flow_id)"),
        "stay": Guard("a flow that was woken stays", FlowActor._on_passivate, "if self._wake_flag.is_set or"),
        "resume": Guard("who stays hears what was kept", Supervisor._busy, "active.hand_over()"),
        "clear first": Guard(
            "the wake flag is free again before the look",
            FlowActor._on_wake,
            "self._wake_flag.is_set = False\n        if self.machine is None",
        ),
    }

    def initial(self) -> State:
        return State()

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        if state.delivered < SIGNALS:
            yield "a signal comes", state._replace(delivered=state.delivered + 1, wakes=state.wakes + 1)
        if state.wakes:
            yield "the supervisor hears it", self._wake(state._replace(wakes=state.wakes - 1))
        if state.phase == "live" and not state.is_set and "rest" not in state.mailbox and not state.report:
            asked = state._replace(phase="resting", mailbox=(*state.mailbox, "rest"))
            yield "it shall go to rest", asked
        if state.report:
            yield f"the supervisor hears: {state.report}", self._heard(state)
        if state.look:
            yield "the second half of its look", self._looked(state)
        elif state.mailbox:
            yield f"the actor takes {state.mailbox[0]}", self._taken(state)

    def _wake(self, state: State) -> State:
        if state.phase == "none":
            if not self._has["wake"]:
                return state
            # Its start is a look of its own.
            return state._replace(phase="live", is_set=False, mailbox=("start",), look="")
        if state.phase == "live":
            if state.is_set:
                return state
            return state._replace(is_set=True, mailbox=(*state.mailbox, "wake"))
        return state._replace(is_held=True) if self._has["hold"] else state

    def _taken(self, state: State) -> State:
        message, *rest = state.mailbox
        state = state._replace(mailbox=tuple(rest))
        if message == "rest":
            stays = state.is_set and self._has["stay"]
            return state._replace(report="busy" if stays else "left")
        if message == "start" or self._has["clear first"]:
            # An actor that starts has a new wake flag, which is free.
            return state._replace(is_set=state.is_set and message == "start", look="cleared")
        return state._replace(found=state.delivered, look="found")

    def _looked(self, state: State) -> State:
        if state.look == "found":
            return state._replace(seen=state.found, found=0, is_set=False, look="")
        # It takes one at a time. When there are more, it wakes itself.
        seen = min(state.seen + 1, state.delivered)
        if seen == state.delivered or state.is_set:
            return state._replace(seen=seen, look="")
        return state._replace(seen=seen, look="", is_set=True, mailbox=(*state.mailbox, "wake"))

    def _heard(self, state: State) -> State:
        held = state.is_held
        if state.report == "left":
            gone = state._replace(phase="none", report="", is_held=False, is_set=False, mailbox=())
            return self._wake(gone) if held and self._has["again"] else gone
        live = state._replace(phase="live", report="")
        if not self._has["resume"]:
            return live
        return self._wake(live._replace(is_held=False)) if held else live

    def wrong(self, state: State) -> str | None:
        idle = not (state.wakes or state.mailbox or state.look or state.report)
        if idle and state.phase in ("live", "none") and state.seen < state.delivered:
            return "a signal waits, and nobody is going to look"
        return None

    def is_done(self, state: State) -> bool:
        return state.seen == SIGNALS
