"""What the machine does at its edges: messages that are too late, or for nothing, and ends in mid-way."""

import gc
import sys
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from types import SimpleNamespace, coroutine
from typing import Any

import pytest
from persistasaurus.flows import Done, Flow, events, flow, gather, signal, sleep, step, wait_for
from persistasaurus.flows.authoring.foreign import NoLoop
from persistasaurus.flows.errors import NondeterminismError, NotDurableError, StepError
from persistasaurus.flows.events import Failure
from persistasaurus.flows.machine import branch
from persistasaurus.flows.machine.branch import Branch, OnEnd, RunQueue
from persistasaurus.flows.machine.messages import (
    AttemptLost,
    MayRunAlone,
    PauseRequested,
    Reconciled,
    ReconcileFailed,
    ResumeRequested,
    Timestamp,
)
from persistasaurus.flows.machine.pending import Due
from persistasaurus.flows.values.codec import Codec
from stories import EPOCH, SECOND, Story

BROKEN: set[str] = set()


class Edges(Flow):
    def __init__(self) -> None:
        self.has_failed = False
        self.nothing: list[int] = []

    @flow
    async def work_once(self) -> str:
        return await self.work("a")

    @flow
    async def both(self) -> str:
        await gather(self.in_one_place(), self.in_another())
        return "done"

    async def in_one_place(self) -> str:
        return await self.work("a")

    async def in_another(self) -> str:
        return await self.work("b")

    @flow
    async def forget(self) -> str:
        self.work("a")
        return "done"

    @flow
    async def both_found(self) -> list[str]:
        return list(await gather(self.findable("a"), self.findable("b")))

    @flow
    async def nothing_at_once(self) -> int:
        return len(await gather())

    @flow(name="changing")
    async def ends(self) -> None:
        return

    @flow(name="changing")
    async def breaks(self) -> None:
        raise ValueError("it cannot be")

    @flow
    async def late(self) -> None:
        await gather(self.fail_after(1), self.fail_after(1))

    async def fail_after(self, seconds: int) -> None:
        await sleep(seconds)
        raise ValueError("too late")

    @flow
    async def one_after_the_other(self) -> str:
        try:
            await gather(self.fail_after(1), self.fail_after(2))
        except ValueError:
            await sleep(5)
        return "went on"

    @flow
    async def over_before(self) -> str:
        with suppress(NotDurableError):
            await gather(breathe(), self.breathes_on())
        return "over"

    async def breathes_on(self) -> str:
        for _ in range(3):
            with suppress(NotDurableError):
                await breathe()
        return await self.work("a")

    @flow
    async def goes_in_circles(self) -> None:
        error, reason = ValueError("one for the other"), ValueError("and back")
        error.__cause__, reason.__cause__ = reason, error
        raise error

    @flow
    async def stumbles(self) -> None:
        try:
            await self.risky()
        except StepError:
            self.nothing[0]

    @flow
    async def ill_typed(self) -> int:
        return "one"  # pyright: ignore[reportReturnType]

    @flow
    async def two_ways(self) -> int:
        left, right = await gather(self.left(), self.right(), return_exceptions=True)
        if isinstance(left, BaseException):
            raise left
        return right

    async def left(self) -> None:
        try:
            await self.risky()
        except StepError:
            self.has_failed = True
            raise

    async def right(self) -> int:
        await wait_for("go", int)
        if not self.has_failed:
            return await self.confirm()
        await self.work("x")
        await sleep(1)
        return 0

    @flow(name="changing")
    async def waits(self) -> None:
        await wait_for("go", int)

    @flow(name="changing")
    async def sleeps(self) -> None:
        await sleep(1)

    @step
    def work(self, what: str) -> str:
        return what

    @step(reconcile=lambda self, what: Done(what))
    def findable(self, what: str) -> str:
        return what

    @step
    def risky(self) -> None:
        if "risky" in BROKEN:
            raise OSError("broken")

    @signal
    def confirm(self, n: int) -> int:
        return n


async def breathe() -> None:
    await bare()


@coroutine
def bare():
    yield


def test_a_branch_that_could_go_on_when_the_flow_ends_does_not() -> None:
    story = Story(Edges.over_before).start()

    assert story.result == "over"
    assert story.kinds == ["flow_started", "flow_completed"]


def test_a_replay_reads_only_those_arguments_back_that_the_history_does_not_show(monkeypatch) -> None:
    story = Story(Edges.both).start()
    sealed = []
    original = Codec.seal
    monkeypatch.setattr(Codec, "seal", lambda self, *args: sealed.append(self.what) or original(self, *args))
    story.restart()

    assert sealed == []


def test_a_flow_may_fail_with_an_error_whose_reasons_go_in_circles() -> None:
    story = Story(Edges.goes_in_circles).start()

    assert story.error.message == "one for the other"
    assert story.machine.ended.step is None


def test_the_instant_of_the_last_decision_is_told() -> None:
    assert Story(Edges.work_once).start().machine.at == EPOCH


def test_a_warning_is_told_also_when_the_flow_ends_with_it() -> None:
    story = Story(Edges.forget).start()

    assert story.result == "done"
    assert len(story.warnings) == 1


def test_a_flow_that_is_complete_waits_for_no_step_that_still_runs() -> None:
    class Hasty(Flow):
        @flow
        async def go(self) -> str:
            try:
                await gather(self.breaks(), self.lasts())
            except StepError:
                return "done"
            return "both"

        @step
        def breaks(self) -> None:
            raise OSError

        @step
        def lasts(self) -> None: ...

    story = Story(Hasty.go).start()
    story.run(1)

    assert story.runs
    assert story.status == "completed"
    assert not story.machine.is_busy


def test_what_the_code_asks_for_behind_its_history_has_to_come_back_equal_as_well() -> None:
    class Careless(Flow):
        @flow
        async def go(self) -> str:
            await self.work(1)
            return await self.work((1, 2))

        @step
        def work(self, what: Any) -> str:
            return "done"

    story = Story(Careless.go).start()
    story.machine.drain()
    assert story.run() == ["step_completed"]

    story = story.restart()

    assert story.status == "failed"
    assert story.error.type == "PayloadError"


def test_nothing_falls_due_while_the_flow_is_paused() -> None:
    story = Story(Edges.late).start()
    story.tell(PauseRequested())
    story.advance(2)

    assert story.machine.alarm is None
    assert story.tick() == []


def test_a_branch_that_fails_when_the_flow_has_gone_on_disturbs_it_no_more() -> None:
    story = Story(Edges.one_after_the_other).start()
    for _ in range(2):
        story.advance(1)
        story.tick()
    assert story.status == "waiting"
    story.advance(5)
    story.tick()

    assert story.result == "went on"


def test_what_is_owed_is_recorded_at_the_instant_of_the_recovery() -> None:
    story = Story(Edges.late).start()
    story.advance(7)

    recovered = story.restart()

    assert recovered.machine.at == story.wall


def test_which_step_has_failed_is_known_also_when_something_else_came_of_it(
    monkeypatch,
) -> None:
    monkeypatch.setitem(globals(), "BROKEN", {"risky"})
    story = Story(Edges.stumbles).start()
    story.run(1)

    assert story.machine.ended.error.type == "IndexError"
    assert story.machine.ended.step == 1


def test_what_falls_due_behind_the_flows_end_is_not_recorded() -> None:
    story = Story(Edges.late).start()
    story.advance(1)

    assert story.tick() == ["timer_fired", "flow_failed"]


def test_messages_about_what_is_not_under_way_decide_nothing() -> None:
    story = Story(Edges.work_once).start()
    failure = Failure("OSError", "no net")

    assert story.tell(MayRunAlone(1)) == []
    assert story.tell(MayRunAlone(9)) == []
    assert story.tell(Reconciled(1, None)) == []
    assert story.tell(ReconcileFailed(9, failure)) == []
    assert story.tell(AttemptLost(9, 1)) == []
    assert story.tell(AttemptLost(1, 2)) == []


def test_the_second_step_that_nobody_could_find_out_about_does_not_park_the_flow_again() -> None:
    story = Story(Edges.both_found).start().restart()
    failure = Failure("OSError", "no net")

    assert story.tell(ReconcileFailed(1, failure)) == ["parked"]
    assert story.tell(ReconcileFailed(2, failure)) == []


def test_to_pause_or_to_resume_twice_is_to_do_it_once() -> None:
    story = Story(Edges.work_once).start()

    assert story.tell(ResumeRequested()) == []
    assert story.tell(PauseRequested()) == ["paused"]
    assert story.tell(PauseRequested()) == []


def test_a_flow_runs_where_nobody_has_imported_asyncio(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "asyncio.events", raising=False)

    assert Story(Edges.work_once).start().finish().result == "a"


def test_a_result_that_is_not_of_the_declared_type_fails_the_flow() -> None:
    assert Story(Edges.ill_typed).start().error.type == "PayloadError"


def test_a_wait_that_a_repair_brings_about_gets_a_number_that_was_never_used() -> None:
    BROKEN.add("risky")
    story = Story(Edges.two_ways).start()
    story.run(1)
    story.send("go", 1)
    story.run(2)
    assert story.wait() == ["timer_fired", "flow_failed"]
    BROKEN.clear()

    repaired = story.repair()
    assert repaired.of(events.SignalAwaited)[-1].step == 3
    repaired.run(1)
    repaired.send("confirm", {"n": 7})
    repaired.run(3)
    assert repaired.result == 7
    assert repaired.fork().result == 7


@pytest.mark.parametrize(
    ("was", "is_now", "recorded", "attempted"),
    [
        (Edges.waits, Edges.sleeps, "wait for signal 'go'", "sleep 1"),
        (Edges.sleeps, Edges.waits, "sleep 1", "wait for signal 'go'"),
        (Edges.sleeps, Edges.ends, "sleep 1", "the flow's completion"),
        (Edges.sleeps, Edges.breaks, "sleep 1", "the flow's failure with ValueError: it cannot be"),
    ],
)
def test_changed_code_is_told_with_what_was_recorded_and_what_it_does(
    was, is_now, recorded, attempted
) -> None:
    with pytest.raises(NondeterminismError) as caught:
        Story(was).start().fork(definition=is_now)

    lines = str(caught.value).splitlines()
    assert lines[1].startswith(f"  recorded:  {recorded}")
    assert lines[2].startswith(f"  attempted: {attempted}")


def test_to_gather_nothing_takes_no_time() -> None:
    assert Story(Edges.nothing_at_once).start().result == 0


def test_an_empty_history_leaves_a_machine_that_can_be_started() -> None:
    story = Story(Edges.work_once).fork(0)
    assert story.machine.version == 0

    assert story.start().finish().result == "a"


def test_asyncio_cannot_look_a_flow_up_among_its_loops() -> None:
    with pytest.raises(NotDurableError):
        hash(NoLoop())


def test_where_a_flow_waits_is_told_also_when_many_places_are_known(monkeypatch) -> None:
    monkeypatch.setattr(branch, "_LOCATIONS", 1)
    monkeypatch.setattr(branch, "_locations", {})

    first, second = Story(Edges.both).start().of(events.StepStarted)

    assert Path(__file__).name in first.line
    assert Path(__file__).name in second.line
    assert first.line != second.line
    assert len(branch._locations) == 1


def test_a_flow_that_awaits_whatever_is_done_to_it_is_dropped_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    awaits, said = [], []
    monkeypatch.setattr(sys, "unraisablehook", said.append)

    @coroutine
    def bare():
        yield

    async def stubborn() -> None:
        while True:
            try:
                await bare()
            except GeneratorExit:
                awaits.append("again")

    waiting = stubborn()
    waiting.send(None)
    dropped = Branch(waiting, RunQueue(None), OnEnd(awaits.append, awaits.append), Context())
    dropped.close()
    assert len(awaits) == 100

    del waiting
    branch._undying.forget()
    assert len(awaits) == 101
    assert said == []

    of_somebody_else = SimpleNamespace(object=None)
    sys.unraisablehook(of_somebody_else)
    assert said == [of_somebody_else]


@coroutine
def once():
    yield


def test_code_that_others_have_when_python_ends_is_not_asked_once_more_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    asked = []

    async def stubborn() -> None:
        while True:
            try:
                await once()
            except GeneratorExit:
                asked.append("to end")

    waiting = stubborn()
    waiting.send(None)
    undying = branch._Undying()
    undying.add(waiting, Context())
    undying.outlive()
    try:
        del waiting, undying
        gc.collect()
        assert asked == []
    finally:
        gc.unfreeze()
    gc.collect()
    assert asked == ["to end"]


def test_where_no_code_is_left_over_python_ends_as_ever() -> None:
    before = gc.get_freeze_count()
    branch._Undying().outlive()
    assert gc.get_freeze_count() == before


def test_what_a_finally_raises_when_its_flow_is_dropped_is_not_raised_to_whoever_drops_it() -> None:
    @coroutine
    def breaks():
        try:
            yield
        finally:
            raise SystemExit

    async def code() -> None:
        await breaks()

    waiting, ends = code(), []
    waiting.send(None)
    Branch(waiting, RunQueue(None), OnEnd(ends.append, ends.append), Context()).close()

    assert waiting.cr_frame is None
    assert ends == []


def test_what_nobody_waits_for_in_this_run_comes_by_the_calendar() -> None:
    due = Due(EPOCH + 10 * SECOND, EPOCH)
    moment = Timestamp(EPOCH, 100.0)

    assert due.instant(moment) == 110.0
    due.arm(moment)
    assert due.instant(Timestamp(EPOCH + 5 * SECOND, 103.0)) == 110.0
