"""A sender leaves a request, and the engine does it and responds. Both may die, and the power may fail.

Two kinds of requests: a signal, which is known by its key when it comes back, and a pause, which is known by
the request's id, and which somebody has taken back in the meantime. A commit of the file with the requests is
seen whole or not at all; that is SQLite's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model.explorer import Guard, Model
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.remote.poller import RequestPoller
from persistasaurus.store.sqlite.batch import WriteBatch
from persistasaurus.store.sqlite.requests import SqliteRequests

if TYPE_CHECKING:
    from collections.abc import Iterator

CRASHES = 2


class State(NamedTuple):
    is_signal: bool | None = None
    row: str = ""
    """The request: written, synced; gone, when its sender has taken the response."""
    response: str = ""
    """In the row: written, synced."""
    sender: str = "writing"
    """writing, told (that it is there for certain), answered."""
    queued: int = 0
    """What the engine has handed on, and the journal has not yet committed."""
    committed: int = 0
    is_known: bool = False
    """This engine has committed it."""
    has_responded: bool = False
    """This engine has, and lets go of it."""
    resumed: bool = False
    kills: int = 0
    has_lost_power: bool = False
    fault: str = ""


class RemoteRequests(Model):
    guards: ClassVar[dict[str, Guard]] = {
        "sync": Guard(
            "what is committed is synced", SqliteRequests._opened, 'connection.pragma("synchronous", "FULL")'
        ),
        "commit first": Guard(
            "a response waits for the commit", RequestPoller._conclude, "future.get(timeout=0)"
        ),
        "key": Guard("a signal that comes back is none", WriteBatch._deliver, "self._first_delivery(stream"),
        "request id": Guard(
            "a pause that comes back is none",
            FlowActor._control,
            "if was_done(self.context.access.store, request):",
        ),
        "remove last": Guard(
            "a request is let go of when its response is written",
            RequestPoller._respond,
            "for queue, request_id, response in written:",
        ),
    }

    def initial(self) -> State:
        return State()

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        if state.is_signal is None:
            yield "it is a signal", state._replace(is_signal=True)
            yield "it is a pause", state._replace(is_signal=False)
            return
        yield from self._sender(state)
        yield from self._engine(state)
        if state.kills < CRASHES:
            yield "the engine is killed", _dead(state)._replace(kills=state.kills + 1)
        if not state.has_lost_power:
            yield from self._power_fails(state)

    def _sender(self, state: State) -> Iterator[tuple[str, State]]:
        if state.sender == "writing" and not state.row:
            yield "the request is committed", state._replace(row="synced" if self._has["sync"] else "written")
        elif state.sender == "writing":
            yield "the sender is told that it is there", state._replace(sender="told")
        elif state.sender == "told" and state.response:
            yield "the sender takes the response", state._replace(sender="answered", row="gone")
        if state.committed and not (state.is_signal or state.resumed):
            yield "somebody takes the pause back", state._replace(resumed=True)

    def _engine(self, state: State) -> Iterator[tuple[str, State]]:
        waits = state.row in ("written", "synced") and not state.response
        if waits and not (state.queued or state.is_known or state.has_responded):
            yield "the engine hands the request on", state._replace(queued=1)
        if state.queued:
            yield "it is committed", self._commit(state._replace(queued=0))
            if not self._has["commit first"] and not state.response:
                yield "it is responded to at once", self._responded(state)
        elif waits and state.is_known:
            yield "it is responded to", self._responded(state)
            if not self._has["remove last"]:
                yield (
                    "the response fails, and it is let go of",
                    state._replace(is_known=False, has_responded=True),
                )

    def _commit(self, state: State) -> State:
        if state.is_signal:
            count = state.committed if self._has["key"] and state.committed else state.committed + 1
            return state._replace(committed=count, is_known=True)
        if self._has["request id"] and state.committed:
            return state._replace(is_known=True)
        fault = "a pause that was taken back is in force again" if state.resumed else ""
        return state._replace(committed=state.committed + 1, is_known=True, fault=fault)

    def _responded(self, state: State) -> State:
        return state._replace(response="synced" if self._has["sync"] else "written")

    def _power_fails(self, state: State) -> Iterator[tuple[str, State]]:
        dark = _dead(state)._replace(has_lost_power=True)
        if state.sender == "writing":
            return  # nobody was promised anything
        yield "the power fails", dark
        if state.row == "gone":
            # As long as the response is there, nothing is done again.
            yield (
                "the power fails; the request is back",
                dark._replace(row="synced", response=state.response if state.response == "synced" else ""),
            )
        elif state.row == "written":
            yield "the power fails; the request is lost", dark._replace(row="gone", response="")
        if state.row == "synced" and state.response == "written":
            yield "the power fails; the response is lost", dark._replace(response="")

    def wrong(self, state: State) -> str | None:
        if state.fault:
            return state.fault
        if state.is_signal and state.committed > 1:
            return "a signal is recorded twice"
        if (state.response or state.sender == "answered") and not state.committed and not state.queued:
            return "a request was answered, and nothing is recorded"
        if state.has_responded and not state.response and state.row != "gone":
            return "a request is forgotten until the next start"
        return None

    def is_done(self, state: State) -> bool:
        return state.sender == "answered" and state.committed > 0


def _dead(state: State) -> State:
    return state._replace(queued=0, is_known=False, has_responded=False)
