"""Values cross borders as values: what one side changes, the other does not see."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Done,
    Flow,
    FlowFailed,
    FlowStateError,
    Retry,
    StepError,
    flow,
    gather,
    query,
    signal,
    step,
    wait_for,
)
from system.doubles import DEAD_MAN_S, FaultyStore, kinds, losing_records, memory_store, wait_until
from system.reference import insist

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus import FlowSystem
    from system.doubles import Gate

AGAIN = Retry(max_attempts=3, initial=timedelta(0))

seen: list[Any] = []
word: ContextVar[str] = ContextVar("word", default="nothing")
_held: dict[str, Any] = {}


def consume(items: list[int], attempts: int) -> int:
    """Work a list off, as one does, and fail on the way unless it is the last attempt."""
    seen.append(list(items))
    total = 0
    while items:
        total += items.pop()
        if len(seen) < attempts and len(items) == 1:
            raise ConnectionError("flaky")
    return total


@step(retry=AGAIN)
def consume_as_a_function(items: list[int]) -> int:
    return consume(items, 3)


@step
def charge(cart: list[int]) -> int:
    seen.append(list(cart))
    return sum(cart)


class Changing(Flow):
    @flow
    async def consume(self, how: str) -> int:
        call = consume_as_a_function if how == "function" else getattr(self, f"consume_{how}")
        return await call([1, 2, 3])

    @step(retry=AGAIN)
    def consume_def(self, items: list[int]) -> int:
        return consume(items, 3)

    @step(retry=AGAIN)
    async def consume_async(self, items: list[int]) -> int:
        return consume(items, 3)

    def has_consumed(self, items: list[int]) -> Done | None:
        items.clear()
        return None

    @step(reconcile=has_consumed)
    def consume_reconciled(self, items: list[int]) -> int:
        _held["gate"]()
        return consume(items, 1)

    @flow
    async def change_the_result(self) -> int:
        cart = await self.load()
        cart.append(100)
        return await charge(cart)

    @step
    def load(self) -> list[int]:
        _held["gate"]()
        return [1]

    @flow
    async def change_what_was_signalled(self) -> list[int]:
        first = await wait_for("free", list[int])
        await _pass()
        first.append(100)
        second = await self.items()
        second.append(100)
        await _pass()
        return first + second

    @signal
    def items(self, items: list[int]) -> list[int]:
        items.append(10)
        return items

    @flow
    async def hand_one_object_to_two_steps(self) -> list[list[int]]:
        items = [1]
        lists = await gather(self.grow(items), self.grow(items), self.keep(items))
        lists[0].append(3)
        return [items, *lists, _held["kept"]]

    @step
    def grow(self, items: list[int]) -> list[int]:
        items.append(2)
        return items

    @step
    async def keep(self, items: list[int]) -> list[int]:
        _held["kept"] = items
        return items

    @flow
    async def take_arguments(self, items: list[int]) -> list[int]:
        items.append(100)
        return await self.grow(items)

    @flow
    async def tell_contexts(self) -> list[str]:
        word.set("the flow")
        found = await gather(self.tell(), self.tell(), self.tell_async(), self.tell_async())
        return [*found, word.get()]

    @step
    def tell(self) -> str:
        before = word.get()
        word.set("a step")
        return before

    @step
    async def tell_async(self) -> str:
        before = word.get()
        word.set("an async step")
        await asyncio.sleep(0)
        return before

    @flow
    async def fail_twice(self) -> list[str]:
        errors = await gather(self.fail(), self.fail(), return_exceptions=True)
        errors[0].add_note("of the first")
        assert isinstance(errors[0], StepError)
        errors[0].message = "changed"
        return [f"{error}, {len(getattr(error, '__notes__', ()))} notes" for error in errors]

    @step
    def fail(self) -> None:
        raise ERROR


class Keeping(Flow):
    def __init__(self) -> None:
        self.items = ["first"]
        self.gate = _held.get("gate")

    @flow
    async def call(self, name: str) -> list[str]:
        await getattr(self, name)()
        return self.items

    @step(retry=AGAIN)
    def change(self) -> None:
        seen.append("change")
        self.items.append("second")

    @step(retry=AGAIN)
    async def change_async(self) -> None:
        seen.append("change_async")
        self.items.append("second")

    @step(retry=AGAIN)
    def assign(self) -> None:
        seen.append("assign")
        self.items = []

    @signal
    def wait(self) -> None: ...

    @flow
    async def grow_meanwhile(self) -> list[list[str]]:
        found = await gather(self.look(), self.grow(), self.look_async())
        return [found[0], found[2], self.items]

    async def grow(self) -> None:
        await self.wait()
        self.items.append("meanwhile")
        await wait_for("go on")

    @step
    def look(self) -> list[str]:
        before = list(self.items)
        self.gate()
        assert before == self.items
        return before

    @step
    async def look_async(self) -> list[str]:
        before = list(self.items)
        await asyncio.to_thread(self.gate)
        assert before == self.items
        return before

    @query
    def kept(self) -> list[str]:
        return self.items

    @query
    def take(self) -> str:
        return self.items.pop()

    @query
    def together(self, others: list[str]) -> list[str]:
        others += self.items
        return others


ERROR = ConnectionError("the same object each time")


@step
async def pass_() -> None: ...


_pass = pass_


@pytest.fixture(autouse=True)
def _forget() -> None:
    seen.clear()
    _held.clear()


@pytest.mark.parametrize("how", ["def", "async", "function"])
def test_each_attempt_at_a_step_gets_the_recorded_arguments(
    make_system: Callable[..., FlowSystem], how: str
) -> None:
    system = make_system(Changing)

    assert system.run(Changing.consume, how) == 6
    assert seen == [[1, 2, 3]] * 3


def test_what_a_reconcile_function_has_changed_the_step_does_not_see(
    make_system: Callable[..., FlowSystem], gate: Gate, tmp_path: Any, killed: Any
) -> None:
    _held["gate"] = gate
    system = make_system(Changing, path=tmp_path / "flows.db")
    system.start(Changing.consume, "reconciled", flow_id="a")
    gate.wait()
    copy = killed(tmp_path / "flows.db")
    gate.open()

    assert make_system(Changing, path=copy).flow("a").result(DEAD_MAN_S) == 6


def test_what_a_flow_does_with_a_result_is_not_seen_after_its_commit_was_lost(
    make_system: Callable[..., FlowSystem], gate: Gate
) -> None:
    _held["gate"] = gate
    store = FaultyStore(memory_store())
    system = make_system(Changing, store=store)
    handle = system.start(Changing.change_the_result)
    gate.wait()
    store.fail = losing_records

    gate.open()

    assert handle.result(DEAD_MAN_S) == 101
    assert seen == [[1, 100]]
    assert store.reopens


def test_what_a_flow_does_with_a_signal_is_not_seen_after_its_commit_was_lost(
    make_system: Callable[..., FlowSystem],
) -> None:
    sent = [1]
    store = FaultyStore(memory_store())
    system = make_system(Changing, store=store)
    handle = system.start(Changing.change_what_was_signalled)
    for name in ("free", "items"):
        store.fail = losing_records  # of the flow's own: a signal's has none
        insist(lambda name=name: handle.signal(name, sent, signal_id=name))
        sent.append(5)

    assert handle.result(DEAD_MAN_S) == [1, 100, 1, 5, 10, 100]


def test_one_object_handed_to_two_steps_is_another_in_each(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Changing)

    assert system.run(Changing.hand_one_object_to_two_steps) == [[1], [1, 2, 3], [1, 2], [1], [1]]


def test_what_a_caller_does_with_arguments_after_a_start_does_not_matter(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Changing)
    items = [1]

    call = Changing.take_arguments(items)
    items.append(2)
    handle = system.start(call)
    items.append(3)

    assert handle.result(DEAD_MAN_S) == [1, 100, 2]
    assert items == [1, 2, 3]


def test_two_who_ask_for_a_result_do_not_share_it(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Changing)
    handle = system.start(Changing.take_arguments, [1])

    first = handle.result(DEAD_MAN_S)
    first.append(1_000)

    assert handle.result() == [1, 100, 2]
    assert [event.event for event in handle.events()] == [event.event for event in handle.events()]
    assert handle.events()[0].event is not handle.events()[0].event


def test_errors_are_made_anew_for_each_who_gets_them(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Changing)

    told = system.run(Changing.fail_twice)

    message = "'fail' failed: ConnectionError: the same object each time"
    assert told == [f"step 1 {message}, 1 notes", f"step 2 {message}, 0 notes"]


def test_steps_and_flows_have_contexts_of_their_own(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Changing)
    word.set("the test")

    for _ in range(3):
        assert system.run(Changing.tell_contexts) == ["nothing"] * 4 + ["the flow"]
    assert word.get() == "the test"


# ------------------------------------------------------------------------------------ what is lent
@pytest.mark.parametrize("name", ["change", "change_async", "assign"])
def test_a_step_that_changes_the_flow_fails_and_is_not_tried_again(
    make_system: Callable[..., FlowSystem], name: str
) -> None:
    system = make_system(Keeping)
    handle = system.start(Keeping.call, name)

    with pytest.raises(FlowFailed, match=f"FlowStateError: {name!r} (changed|assigned to) self.items"):
        handle.result(DEAD_MAN_S)

    assert seen == [name]
    assert handle.query(Keeping.kept) == ["first"]


def test_a_query_that_changes_the_flow_is_refused_and_what_it_returns_is_the_askers(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Keeping)
    handle = system.start(Keeping.call, "wait")
    others = ["mine"]

    handle.query(Keeping.kept).append("from outside")
    together = Keeping.together(others)
    others.append("too late")
    answers = [handle.query(together), handle.query(together), handle.query(Keeping.together, others)]

    assert answers == [["mine", "first"]] * 2 + [["mine", "too late", "first"]]
    assert others == ["mine", "too late"]
    with pytest.raises(FlowStateError, match=r"'take' changed self\.items in place"):
        handle.query(Keeping.take)
    with pytest.raises(FlowStateError, match=r"'take' changed self\.items in place"):
        handle.query_json("take")
    assert handle.query_json("kept") == b'["first"]'
    handle.signal(Keeping.wait)
    assert handle.result(DEAD_MAN_S) == ["first"]


def test_a_flow_that_changes_itself_while_steps_run_raises_no_alarm_and_they_do_not_see_it(
    make_system: Callable[..., FlowSystem], gate: Gate
) -> None:
    _held["gate"] = gate
    system = make_system(Keeping)
    handle = system.start(Keeping.grow_meanwhile)
    gate.wait()
    handle.signal(Keeping.wait)
    handle.signal("go on")
    wait_until(lambda: kinds(handle).count("signal_received") == 2)

    gate.open()

    assert handle.result(DEAD_MAN_S) == [["first"], ["first"], ["first", "meanwhile"]]
