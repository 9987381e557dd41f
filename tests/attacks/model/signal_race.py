"""Three senders, two of them with the same signal, and a flow that ends with the first that it takes.

It may fail before, and is let run on then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model.explorer import Guard, Model
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.persistence.journal import Journal
from persistasaurus.store.sqlite.batch import WriteBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = ("a", "a", "b")
CRASHES = 2
FAILURES = 1


class State(NamedTuple):
    senders: tuple[str, ...] = ("new",) * len(KEYS)
    """new, sent, told (it is durable), refused."""
    queue: tuple[int, ...] = ()
    inbox: tuple[tuple[str, str], ...] = ()
    """Key and what has become of it: waits, consumed, dead."""
    received: tuple[str, ...] = ()
    """The signals in the flow's history."""
    unsettled: str | None = None
    has_ended: bool = False
    has_failed: bool = False
    failures: int = 0
    is_due: bool = False
    is_set: bool = False
    crashes: int = 0
    fault: str = ""


class SignalRace(Model):
    guards: ClassVar[dict[str, Guard]] = {
        "same key": Guard(
            "the same signal again is none", WriteBatch._deliver, "self._first_delivery(stream"
        ),
        "first of all": Guard(
            "duplicates are looked for before all else",
            WriteBatch._deliver,
            "if first is not None:\n            return first\n        if stream.damage",
        ),
        "one transaction": Guard(
            "a signal is settled with the record of it",
            WriteBatch._decide,
            "self._extend(stream, write.records)\n        self._dead += dead\n        self._mark_consumed(",
        ),
        "dead letters": Guard(
            "the end takes what is left", WriteBatch._decide, "reasons.update((key, ended)"
        ),
        "kept at a failure": Guard(
            "only an end for good takes what is left",
            WriteBatch._decide,
            "if change.state == StreamState.ENDED:",
        ),
        "look again": Guard(
            "a flow that is let run on looks for what it has kept",
            FlowActor.adopt,
            "self._look(machine, decision, reply)",
        ),
        "no more": Guard("an ended flow takes nothing", WriteBatch._check_room, "raise StreamEnded"),
        "durable first": Guard(
            "an answer comes after the commit",
            Journal._commit,
            "else:\n            self._patience_s = _PATIENCE_S[0]\n            _answer(entries, outcomes)",
        ),
        "due": Guard("a signal makes its flow due", WriteBatch._deliver, "stream.wake_at = write.at"),
    }

    def initial(self) -> State:
        return State()

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        for number, stands in enumerate(state.senders):
            if stands == "new":
                sent = state._replace(queue=(*state.queue, number))
                early = "sent" if self._has["durable first"] else "told"
                yield f"sender {number} sends {KEYS[number]!r}", _stands(sent, number, early)
        if state.queue:
            number, *rest = state.queue
            yield (
                f"the signal of {number} is committed",
                self._deliver(state._replace(queue=tuple(rest)), number),
            )
        if state.unsettled is not None:
            yield "it is settled", _settled(state._replace(unsettled=None), state.unsettled)
        elif state.is_set and not state.has_ended and not state.has_failed:
            yield "the flow looks into its inbox", self._look(state)
        goes_on = not state.has_ended and not state.has_failed and state.unsettled is None
        if len(state.received) == 1 and goes_on:
            yield "the flow ends", self._end(state)
        if goes_on and state.failures < FAILURES:
            yield "the flow fails", self._fail(state)
        if state.has_failed:
            # It may come to its end by what it has taken before; else it needs what it has kept.
            looks = self._has["look again"]
            yield (
                "it is let run on",
                state._replace(has_failed=False, is_set=looks, is_due=looks and state.is_due),
            )
        if state.crashes < CRASHES:
            # Whoever waits for an answer asks again, and the next process looks for what is due.
            again = tuple("new" if s == "sent" else s for s in state.senders)
            is_owed = state.is_due or (bool(state.received) and not state.has_ended)
            is_owed = is_owed and not state.has_failed
            yield (
                "the process is killed",
                state._replace(
                    senders=again, queue=(), is_set=is_owed, unsettled=None, crashes=state.crashes + 1
                ),
            )

    def _deliver(self, state: State, number: int) -> State:
        key = KEYS[number]
        is_known = self._has["same key"] and any(key == k for k, _ in state.inbox)
        is_over = state.has_ended or state.has_failed
        if not self._has["first of all"] and is_over:
            is_known = False
        if is_known:
            return _stands(state, number, "told")
        if is_over and self._has["no more"]:
            # Whoever is refused by a flow that has failed asks again when it goes on.
            refused = _stands(state, number, "refused" if state.has_ended else "new")
            if any(key == k for k, _ in state.inbox):
                return refused._replace(fault="a sender hears that it came too late; its signal was taken")
            return refused
        inbox = (*state.inbox, (key, "waits"))
        is_due = self._has["due"] or state.is_due
        return _stands(state._replace(inbox=inbox, is_due=is_due, is_set=True), number, "told")

    def _look(self, state: State) -> State:
        waiting = [key for key, stands in state.inbox if stands == "waits"]
        looked = state._replace(is_set=False, is_due=bool(waiting) and self._has["due"])
        if not waiting or (state.received and waiting[0] not in state.received):
            return looked  # it takes no second one
        received = looked._replace(received=(*state.received, waiting[0]))
        if self._has["one transaction"]:
            return _settled(received, waiting[0])
        return received._replace(unsettled=waiting[0], is_set=True)

    def _end(self, state: State) -> State:
        inbox = state.inbox
        if self._has["dead letters"]:
            inbox = tuple((key, "dead" if stands == "waits" else stands) for key, stands in inbox)
        return state._replace(inbox=inbox, has_ended=True, is_due=False)

    def _fail(self, state: State) -> State:
        failed = state if self._has["kept at a failure"] else self._end(state)
        return failed._replace(has_ended=False, has_failed=True, failures=state.failures + 1)

    def wrong(self, state: State) -> str | None:
        if state.fault:
            return state.fault
        if not state.has_ended and any(stands == "dead" for _, stands in state.inbox):
            return "a signal is given up, and its flow goes on, or can be let run on"
        if len(set(state.received)) < len(state.received) or len({k for k, _ in state.inbox}) < len(
            state.inbox
        ):
            return "a signal is recorded twice"
        if state.has_ended and any(stands == "waits" for _, stands in state.inbox):
            return "a signal waits for a flow that has ended"
        known = {key for key, _ in state.inbox}
        queued = {KEYS[number] for number in state.queue}
        for number, stands in enumerate(state.senders):
            if stands == "told" and KEYS[number] not in known | queued:
                return "a signal that was acknowledged is nowhere"
        return None

    def is_done(self, state: State) -> bool:
        return state.has_ended and all(stands in ("told", "refused") for stands in state.senders)


def _stands(state: State, number: int, stands: str) -> State:
    senders = list(state.senders)
    senders[number] = stands
    return state._replace(senders=tuple(senders))


def _settled(state: State, key: str) -> State:
    inbox = list(state.inbox)
    if (key, "waits") in inbox:
        inbox[inbox.index((key, "waits"))] = (key, "consumed")
    return state._replace(inbox=tuple(inbox))
