"""Which signals a flow can ever wait for: a name is refused when that is certain, and only then."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import logging
from collections.abc import Awaitable, Callable  # noqa: TC003 - of annotations that are looked at
from contextvars import ContextVar
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, Generic, NamedTuple, NewType, TypeVar

import msgspec
import persistasaurus
import pytest
from persistasaurus import (
    Flow,
    SignalNotFound,
    StepError,
    flow,
    gather,
    now,
    query,
    signal,
    sleep,
    step,
    wait_for,
)
from persistasaurus import wait_for as wait_for_it
from persistasaurus.actors.testing import FlowTestKit
from persistasaurus.flows.authoring.signal_names import FlowCode, signal_types
from persistasaurus.flows.examples import HelloWorldFlow, SignupFlow

logger = logging.getLogger(__name__)
T = TypeVar("T")
Key = NewType("Key", str)
WORD = "word"
PRICES = {"a": 1, "b": [1, 2]}


def signal_names(definition: FlowCode) -> set[str] | None:
    types = signal_types(definition)
    return None if types is None else set(types)


# ---------------------------------------------------------------------------------- what can be known
class Colour(enum.Enum):
    RED = "red"

    def darker(self) -> Colour:
        return self


class Item(msgspec.Struct):
    count: int
    colour: Colour
    key: Key

    def total(self) -> int:
        return 2 * self.count


@dataclasses.dataclass
class Order:
    items: list[Item]
    at: datetime = datetime.max  # noqa: DTZ901 - any

    async def approved(self) -> bool:
        return await wait_for("approved by the order", bool)


class Point(NamedTuple):
    x: int


class Box(msgspec.Struct, Generic[T]):
    value: T


async def helper(word: str = WORD) -> str:
    logger.info("%s", word)
    return await wait_for("helped", str)


def logged(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    async def wrapped(*args: Any) -> Any:
        return await function(*args)

    return wrapped


@logged
async def decorated() -> Any:
    return await wait_for("decorated")


@functools.cache
def cached() -> Any:
    return wait_for("cached")


LONG_WAITED_FOR = wait_for("long waited for")


@contextlib.contextmanager
def block() -> Any:
    yield


class Approving:
    async def approve(self) -> Any:
        return await wait_for("approved by an object")


class Mixin:
    async def never_called(self) -> Any:
        return await wait_for("never")

    @signal
    def mixed_in(self, n: int) -> int:
        return n

    async def inherited(self) -> Any:
        return await wait_for("inherited")


class Known(Mixin, Flow):
    limit = 3
    origin = Point(0)

    @flow(name="known")
    async def main(self, order: Order, box: Box[Item], n: int | None = None) -> Any:
        one = await wait_for("one", str)
        two = [await wait_for_it("two"), await persistasaurus.wait_for("three", dict[str, int])]
        for _ in range(n or 1):
            await gather(wait_for("four", of=int | None), *[wait_for(name="five") for _ in two], self.own())
        with block():
            await helper()
        await decorated()
        await cached()
        await LONG_WAITED_FOR
        await self.inherited() or await order.approved()
        await Approving().approve()
        if sum(item.total() for item in order.items) + PRICES["a"] > self.limit and now() > order.at:
            await sleep(timedelta(days=1))
            return f"{one} {box.value.colour.darker()} {self.origin.x}"
        return await self.confirm()

    async def own(self) -> Any:
        try:
            return await (lambda name: wait_for("six"))(name=self.limit)  # noqa: PLC3002 - any function
        except StepError as error:
            raise ValueError(error.message) from error

    def used_by_steps(self) -> Any:
        return getattr(approving, WORD)(LATER)

    @step
    def work(self, what: str) -> Item:
        return getattr(self, what)  # no wait: it is a step

    @signal
    def confirm(self, by: str) -> str:
        return getattr(self, by)

    @query
    def look(self) -> Any:
        return vars(self)


@flow(name="plain")
async def plain(n: int) -> Any:
    return await wait_for("plain", int)


@flow(name="nothing")
async def nothing() -> None:
    await sleep(1)


def test_what_is_written_out_in_all_that_a_flow_can_get_hold_of_is_known() -> None:
    assert signal_names(Known.main) == {
        *("one", "two", "three", "four", "five", "six"),
        *("helped", "decorated", "inherited", "approved by the order", "approved by an object"),
        *("cached", "long waited for"),
        *("confirm", "mixed_in"),
    }
    assert signal_names(plain) == {"plain"}
    assert signal_names(nothing) == set()
    assert signal_names(SignupFlow.sign_up) == {"confirm_email_address"}
    assert signal_names(HelloWorldFlow.say_hello) == set()


class Narrow(Known):
    """Overrides a signal, and the method that waits."""

    async def own(self) -> Any:
        return await wait_for("seven")

    @signal(name="confirmed")
    def confirm(self, by: str) -> str:
        return by


def test_a_subclass_takes_what_its_bases_take_and_its_own() -> None:
    names = signal_names(Narrow.main)

    assert names is not None
    assert {"seven", "confirmed", "mixed_in"} <= names


# -------------------------------------------------------------------------------- what cannot be known
NAMES = ["a", "b"]
HANDLERS = {"a": helper}
LATER: dict[str, Any] = {}
AROUND: ContextVar[Any] = ContextVar("around")
THINGS = SimpleNamespace(wait=wait_for)
approving = Approving()
partly = functools.partial(wait_for, "partly")
several = gather(wait_for("several"))


class Lazy:
    def __getattr__(self, name: str) -> Any:
        return wait_for(name)


lazy = Lazy()


async def computed(name: str) -> Any:
    return await wait_for(name)


async def by_default(wait: Any = wait_for) -> Any:
    return await wait("by default")


def made(wait: Any) -> Any:
    async def inner() -> Any:
        return await wait("made")

    return inner


made_here = made(wait_for)


class Table(msgspec.Struct):
    async def approved(self, name: str) -> bool:
        return await wait_for(name, bool)


ANYTHING = """
await wait_for(name)
await wait_for("x" + name)
await wait_for(f"x-{name}")
await wait_for("x".lower())
await wait_for("x" % ())
await wait_for("a" if name else "b")
await wait_for(WORD)
await wait_for(*["x"])
await wait_for(**{"name": "x"})
await wait_for(of=str, name="x")
await wait_for("x", str if name else int)
[await wait_for(one) for one in ("a", "b")]
await wait_for_it(name)
await persistasaurus.wait_for(name)
await getattr(persistasaurus, "wait_" + "for")("x")
await (lambda: wait_for)()("x")
await (await gather(*map(wait_for, NAMES)))[0]
wait = wait_for; await wait(name)
from persistasaurus import wait_for as other; await other(name)
from flows import test_signal_names as module; await module.computed(name)
from .calendar import wait; await wait(name)
import importlib; await importlib.import_module("persistasaurus").wait_for(name)
await computed("x")
await computed.__wrapped__("x")
await HANDLERS[name]()
await LATER[name]()
await AROUND.get()(name)
await THINGS.wait(name)
await approving.approve()
await lazy.anything
await partly()
await several
match table:\\n        case Table(approved=wait): await wait(name)
await by_default()
await made_here()
await eval("wait_for")(name)
await globals()["wait_for"](name)
await not_there_yet(name)
await table.approved(name)
""".strip().splitlines()
ANYTHING = [line.replace("\\n", "\n") for line in ANYTHING]


@pytest.mark.parametrize("line", ANYTHING)
def test_what_may_wait_for_anything_is_not_said_to_know_its_names(line: str) -> None:
    source = "async def body(name: str, table: Table):\n    " + line
    space = dict(globals())
    exec(source, space)

    assert signal_names(flow(name="any")(space["body"])) is None


def test_so_does_a_flow_that_uses_it_far_away() -> None:
    class Far(Flow):
        @flow(name="far")
        async def main(self) -> Any:
            return await self.first()

        async def first(self) -> Any:
            async def second() -> Any:
                return await computed("x")

            return await gather(second())

    assert signal_names(Far.main) is None


class Table2(msgspec.Struct):
    tables: list[Table]


def test_so_does_a_flow_that_is_given_what_can_wait_inside_of_what_a_step_returns() -> None:
    class Given(Flow):
        @flow(name="given")
        async def main(self) -> Any:
            return await (await self.load()).tables[0].approved("x")

        @step
        def load(self) -> Table2 | None: ...

    assert signal_names(Given.main) is None


def test_so_does_a_flow_that_uses_a_whole_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistasaurus.flows.authoring.signal_names, "_MOST", 5)

    assert signal_names(Known.main) is None
    assert signal_names(plain) == {"plain"}


def test_before_a_name_is_refused_it_is_looked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    @flow(name="changing")
    async def changing() -> Any:
        return await wait_for("before")

    async def other() -> Any:
        return await wait_for("after")

    assert changing.takes_signal("before")
    assert not changing.takes_signal("after")
    monkeypatch.setattr(changing, "function", other)

    assert changing.takes_signal("after")
    assert changing.signal_names == ("after",)
    assert not changing.takes_signal("before")


def test_a_flow_that_may_wait_for_anything_takes_anything() -> None:
    @flow(name="any")
    async def anything(name: str) -> Any:
        return await wait_for(name)

    assert anything.takes_signal("whatever")
    assert anything.signal_names == ()


def test_the_kit_refuses_what_a_system_would() -> None:
    kit = FlowTestKit(plain, 1)

    with pytest.raises(SignalNotFound, match="Did you mean 'plain'"):
        kit.signal_named("plane", 1)
    kit.signal_named("plain", 7)

    assert kit.result == 7
