"""A sender leaves an order in the spool, and the engine takes it up. Both may die, and the power may fail.

Two kinds of orders: a signal, which is known by its key when it comes back, and a pause, which is not, and
which somebody has taken back in the meantime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model.explorer import Guard
from persistasaurus.actors.remote.poller import Intake
from persistasaurus.store.files import private_folder as folder
from persistasaurus.store.files.spool import Spool
from persistasaurus.store.sqlite.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator

CRASHES = 2


class State(NamedTuple):
    is_signal: bool | None = None
    draft: str = ""
    """In the draft's file: half, whole, synced."""
    new: str = ""
    """The same under the order's own name."""
    is_named: bool = False
    """The name would survive the loss of power."""
    is_unnamed: bool = False
    """The name is gone, and would stay so."""
    sender: str = "writing"
    """writing, waiting, told (that it is there for certain), answered."""
    answer: bool = False
    queued: int = 0
    """What the engine has handed on, and the journal has not yet committed."""
    committed: int = 0
    is_known: bool = False
    """This engine has committed it."""
    resumed: bool = False
    kills: int = 0
    has_lost_power: bool = False
    fault: str = ""


class Mailroom:
    guards: ClassVar[dict[str, Guard]] = {
        "draft": Guard("an order is seen whole", folder.write_whole, "draft.rename(to)"),
        "sync": Guard(
            "its data is synced", folder.write_whole, "os.fsync(file.fileno())\n        draft.rename"
        ),
        "sync name": Guard("so is its name", folder.write_whole, "if durable:\n        sync(to.parent)"),
        "commit first": Guard(
            "an answer waits for the commit", Intake._conclude, "heard.future.get(timeout=0)"
        ),
        "remove last": Guard(
            "an order is removed when it was answered",
            Spool.answer,
            "self._write(self._answers / name, data, durable=durable)\n            (self._new / name).unlink",
        ),
        "key": Guard("a signal that comes back is none", Batch._deliver, "self._first_delivery(stream"),
        "stay away": Guard(
            "what has no key does not come back", Intake._answer, "durable=answer.receipt is None"
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
        if state.is_signal is None:
            yield "it is a signal", state._replace(is_signal=True)
            yield "it is a pause", state._replace(is_signal=False)
            return
        if state.sender == "writing":
            yield from self._writes(state)
        else:
            yield from self._waits(state)
        yield from self._engine(state)
        if state.kills < CRASHES:
            yield "the engine is killed", state._replace(queued=0, is_known=False, kills=state.kills + 1)
        if not state.has_lost_power:
            yield from self._power_fails(state)

    def _writes(self, state: State) -> Iterator[tuple[str, State]]:
        if not self._has["draft"] and not state.new:
            yield "half is written, in place", state._replace(new="half")
        elif not self._has["draft"] and state.new == "half":
            yield "the rest, and a sync", state._replace(new="synced")
        elif state.draft in ("", "half") and not state.new:
            yield "a draft is written", state._replace(draft="whole" if state.draft else "half")
        elif state.draft == "whole" and self._has["sync"]:
            yield "the draft is synced", state._replace(draft="synced")
        elif state.draft:
            yield "the draft gets its name", state._replace(draft="", new=state.draft, sender="waiting")
        if state.new == "synced" and not self._has["draft"]:
            yield "that is all", state._replace(sender="waiting")

    def _waits(self, state: State) -> Iterator[tuple[str, State]]:
        if state.sender == "waiting":
            told = state._replace(sender="told", is_named=state.is_named or self._has["sync name"])
            yield "the sender is told that it is there", told
        elif state.sender == "told" and state.answer:
            yield "the sender takes the answer", state._replace(sender="answered", answer=False)
        elif state.sender == "answered" and not (state.is_signal or state.resumed or state.new):
            # By an order of its own, which is behind this one.
            yield "somebody takes the pause back", state._replace(resumed=True)

    def _engine(self, state: State) -> Iterator[tuple[str, State]]:
        if state.new == "half":
            yield "the engine reads half an order", state._replace(fault="half an order was read")
        elif state.new and not state.queued and not state.is_known:
            yield "the engine hands the order on", state._replace(queued=1)
        if state.queued:
            yield "it is committed", self._commit(state._replace(queued=0))
            if not self._has["commit first"]:
                yield "it is answered at once", self._answered(state)
        elif state.new and state.is_known and not state.answer:
            if self._has["remove last"]:
                yield "it is answered, and removed", self._answered(state)
                yield "killed after the answer", state._replace(answer=True)
            else:
                yield "it is removed, and answered", self._answered(state)
                yield "killed before the answer", self._answered(state)._replace(answer=state.answer)
        elif state.new and state.answer and state.is_known:
            yield "it is removed", self._answered(state)

    def _commit(self, state: State) -> State:
        if state.is_signal:
            count = state.committed if self._has["key"] and state.committed else state.committed + 1
            return state._replace(committed=count, is_known=True)
        fault = "a pause that was taken back is in force again" if state.resumed else ""
        return state._replace(committed=state.committed + 1, is_known=True, fault=fault)

    def _answered(self, state: State) -> State:
        stays_away = not state.is_signal and self._has["stay away"]
        return state._replace(answer=True, new="", is_unnamed=stays_away or not state.is_named)

    def _power_fails(self, state: State) -> Iterator[tuple[str, State]]:
        dark = state._replace(queued=0, is_known=False, has_lost_power=True)
        if state.sender in ("writing", "waiting"):
            return  # nobody was promised anything
        yield "the power fails", dark
        if state.new and not state.is_named:
            yield "the power fails; the name is gone", dark._replace(new="")
        if state.new == "whole":
            yield "the power fails; the data is gone", dark._replace(new="half")
        if not state.new and state.is_named and not state.is_unnamed:
            yield "the power fails; the order is back", dark._replace(new="synced")

    def wrong(self, state: State) -> str | None:
        if state.fault:
            return state.fault
        if state.is_signal and state.committed > 1:
            return "a signal is recorded twice"
        if (state.answer or state.sender == "answered") and not state.committed and not state.queued:
            return "an order was answered, and nothing is recorded"
        return None

    def is_done(self, state: State) -> bool:
        return state.sender == "answered" and state.committed > 0
