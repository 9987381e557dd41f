"""Loans: steps and queries get a copy of the flow's state; whoever changes what he was lent hears so."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from persistasaurus.flows import Done, Flow, flow, gather, query, signal, sleep, step
from persistasaurus.flows.errors import FlowStateError
from persistasaurus.flows.values.loan import Loan
from stories import Story

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Line:
    items: list[int] = field(default_factory=list)
    name: str = ""
    noted: int = field(default=0, compare=False)

    @cached_property
    def total(self) -> int:
        return sum(self.items)


class Struct(msgspec.Struct):
    items: list[int]
    n: int = 0


class Pairing(NamedTuple):
    name: str
    items: list[int]


class Plain:
    def __init__(self) -> None:
        self.items = [1]
        self.n = 0


class Slotted:
    __slots__ = ("items", "n")

    def __init__(self) -> None:
        self.items = [1]


class Basket(list[Any]):
    """Derived from a collection."""


class Client:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls = 0


class Numbers:
    """As those of numpy: a comparison is none of true and false, and copies are made its own way."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def __eq__(self, other: object) -> Any:
        return [True]

    def __bool__(self) -> bool:
        raise ValueError("ambiguous")

    def __hash__(self) -> int:
        return 1

    def __deepcopy__(self, memo: Any) -> Numbers:
        return Numbers(*self.numbers)


class NeverTheSame(Numbers):
    """Each copy is another one."""

    def __eq__(self, other: object) -> Any:
        return self is other

    def __hash__(self) -> int:
        return 1

    def __deepcopy__(self, memo: Any) -> NeverTheSame:
        return NeverTheSame(*self.numbers, 1)


class State(Flow):
    """Whatever a flow may keep."""

    def __init__(self) -> None:
        self.items = [1]
        self.rows: list[dict[str, Any]] = [{"a": 1}, {"a": [2]}]
        self.table = {"a": {"b": [1]}}
        self.names = {"a"}
        self.many = defaultdict(list, {"a": [1]})
        self.order = OrderedDict(a=1, b=2)
        self.count = Counter("aab")
        self.queue = deque([1, [2]], maxlen=3)
        self.data = bytearray(b"abc")
        self.pair = Pairing("a", [1])
        self.frozen = (1, [2])
        self.line = Line([1])
        self.struct = Struct([1])
        self.plain = Plain()
        self.slotted = Slotted()
        self.basket = Basket([1])
        self.numbers = Numbers(1, 2)
        self.new_each_time = NeverTheSame(1)
        self.client = Client()
        self.clients = {"a": [self.client]}
        self.me = self
        self.lookup = self.find
        self.n = 1
        self.nan = [float("nan")]

    @cached_property
    def total(self) -> int:
        return sum(self.items)

    def find(self) -> Any:
        return self


class Slots(Flow):
    __slots__ = ("kept", "unset")

    def __init__(self) -> None:
        self.kept = [1]


CHANGES: dict[str, tuple[Callable[[State], Any], str]] = {
    "list": (lambda s: s.items.append(2), "self.items in place: self.items[1] was nothing, and is 2"),
    "list's part": (
        lambda s: s.items.__setitem__(0, 5),
        "self.items in place: self.items[0] was 1, and is 5",
    ),
    "sorted": (lambda s: s.rows.reverse(), "self.rows in place: self.rows[0]"),
    "dict in a list": (lambda s: s.rows[0].update(a=2), "self.rows in place: dict['a'] was 1, and is 2"),
    "list in a dict": (lambda s: s.rows[1]["a"].pop(), "self.rows in place: list[0] was 2, and is nothing"),
    "dict": (lambda s: s.table.pop("a"), "self.table in place: self.table['a'] was"),
    "dict in a dict": (
        lambda s: s.table["a"].update(c=1),
        "self.table in place: dict['c'] was nothing, and is 1",
    ),
    "set": (lambda s: s.names.add("b"), "self.names in place: self.names (a member) was"),
    "default dict": (lambda s: s.many["b"], "self.many in place: self.many['b'] was nothing, and is []"),
    "ordered dict": (lambda s: s.order.update(c=3), "self.order in place: self.order['c']"),
    "counter": (lambda s: s.count.update("a"), "self.count in place: self.count['a'] was 2, and is 3"),
    "deque": (lambda s: s.queue.append(3), "self.queue in place: self.queue[2] was nothing, and is 3"),
    "bytearray": (lambda s: s.data.append(3), "self.data in place: self.data was bytearray(b'abc')"),
    "named tuple": (lambda s: s.pair.items.append(2), "self.pair in place: self.pair[1]"),
    "tuple": (lambda s: s.frozen[1].append(2), "self.frozen in place: self.frozen[1]"),
    "dataclass": (
        lambda s: setattr(s.line, "name", "x"),
        "self.line in place: self.line.name was '', and is 'x'",
    ),
    "in a dataclass": (lambda s: s.line.items.append(2), "self.line in place: list[1] was nothing, and is 2"),
    "struct": (lambda s: setattr(s.struct, "n", 2), "self.struct in place: self.struct.n was 0, and is 2"),
    "in a struct": (lambda s: s.struct.items.append(2), "self.struct in place: list[1]"),
    "object": (lambda s: setattr(s.plain, "n", 2), "self.plain in place: self.plain.n was 0, and is 2"),
    "new attribute": (
        lambda s: setattr(s.plain, "x", 2),
        "self.plain in place: self.plain.x was nothing, and is 2",
    ),
    "slots": (
        lambda s: setattr(s.slotted, "n", 2),
        "self.slotted in place: self.slotted.n was nothing, and is 2",
    ),
    "in slots": (lambda s: s.slotted.items.append(2), "self.slotted in place: list[1]"),
    "derived": (lambda s: s.basket.append(2), "self.basket in place: self.basket[1]"),
    "as it says": (lambda s: setattr(s.numbers, "more", 2), ""),
    "assigned": (lambda s: setattr(s, "n", 2), "assigned to self.n"),
    "deleted": (lambda s: delattr(s, "n"), "assigned to self.n"),
    "assigned through itself": (lambda s: setattr(s.me, "n", 2), "assigned to self.n"),
    "assigned through a method": (lambda s: setattr(s.lookup(), "n", 2), "assigned to self.n"),
    "smuggled in": (lambda s: vars(s).update(n=2), "self in place: self.n was 1, and is 2"),
    "smuggled out": (lambda s: vars(s).pop("n"), "self in place: self.n was 1, and is nothing"),
}
NO_CHANGES: dict[str, Callable[[State], Any]] = {
    "nothing": lambda _: None,
    "a look": lambda s: (s.items, s.rows, s.table["a"], s.line == Line([1]), s.numbers.numbers),
    "there and back": lambda s: (s.items.append(2), s.items.pop()),
    "an equal part": lambda s: s.rows.__setitem__(0, {"a": 1}),
    "an equal object": lambda s: s.items.__setitem__(slice(None), [1.0]),
    "another order of what has none": lambda s: s.order.update(s.order),
    "what its owner does not compare": lambda s: setattr(s.line, "noted", 3),
    "what is worked out late": lambda s: (s.total, s.line.total),
    "its own copy": lambda s: s.items.copy().append(2),
    "a client": lambda s: (setattr(s.client, "calls", 5), s.clients["a"][0].lock.acquire()),
    "nan": lambda s: s.nan.__setitem__(0, float("nan")),
    "what nobody can tell": lambda s: setattr(s.new_each_time, "numbers", (3,)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_what_is_lent_is_refused_and_has_no_effect(name: str) -> None:
    change, expected = CHANGES[name]
    state, untouched = State(), State()

    if expected:
        with pytest.raises(FlowStateError) as refused, Loan(state, "work", {}) as view:
            change(view)
        assert expected in str(refused.value)
        assert str(refused.value).startswith("'work' ")
    else:
        with Loan(state, "work", {}) as view:
            change(view)

    state.client = untouched.client
    with Loan(untouched, "work", {}) as before, Loan(state, "work", {}) as after:
        assert before.items == after.items
        assert before.rows == after.rows
        assert before.line == after.line
        assert vars(before.plain) == vars(after.plain)
        assert (before.n, before.names, before.data) == (after.n, after.names, after.data)


@pytest.mark.parametrize("name", NO_CHANGES)
def test_what_changes_no_value_is_fine(name: str) -> None:
    with Loan(State(), "work", {}) as view:
        NO_CHANGES[name](view)


def test_a_client_is_the_same_one_for_all() -> None:
    state = State()
    shared: dict[int, Any] = {}

    with Loan(state, "work", shared) as view, Loan(state, "work", shared) as other:
        assert view.client is other.client is view.clients["a"][0] is state.client


def test_attributes_in_slots_are_lent_as_well() -> None:
    state = Slots()

    with (
        pytest.raises(FlowStateError, match=r"self.kept in place: self.kept\[1\]"),
        Loan(state, "a", {}) as view,
    ):
        view.kept.append(2)
    with (
        pytest.raises(FlowStateError, match=r"self in place: self.unset was nothing"),
        Loan(state, "a", {}) as view,
    ):
        object.__setattr__(view, "unset", 1)
    assert state.kept == [1]


def test_what_was_raised_meanwhile_is_told_with_the_change() -> None:
    def fail(error: BaseException, *more: int) -> None:
        with Loan(State(), "work", {}) as view:
            view.items.extend(more)
            raise error

    with pytest.raises(FlowStateError) as refused:
        fail(ConnectionError("no answer"), 2)
    assert str(refused.value.__cause__) == "no answer"
    with pytest.raises(SystemExit):
        fail(SystemExit(1), 2)
    with pytest.raises(ConnectionError):
        fail(ConnectionError("no answer"))


# ------------------------------------------------------------------------------------------ in a flow
class Keeper(Flow):
    def __init__(self) -> None:
        self.seen: list[int] = []

    @flow
    async def go_on_meanwhile(self) -> list[Any]:
        found = await gather(self.tell(), self.note_some(), self.tell())
        return [*found, await self.tell(), self.seen]

    async def note_some(self) -> None:
        for number in range(3):
            await sleep(0)
            self.seen.append(number)

    @flow
    async def fail_in(self, name: str) -> list[int]:
        await getattr(self, name)()
        return self.seen

    @step
    def tell(self) -> list[int]:
        return self.seen

    @step
    def change(self) -> None:
        self.seen.append(1)

    @step
    async def change_async(self) -> None:
        self.seen.append(1)

    @signal
    def change_by_signal(self) -> None:
        self.seen.append(1)

    def finds_out(self) -> Done | None:
        self.seen.append(1)
        return Done(None)

    @step(reconcile=finds_out)
    def reconciled(self) -> None: ...

    @query
    def so_far(self, more: list[int]) -> list[int]:
        more.extend(self.seen)
        return more

    @query
    def pop(self) -> int:
        return self.seen.pop()

    @query
    def kept(self) -> list[int]:
        return self.seen


def test_a_flow_that_goes_on_while_a_step_runs_raises_no_alarm() -> None:
    story = Story(Keeper.go_on_meanwhile).start()
    first, second = sorted(story.runs)
    lent = [story.machine.lend(story.runs[number].run) for number in (first, second)]
    for loan in lent:
        assert loan is not None
    with lent[0] as early, lent[1]:
        for _ in range(3):
            story.wait()
        assert early.seen == []

    story.finish()

    assert story.result[0] in ([], [0, 1, 2])
    assert story.result[3:] == [[0, 1, 2]] * 2


@pytest.mark.parametrize("name", ["change", "change_by_signal"])
def test_a_step_that_changes_the_flow_fails_and_so_it_is_in_each_replay(name: str) -> None:
    story = Story(Keeper.fail_in, name).start()
    if name == "change_by_signal":
        story.signal(Keeper.change_by_signal())
    story.finish()
    story = story.restart()

    assert story.status == "failed"
    assert "FlowStateError" in story.error.message
    assert f"{name!r} changed self.seen in place: self.seen[0] was nothing, and is 1" in story.error.message
    assert story.machine.query(Keeper.kept.query, (), {}) == []


def test_a_reconcile_function_that_changes_the_flow_has_not_found_out() -> None:
    story = Story(Keeper.fail_in, "reconciled").start()
    story = story.restart()
    story.reconcile(1)

    assert story.status == "parked"
    assert "FlowStateError" in story.machine.parked.message


def test_queries_change_nothing_and_hand_out_nothing_that_is_the_flows() -> None:
    story = Story(Keeper.go_on_meanwhile).start()
    for _ in range(3):
        story.wait()
    ask = story.machine.query
    mine = [7]
    call = Keeper.so_far(mine)
    mine.append(8)

    answers = [ask(call.query, call.args, call.kwargs) for _ in range(2)]
    answers[0].append(9)

    assert answers[1] == [7, 0, 1, 2]
    ask(Keeper.kept.query, (), {}).append(9)
    with pytest.raises(
        FlowStateError, match=r"'pop' changed self.seen in place: self.seen\[2\] was 2, and is nothing"
    ):
        ask(Keeper.pop.query, (), {})
    assert ask(Keeper.kept.query, (), {}) == [0, 1, 2]


def test_a_default_that_can_be_changed_is_another_one_for_each_call() -> None:
    @step
    def collect(item: int, into: list[int] = []) -> list[int]:  # noqa: B006 - as it is done
        into.append(item)
        return into

    bound = [collect.parameters.bind((n,), {}) for n in range(2)]
    decoded = [collect.parameters.decode(b'{"item": 5}') for _ in range(2)]

    assert [collect.parameters.call(values) for values in [*bound, *decoded]] == [[0], [1], [5], [5]]
