"""The supervisor alone: whatever its flows, its store and its clock do, nobody is lost, doubled or hurried.

Everything around it is scripted (`scripted.py`), and all that it says to anybody is in the machine's hands:
so reports overtake each other, and actors leave, crash and linger, at every possible moment.
"""

# ruff: noqa: FBT001 - rules get what Hypothesis draws

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from machines.passing import pass_time
from machines.scripted import OVER, WORDS, CountedReply, ScriptedActor, Stage
from machines.size import seeded, size
from machines.supervised import RESTART, Supervised
from persistasaurus.actors.flows import requests
from persistasaurus.actors.runtime.futures import Reply
from persistasaurus.flows.errors import StoreUnavailable
from persistasaurus.store import RecordCorrupt, StoreHalted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

FLOWS = st.sampled_from("abc")
NUMBERS = st.integers(0, 2)
STATUSES = st.sampled_from(["running", "running", "paused", "parked", ""])
TROUBLES = st.sampled_from(["", "", "", "", "no reads", "no threads"])
ERRORS = {
    "its own": ZeroDivisionError("again"),
    "of the store": StoreUnavailable("nothing was written"),
    "of a read": StoreHalted("it cannot be read now"),
    "of the log": RecordCorrupt("a", 1, "a bit has flipped"),
}
LATE: dict[Any, tuple[Any, ...]] = {
    requests.Passivated: (),
    requests.Idle: (),
    requests.Busy: (),
    requests.Recovered: (False,),
    requests.Crashed: (ERRORS["its own"],),
    requests.Ended: (WORDS["completed"], True),
}
ASKED = {
    "start": lambda flow_id, reply: requests.StartFlow(flow_id, "kind", b"{}", reply, Reply()),
    "ask": lambda flow_id, reply: requests.Ask(flow_id, None, (), {}, reply),
    "pause": lambda flow_id, reply: requests.PauseFlow(flow_id, "ada", "", reply),
    "resume": lambda flow_id, reply: requests.ResumeFlow(flow_id, "ada", "", reply),
    "retry": lambda flow_id, reply: requests.RetryFlow(flow_id, "ada", "", reply),
}


def is_anything(_: ScriptedActor) -> bool:
    return True


def is_starting(actor: ScriptedActor) -> bool:
    return actor.stage is Stage.STARTING


def may_write(actor: ScriptedActor) -> bool:
    is_new = actor.wake_flag.is_starting  # then it writes its start, and nothing else
    return actor.stage is Stage.LIVE and actor.writing is None and not is_new


def is_writing(actor: ScriptedActor) -> bool:
    return actor.stage is Stage.LIVE and actor.writing is not None


def is_refusal(reply: CountedReply) -> bool:
    try:
        reply.get(timeout=0)
    except Exception:  # noqa: BLE001 - whatever it is
        return True
    return False


def has_something_to_do(actor: ScriptedActor) -> bool:
    return is_starting(actor) or is_writing(actor) or bool(actor.mailbox)


def is_idle(actor: ScriptedActor) -> bool:
    return may_write(actor) and not actor.wake_flag.is_set


@seeded
class SupervisorMachine(Supervised):
    def __init__(self) -> None:
        super().__init__()
        self.busy_for = 0
        """So many rules more nothing is taken out of its mailbox."""
        self.is_drained: Reply[None] | None = None
        self.is_finished: Reply[None] | None = None

    @initialize(
        max_activations=st.integers(1, 2),
        max_idle=st.integers(0, 1),
        statuses=st.tuples(STATUSES, STATUSES, STATUSES),
        at_work=st.booleans(),
        is_looked_over=st.booleans(),
    )
    def begin(
        self,
        max_activations: int,
        max_idle: int,
        statuses: tuple[str, ...],
        at_work: bool,
        is_looked_over: bool,
    ) -> None:
        self.max_activations, self.max_idle = max_activations, max_idle
        for flow_id, status in zip("abc", statuses, strict=True):
            if status:
                self.store.write(flow_id, status)
        self.open()
        if is_looked_over:  # from here on, whoever is started is taken to be new
            self.ref.tell(requests.ResumeRecoverable())
        for flow_id in "abc":
            self.somebody_rings(flow_id, step_has_ended=False, trouble="", is_heard=at_work)

    # ------------------------------------------------------------------------------ the supervisor
    def _settle(self) -> None:
        self.turns.run_until_idle(10_000)

    @rule(rules=st.integers(1, 5), messages=st.integers(0, 2))
    def it_is_held_up(self, rules: int, messages: int) -> None:
        """Let messages queue up before it, but for a few, for so many rules."""
        self.busy_for = rules + 1
        for _ in range(messages):
            self.turns.run_one()

    # ------------------------------------------------------------------------------------- clients
    @rule(
        flow_id=FLOWS,
        kind=st.sampled_from(["start", "start", *ASKED, "watch"]),
        trouble=TROUBLES,
        is_heard=st.booleans(),
    )
    def somebody_asks(self, flow_id: str, kind: str, trouble: str, is_heard: bool) -> None:
        reply = CountedReply()
        with self._in(trouble):
            if kind == "watch":
                self.watched.append((flow_id, reply))
                self.ref.tell(requests.Watch(flow_id, reply))
            else:
                request = ASKED[kind](flow_id, reply)
                self.asked.append((request, reply))
                self.ref.tell(request)
        if is_heard:
            self._all_go_on()

    @rule(flow_id=FLOWS, step_has_ended=st.booleans(), trouble=TROUBLES, is_heard=st.booleans())
    def somebody_rings(self, flow_id: str, step_has_ended: bool, trouble: str, is_heard: bool) -> None:
        if step_has_ended:
            self.unrecorded.add(flow_id)
        if self._is_owed_a_look(flow_id):
            self.owed.add(flow_id)
        with self._in(trouble):
            self.ref.tell(requests.Wake(flow_id))
        if is_heard:
            self._all_go_on()

    def _is_owed_a_look(self, flow_id: str) -> bool:
        status = self.store.status(flow_id)
        has_work = status == "running" or (status == "paused" and flow_id in self.unrecorded)
        return has_work and not self.model.refuses

    # -------------------------------------------------------------------------------------- actors
    def _one(self, number: int, what: Callable[[ScriptedActor], Any]) -> ScriptedActor:
        those = self._those(what)
        return those[number % len(those)]

    @precondition(lambda self: self._those(is_anything))
    @rule(number=NUMBERS, times=st.integers(1, 4), busy=st.booleans())
    def an_actor_goes_on(self, number: int, times: int, busy: bool) -> None:
        actor = self._one(number, is_anything)
        for _ in range(times):
            self._goes_on(actor, busy=busy)
        if not busy:
            self._idles(actor)

    @precondition(lambda self: self._those(is_anything))
    @rule(times=st.integers(2, 5))
    def all_actors_go_on_and_idle(self, times: int) -> None:
        for actor in self._those(is_anything):
            for _ in range(times):
                self._goes_on(actor)
            self._idles(actor)

    def _all_go_on(self) -> None:
        """Do all that there is to do, of what the supervisor has heard of by now."""
        self._settle()
        while those := self._those(has_something_to_do):
            self._goes_on(those[0])

    def _idles(self, actor: ScriptedActor) -> None:
        if is_idle(actor):
            actor.idle_since = self.clock.elapsed()
            actor.report(requests.Idle)

    def _goes_on(self, actor: ScriptedActor, *, busy: bool = False) -> None:
        """Look, say so, learn that a record is durable, or take the next message."""
        if actor.stage is Stage.STARTING and actor.has_looked:
            self.model.recovered(actor.flow_id)
            actor.recovered()
        elif actor.stage is Stage.STARTING:
            actor.look()
        elif actor.stage is Stage.LIVE and actor.writing is not None:
            self._acts(actor, actor.written)
        elif actor.stage is Stage.LIVE and actor.mailbox:
            self._acts(actor, lambda: actor.take(busy=busy))

    @precondition(lambda self: self._those(is_writing))
    @rule(number=NUMBERS)
    def an_actor_keeps_messages_while_it_writes(self, number: int) -> None:
        actor = self._one(number, is_writing)
        if actor.mailbox:
            actor.take()

    def _acts(self, actor: ScriptedActor, what: Callable[[], None]) -> None:
        what()
        if not self._is_owed_a_look(actor.flow_id):
            self.owed.discard(actor.flow_id)
        if not actor.is_alive:
            self.model.forgotten(actor.flow_id)

    @precondition(lambda self: self._those(self._may_end))
    @rule(number=NUMBERS, status=st.sampled_from(OVER), leaves=st.booleans())
    def a_flow_is_over(self, number: int, status: str, leaves: bool) -> None:
        actor = self._one(number, self._may_end)
        if self.store.status(actor.flow_id) in OVER:
            self._acts(actor, actor.leave)
        else:
            self._acts(actor, lambda: actor.end(status, leaves=leaves))

    def _may_end(self, actor: ScriptedActor) -> bool:
        return may_write(actor) and self.store.status(actor.flow_id) in ("running", *OVER)

    @precondition(lambda self: self._those(is_anything))
    @rule(
        number=NUMBERS,
        error=st.sampled_from(["its own", "its own", *ERRORS]),
        times=st.sampled_from([1, 1, 1, 2, 5]),
        trouble=TROUBLES,
    )
    def an_actor_crashes(self, number: int, error: str, times: int, trouble: str) -> None:
        """Crash; when that is more than once, whenever it is started."""
        flow_id = self._one(number, is_anything).flow_id
        for time in range(times):
            if time:
                self.time_goes_by(RESTART.maximum_s * (1 + RESTART.jitter))
            with self._in(trouble):
                for actor in self._those(lambda actor: actor.flow_id == flow_id):
                    self.model.crashed(flow_id, ERRORS[error], self.clock.elapsed())
                    actor.crash(ERRORS[error])

    @precondition(lambda self: any(actor.stage is Stage.LEAVING for actor in self.actors))
    @rule()
    def those_who_leave_are_gone(self) -> None:
        for actor in self.actors:
            if actor.stage is Stage.LEAVING:
                actor.stop()

    @precondition(lambda self: self._those(self._forebears))
    @rule(number=NUMBERS, kind=st.sampled_from([*LATE]))
    def a_word_comes_late(self, number: int, kind: Any) -> None:
        late = self._forebears(self._one(number, self._forebears))[-1]
        late.report(kind, *LATE[kind])

    def _forebears(self, heir: ScriptedActor) -> list[ScriptedActor]:
        return [a for a in self.actors if a.flow_id == heir.flow_id and a.incarnation < heir.incarnation]

    @precondition(lambda self: self._those(may_write))
    @rule(number=NUMBERS)
    def a_suspected_step_asks_for_its_turn_or_ends(self, number: int) -> None:
        actor = self._one(number, may_write)
        if actor.turn_since is None:
            actor.asked_turn = True
            self.ref.tell(requests.RequestSlot(actor.flow_id, 1))
        else:
            actor.turn_since = None
            self.ref.tell(requests.SlotFreed(actor.flow_id))

    # ---------------------------------------------------------------------- the store, and the rest
    @rule(seconds=st.sampled_from([0.3, 1.0, 2.5, 8.0, 61.0]))
    def time_goes_by(self, seconds: float) -> None:
        self._settle()
        pass_time(self.clock, seconds, self._settle)

    @rule(what=st.sampled_from(["store down", "store up", "other code"]))
    def something_happens_to_it(self, what: str) -> None:
        if what == "other code":
            self.ref.tell(requests.ResumeRecoverable())
        elif not self.model.refuses:
            self.model.store_is(up=what == "store up", now=self.clock.elapsed())
            self.ref.tell(requests.StoreHealth(what == "store up"))

    @contextmanager
    def _in(self, trouble: str) -> Generator[None]:
        """Have something fail in what is done meanwhile, and in nothing else."""
        if trouble:
            self._settle()
        self.store.is_readable, self.has_threads = trouble != "no reads", trouble != "no threads"
        yield
        if trouble:
            self._settle()
        self.store.is_readable = self.has_threads = True

    @precondition(lambda self: self.journal.entries)
    @rule(well=st.booleans())
    def the_journal_answers(self, well: bool) -> None:
        flow_id = self.journal.answer(well=well and not self.model.refuses)
        if self.store.status(flow_id) == "parked":
            self.owed.discard(flow_id)
            self.model.forgotten(flow_id)
        else:
            self.model.not_parked(flow_id, self.clock.elapsed())

    @precondition(lambda self: len(self.actors) > 4 and self.is_finished is None)
    @rule(is_fenced=st.booleans())
    def it_comes_to_its_end(self, is_fenced: bool) -> None:
        """Another process owns the store; or the system is closed, in two steps."""
        if is_fenced and not self.model.refuses:
            self._refuses()
            self.model.fenced()
            self.ref.tell(requests.StoreHealth(StoreUnavailable("another process owns the store now")))
        elif self.is_drained is None:
            self._refuses()
            self.is_drained = Reply()
            self.ref.tell(requests.Drain(self.is_drained))
        else:
            self._settle()
            self.model.is_finishing = True
            self.is_finished = Reply()
            self.ref.tell(requests.Shutdown(self.is_finished))

    def _refuses(self) -> None:
        self.model.refuses = True
        self.owed.clear()

    # -------------------------------------------------------------------------------------- always
    @precondition(lambda self: hasattr(self, "ref"))
    @invariant()
    def nothing_is_wrong(self) -> None:
        self.busy_for = max(0, self.busy_for - 1)
        if not self.busy_for:
            self._settle()
        self.look_at_it()

    # ------------------------------------------------------------------------------------- the end
    def teardown(self) -> None:
        if not hasattr(self, "ref"):
            return
        try:
            self._bring_to_an_end()
        finally:
            self.patch.undo()

    def _bring_to_an_end(self) -> None:
        self.busy_for = 0
        self.something_happens_to_it("store up")
        for _ in range(30):
            self._everybody_goes_on()
        assert all(reply.answers == 1 for _, reply in self.asked), "somebody is not answered"
        assert not self.owed, "somebody was woken, and never looked"
        while self.is_finished is None:
            self.it_comes_to_its_end(is_fenced=False)
        for _ in range(3):
            self._everybody_goes_on()
        assert self.is_drained is not None
        assert self.is_drained.is_done
        assert self.is_finished.is_done, "it does not come to its end"
        assert (self.supervisor._active, self.supervisor._activating) == ({}, 0)
        assert not self.supervisor._idle._since
        assert not self.starts.waiting, "a start waits for ever"
        self.ref.stop(block=False)
        self._settle()
        assert all(reply.answers == 1 for _, reply in self.watched), "who watches hears nothing"
        for request, reply in self.asked:
            is_start = isinstance(request, requests.StartFlow)
            assert not is_start or request.end.is_done or is_refusal(reply), (
                "who started a flow hears nothing of its end"
            )

    def _everybody_goes_on(self) -> None:
        self.those_who_leave_are_gone()
        self._all_go_on()
        while self.journal.entries:
            self.the_journal_answers(well=True)
        self.time_goes_by(2.5)
        self.nothing_is_wrong()


TestSupervisor = SupervisorMachine.TestCase
TestSupervisor.settings = size(200, 50)
