"""Code that is not the one that wrote the history is found out, and told with both places and what to do."""

from datetime import timedelta

import pytest
from persistasaurus.flows import Flow, events, flow, sleep, step, wait_for
from persistasaurus.flows.errors import NondeterminismError
from persistasaurus.flows.machine.history import Recorded
from stories import Story


class Base(Flow):
    @step
    def a(self, x: int) -> int:
        return x

    @step
    def b(self, x: int) -> int:
        return x

    @step
    def renamed(self, x: int) -> int:
        return x


class Recorded1(Base):
    @flow(name="F")
    async def go(self, n: int) -> int:
        await self.a(n)
        await self.b(n)
        await wait_for("end")
        return n


def recorded():
    story = Story(Recorded1.go, 1).start()
    story.run()
    story.run()
    return story


class Renamed(Base):
    @flow(name="F")
    async def go(self, n: int) -> int:
        await self.a(n)
        await self.renamed(n)
        return await wait_for("end", int)


class Swapped(Base):
    @flow(name="F")
    async def go(self, n: int) -> int:
        await self.b(n)
        await self.a(n)
        return await wait_for("end", int)


class Removed(Base):
    @flow(name="F")
    async def go(self, n: int) -> int:
        await self.a(n)
        return await wait_for("end", int)


class OtherArguments(Base):
    @flow(name="F")
    async def go(self, n: int) -> int:
        await self.a(n)
        await self.b(n + 1)
        return await wait_for("end", int)


class Sleeps(Base):
    @flow(name="F")
    async def go(self, n: int) -> int:
        await self.a(n)
        await sleep(1)
        return await wait_for("end", int)


class Nothing(Base):
    @flow(name="F")
    async def go(self, n: int) -> int:
        return await wait_for("end", int)


class Ends(Base):
    @flow(name="F")
    async def go(self, n: int) -> int:
        return await self.a(n)


@pytest.mark.parametrize(
    ("code", "event", "was", "now"),
    [
        (Renamed, 5, "step 2 'b'", "step 2 'renamed'"),
        (Swapped, 2, "step 1 'a'", "step 1 'b'"),
        (Removed, 5, "step 2 'b'", "wait for signal 'end'"),
        (OtherArguments, 5, "step 2 'b'", "step 2 'b'"),
        (Sleeps, 5, "step 2 'b'", "sleep 1"),
        (Ends, 5, "step 2 'b'", "the flow's completion"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_difference_is_told_with_both_sides(code, event, was, now) -> None:
    event -= 1
    story = recorded()

    with pytest.raises(NondeterminismError) as caught:
        story.fork(definition=code.go)

    text = str(caught.value)
    assert f"flow 'ada' (F) does not do what its history says, at event {caught.value.version}" in text
    assert f"recorded:  {was} at test_changed_code.py:" in text
    assert f"attempted: {now}" in text
    if code is not Ends:
        assert f"attempted: {now} at test_changed_code.py:" in text
        assert caught.value.attempted_at.file == __file__
    assert "handle.retry()" in text
    assert story.log[caught.value.version - 1].event in story.of(events.StepStarted)


def test_arguments_that_differ_are_shown() -> None:
    with pytest.raises(NondeterminismError) as caught:
        recorded().fork(definition=OtherArguments.go)

    assert "because" not in str(caught.value)
    assert """recorded arguments:  {"x":1}\n  attempted arguments: {"x":2}""" in str(caught.value)


@pytest.mark.parametrize(("letters", "shown"), [(192, "{0}"), (193, "{1}...")])
def test_arguments_are_shown_up_to_a_length(letters, shown) -> None:
    class Long(Flow):
        @flow(name="F")
        async def go(self, n: str) -> None:
            await self.a(n)

        @step
        def a(self, x: str) -> None: ...

    class Other(Long):
        @flow(name="F")
        async def go(self, n: str) -> None:
            await self.a("")

    story = Story(Long.go, "y" * letters).start()
    with pytest.raises(NondeterminismError) as caught:
        story.fork(definition=Other.go)

    whole = f'{{"x":"{"y" * letters}"}}'
    assert f"recorded arguments:  {shown.format(whole, whole[:197])}\n" in str(caught.value)


def test_a_fact_about_what_the_code_has_not_begun_is_told_with_its_number() -> None:
    story = recorded()
    story.log = [r for r in story.log if not isinstance(r.event, events.StepStarted)]

    with pytest.raises(NondeterminismError, match=r"recorded:  step 1 completed\n"):
        story.fork(definition=Nothing.go)


def test_a_step_that_was_added_at_the_end_is_run() -> None:
    class Longer(Base):
        @flow(name="F")
        async def go(self, n: int) -> int:
            await self.a(n)
            await self.b(n)
            await wait_for("end")
            return await self.renamed(n)

    story = recorded()
    story.send("end", None)
    assert story.status == "completed"
    with pytest.raises(NondeterminismError, match="renamed"):
        story.fork(definition=Longer.go)

    later = recorded().restart(definition=Longer.go)
    later.send("end", None)
    assert later.finish().status == "completed"


def test_a_flow_may_get_a_new_argument_with_a_default() -> None:
    class WithDefault(Base):
        @flow(name="F")
        async def go(self, n: int, more: str = "x") -> int:
            await self.a(n)
            await self.b(n)
            await wait_for("end")
            return n

    assert recorded().fork(definition=WithDefault.go).status == "waiting"


def test_a_flow_that_gets_a_new_argument_without_default_says_so() -> None:
    class Without(Base):
        @flow(name="F")
        async def go(self, n: int, more: str) -> int:
            return n

    with pytest.raises(NondeterminismError, match="more"):
        recorded().fork(definition=Without.go)


def test_a_step_may_get_a_new_argument_with_a_default() -> None:
    class WithDefault(Flow):
        @flow(name="F")
        async def go(self, n: int) -> int:
            await self.a(n)
            await self.b(n)
            await wait_for("end")
            return n

        @step
        def a(self, x: int, more: int = 3) -> int:
            return x + more

        @step
        def b(self, x: int) -> int:
            return x

    assert recorded().fork(definition=WithDefault.go).status == "waiting"
    story = recorded().restart(2, definition=WithDefault.go)
    assert story.run() == ["step_completed", "step_started"]


def test_a_delay_or_a_duration_may_change() -> None:
    class Slower(Flow):
        @flow(name="F")
        async def go(self, n: int) -> int:
            await self.a(n)
            await self.b(n)
            await wait_for("end")
            return n

        @step(delay=timedelta(days=1))
        def a(self, x: int) -> int:
            return x

        @step
        def b(self, x: int) -> int:
            return x

    assert recorded().fork(definition=Slower.go).status == "waiting"


MALFORMED = [
    [events.StepCompleted(1, b"1")],
    [events.StepStarted(1, "a", b"{}")],
    ["start", "start"],
    ["start", events.StepCompleted(1, b"1")],
    ["start", "echo", events.StepCompleted(2, b"1")],
    ["start", "echo", events.StepCompleted(1, b'"not an int"')],
    ["start", "echo", events.StepCompleted(1, b"1"), events.StepCompleted(1, b"1")],
    ["start", "echo", events.StepFailed(2, 1, events.Failure("E", "m"))],
    ["start", "echo", events.StepAttempted(3, 1)],
    ["start", events.StepAttempted(1, 1)],
    ["start", "echo", events.StepInterrupted(9)],
    ["start", "echo", events.TimerFired(1)],
    ["start", "echo", events.FlowCompleted(b"1")],
    ["start", "echo", events.FlowFailed(events.Failure("E", "m"))],
    ["start", "echo", "echo"],
    ["start", events.StepStarted(1, "a", b"not json")],
]


@pytest.mark.parametrize("history", MALFORMED, ids=range(len(MALFORMED)))
def test_a_history_that_makes_no_sense_is_a_nondeterminism(history) -> None:
    start, echo = [r.event for r in recorded().log[:2]]
    whole = [{"start": start, "echo": echo}.get(e, e) if isinstance(e, str) else e for e in history]
    machine = Story(Recorded1.go, 1).machine

    with pytest.raises(NondeterminismError):
        machine.replay([Recorded(i, i, event) for i, event in enumerate(whole, 1)])
