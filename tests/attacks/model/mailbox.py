"""Senders, one of whom may be interrupted anywhere, an actor, and two workers that run it.

No message is left lying while nobody is going to look, and the actor is never in two hands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model.explorer import Guard, Model
from persistasaurus.actors.runtime.actor import PooledActor
from persistasaurus.actors.runtime.mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 2
SENDERS = 3


class State(NamedTuple):
    senders: tuple[str, ...] = ("new",) * SENDERS
    """new, put (the message is there), claimed (it is this one's to have the actor run), done."""
    interrupts: int = 1
    mail: int = 0
    handled: int = 0
    is_scheduled: bool = False
    is_running: bool = False
    entries: int = 0
    """How often the actor is in the queue of those that could run."""
    workers: tuple[str, ...] = ("free",) * WORKERS
    """free, taken (an entry), in hand, looked (for a message), saw none, has mail, freed (the claim)."""


class Mail(Model):
    guards: ClassVar[dict[str, Guard]] = {
        "look again": Guard(
            "who goes idle looks once more",
            Mailbox.park,
            "if not (self.has_mail() and self._scheduled",
        ),
        "one hand": Guard("a second worker leaves it alone", PooledActor._run_slice, "if not inbox.enter()"),
        "interrupted": Guard(
            "a sender that is interrupted has it run", Mailbox.put, "self._ready(owner)\n            raise"
        ),
    }

    def initial(self) -> State:
        return State()

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        for number, sender in enumerate(state.senders):
            for name, following in self._send(state, number, sender):
                yield f"sender {number} {name}", following
        for number, worker in enumerate(state.workers):
            for name, following in self._work(state, number, worker):
                yield f"worker {number} {name}", following

    def _send(self, state: State, number: int, sender: str) -> Iterator[tuple[str, State]]:
        def now(phase: str, **changes: int) -> State:
            senders = tuple(phase if n == number else s for n, s in enumerate(state.senders))
            return state._replace(senders=senders, **changes)

        if sender == "new":
            yield "puts", now("put", mail=state.mail + 1)
        elif sender == "put" and state.is_scheduled:
            yield "sees that it runs", now("done")
        elif sender == "put":
            yield "claims it", now("claimed", is_scheduled=True)
        elif sender == "claimed":
            yield "has it run", now("done", entries=state.entries + 1)
        if sender in ("put", "claimed") and state.interrupts:
            entries = state.entries + self._has["interrupted"]
            yield "is interrupted", now("done", entries=entries, interrupts=state.interrupts - 1)

    def _work(self, state: State, number: int, worker: str) -> Iterator[tuple[str, State]]:  # noqa: C901 - a case a phase
        def now(phase: str, **changes: int) -> State:
            workers = tuple(phase if n == number else w for n, w in enumerate(state.workers))
            return state._replace(workers=workers, **changes)

        match worker:
            case "free" if state.entries:
                yield "takes it", now("taken", entries=state.entries - 1)
            case "taken" if state.is_running and self._has["one hand"]:
                yield "leaves it alone", now("free")
            case "taken":
                yield "has it in hand", now("in hand", is_running=True)
            case "in hand" if state.mail:
                yield "handles a message", now("in hand", mail=state.mail - 1, handled=state.handled + 1)
            case "in hand":
                yield "finds no more", now("looked", is_running=False)
            case "looked":
                yield "looks for mail", now("has mail" if state.mail else "saw none")
            case "saw none":
                yield "goes idle", now("freed", is_scheduled=False)
            case "freed" if self._has["look again"] and state.mail and not state.is_scheduled:
                yield "claims it", now("has mail", is_scheduled=True)
            case "freed":
                yield "is free", now("free")
            case "has mail":
                yield "puts it at the back", now("free", entries=state.entries + 1)
            case _:
                pass

    def wrong(self, state: State) -> str | None:
        if state.workers.count("in hand") > 1:
            return "two workers run one actor"
        is_quiet = not state.entries and set(state.workers) == {"free"} and set(state.senders) == {"done"}
        return "a message lies there, and nobody looks" if is_quiet and state.mail else None

    def is_done(self, state: State) -> bool:
        return state.handled == SENDERS
