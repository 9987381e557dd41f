"""`always_replay` compares what a flow keeps with what its log makes of it: clock, chance, and the like."""

from __future__ import annotations

import os
import random as chance
import threading
import time
import uuid
import weakref
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import pytest
from persistasaurus import (
    Flow,
    FlowFailed,
    NondeterminismError,
    Retry,
    StepError,
    flow,
    gather,
    now,
    query,
    random,
    signal,
    sleep,
    sleep_until,
    step,
    uuid4,
    wait_for,
)
from persistasaurus.actors.flows.replay import rebuild
from persistasaurus.actors.testing import FlowTestKit, World
from persistasaurus.actors.testing.mortal import Death
from persistasaurus.actors.testing.state import first_difference
from persistasaurus.flows import FlowMachine
from simulation import reference_flows
from simulation.outside import renew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

calls = count(1)
grown: list[int] = []
counted = {"calls": 0}


def count_globally() -> int:
    counted["calls"] += 1
    return counted["calls"]


def grow() -> list[int]:
    grown.append(len(grown))
    return [number for number in grown if number >= 0]


SOURCES: dict[str, Callable[[Flow], Any]] = {
    "clock": lambda _: time.time(),
    "monotonic": lambda _: time.monotonic_ns(),
    "calendar": lambda _: {"at": datetime.now()},  # noqa: DTZ005 - as it is done wrong
    "chance": lambda _: [chance.random()],
    "chance kept": lambda _: chance.Random(),
    "uuid": lambda _: uuid.uuid4(),
    "uuid in text": lambda _: f"order-{uuid.uuid4()}",
    "counter": lambda _: next(calls),
    "global": lambda _: count_globally(),
    "growing list": lambda _: grow(),
    "id": lambda flow: {id(flow)},
    "address": object.__repr__,
    "environment": lambda _: os.environ.get("PERSISTASAURUS_WHIM"),
}
AT_ONCE = [name for name in SOURCES if name != "environment"]


@pytest.fixture(name="world")
def _world() -> Iterator[World]:
    with World(always_replay=True) as world:
        yield world


class Whimsical(Flow):
    """Wrong: what it keeps is something else in each replay."""

    @flow(name="in self")
    async def in_self(self, source: str) -> None:
        self.kept = SOURCES[source](self)
        await self.confirm()

    @flow(name="in a local variable")
    async def in_a_variable(self, source: str) -> str:
        kept = SOURCES[source](self)
        await self.confirm()
        return str(kept)[:0]

    @flow(name="deep inside")
    async def deep_inside(self, source: str) -> None:
        await gather(self.confirm(), self.outer(source))

    async def outer(self, source: str) -> None:
        await self.inner({"told": [SOURCES[source](self)]})

    async def inner(self, told: dict[str, Any]) -> None:
        await sleep(1)
        self.told = told

    @flow(name="late")
    async def late(self, source: str) -> None:
        self.kept = None
        await self.confirm()
        self.kept = SOURCES[source](self)

    @flow(name="on another line")
    async def on_another_line(self) -> None:
        if next(calls) % 2:
            await self.confirm()
        else:
            await self.confirm()

    @flow(name="in how much is begun")
    async def in_how_much(self) -> None:
        await gather(*(sleep(1) for _ in range(next(calls))))

    @flow(name="by a step")
    async def by_a_step(self) -> None:
        seen: list[int] = []

        def see(number: int) -> None:
            seen.append(number)

        self.seen, self.see = seen, see
        await self.note(1)
        await sleep(1)

    @step
    def note(self, n: int) -> None:
        self.see(n)

    @signal
    def confirm(self) -> None: ...


def found(error: pytest.ExceptionInfo[NondeterminismError]) -> list[str]:
    return str(error.value).splitlines()


@pytest.mark.parametrize("source", AT_ONCE)
def test_what_is_kept_in_self_is_found_at_the_first_commit(world: World, source: str) -> None:
    with pytest.raises(NondeterminismError) as error:
        world.start(Whimsical.in_self, source, flow_id="w")

    head, where, live, rebuilt, advice = found(error)
    assert head.startswith("always_replay: what the flow's code keeps is not the same")
    assert where.startswith("flow 'w' (in self), after event 2: self.kept")
    assert live.startswith("  live:    ")
    assert rebuilt.startswith("  rebuilt: ")
    assert live.split(maxsplit=1)[1] != rebuilt.split(maxsplit=1)[1]
    assert "now(), random() and uuid4()" in advice
    assert error.value.version == 2


@pytest.mark.parametrize("source", AT_ONCE)
def test_what_is_kept_in_a_local_variable_is_found_at_the_first_commit(world: World, source: str) -> None:
    with pytest.raises(
        NondeterminismError, match=r"after event 2: local `kept.* in `Whimsical\.in_a_variable` at"
    ):
        world.start(Whimsical.in_a_variable, source)


def test_a_local_variable_is_told_with_the_line_where_its_coroutine_waits(world: World) -> None:
    with pytest.raises(NondeterminismError) as error:
        world.start(Whimsical.deep_inside, "clock")

    line = Whimsical.outer.__code__.co_firstlineno + 1
    assert f"local `kept` in `Whimsical.outer` at test_state.py:{line}" not in str(error.value)
    inner = Whimsical.inner.__code__.co_firstlineno + 1
    assert f": local `told['told'][0]` in `Whimsical.inner` at test_state.py:{inner}" in found(error)[1]


def test_what_is_kept_last_is_found_although_the_flow_has_ended(world: World) -> None:
    late = world.start(Whimsical.late, "clock")

    with pytest.raises(NondeterminismError, match=r"self\.kept\n  live:    \d"):
        late.signal(Whimsical.confirm)


def test_the_environment_is_found_at_the_first_commit_after_it_has_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSISTASAURUS_WHIM", "before")
    flow = world.start(Whimsical.in_self, "environment")
    monkeypatch.setenv("PERSISTASAURUS_WHIM", "after")

    with pytest.raises(NondeterminismError, match=r"self\.kept\n  live:    'before'\n  rebuilt: 'after'\n"):
        flow.signal(Whimsical.confirm)


def test_code_that_waits_on_another_line_is_found(world: World) -> None:
    with pytest.raises(
        NondeterminismError,
        match=r"where `Whimsical.on_another_line` waits\n  live:    'test_state.py:\d+'\n  rebuilt: 'test_",
    ):
        world.start(Whimsical.on_another_line)


def test_code_that_has_begun_more_than_the_log_says_is_found(world: World) -> None:
    with pytest.raises(
        NondeterminismError,
        match=r"what has begun and not ended\[\d+\]\n  live:    nothing\n  rebuilt: 'sleep \d+'",
    ):
        world.start(Whimsical.in_how_much)


def test_what_a_step_has_changed_in_the_flow_behind_its_back_is_found(world: World) -> None:
    with pytest.raises(
        NondeterminismError, match=r"self\.seen\[0\]\n  live:    1\n  rebuilt: nothing\n.*a step"
    ):
        world.start(Whimsical.by_a_step)


def test_without_always_replay_nothing_of_it_is_looked_at() -> None:
    with World() as world:
        assert world.start(Whimsical.in_self, "clock").status == "waiting"


class Writer(Flow):
    @flow(name="writer")
    async def write(self) -> None:
        self.text = "so " * 1000 + f"{next(calls):09} words" + " and on" * 1000
        await sleep(1)


def test_long_texts_are_shown_where_they_differ(world: World) -> None:
    with pytest.raises(NondeterminismError) as error:
        world.start(Writer.write)

    sides = found(error)[2:4]
    assert all(len(side) < 130 and " words and on" in side for side in sides)
    assert sides[0].partition("live: ")[2] != sides[1].partition("rebuilt: ")[2]


# -------------------------------------------------------------------------------------- no alarm
class Basket:
    """Without an `__eq__` of its own."""

    def __init__(self) -> None:
        self.lines = deque[str](maxlen=3)
        self.prices = Counter[str]()
        self.lock = threading.Lock()


@dataclass
class Ledger:
    total: Decimal = Decimal(0)
    baskets: list[Basket] = field(default_factory=list)
    last: datetime | None = None
    ratio: float = 0.0


class Item(msgspec.Struct):
    name: str
    price: float = 0.5


class Everything(Flow):
    """Right: it says all that a flow can say, and keeps all sorts of things."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.tags: set[Any] = set()
        self.on_done: Callable[[], None] | None = None
        self.myself = self

    @flow(name="everything")
    async def main(self, names: list[str]) -> list[Any]:
        basket = Basket()
        self.ledger.baskets.append(basket)
        by_basket = {basket: len(names)}
        counting, marker = count(), object()
        for name in names:
            item = await self.price(Item(name))
            basket.lines.append(item.name)
            basket.prices[name] += next(counting)
            self.ledger.total += Decimal(len(names))
            self.ledger.ratio = float("nan")
            self.tags |= {item.name, uuid4(), random(), (name, 1)}
        self.on_done = lambda: None
        charge, later = self.price, self.echo("later")
        said = await later
        self.ledger.last = now()
        await sleep_until(now() + timedelta(days=1))
        share, words = await gather(self.share(by_basket, marker), self.words(2))
        try:
            await self.fails()
        except StepError as error:
            words += [error.type, await self.echo(error.message)]
        errors = await gather(self.fails(), self.raises(), return_exceptions=True)
        doubled = [await self.echo(word) for word in words]
        return [*doubled, said, round(share, 9), len(errors), str(await charge(Item("last")))]

    async def share(self, by_basket: dict[Basket, int], marker: object) -> float:
        chosen = random()
        await sleep(chosen)
        confirmed = await self.confirm()
        return chosen * confirmed * len(by_basket) if marker else 0.0

    async def words(self, many: int) -> list[str]:
        return [await wait_for("word", str) for _ in range(many)]

    async def raises(self) -> None:
        await sleep(1)
        raise ValueError(self.ledger.total)

    @step(retry=Retry(max_attempts=3, initial=timedelta(seconds=1)))
    def price(self, item: Item) -> Item:
        return item

    @step(retry=Retry(max_attempts=2, initial=timedelta(seconds=1)))
    def fails(self) -> None:
        raise ConnectionError("down")

    @step
    async def echo(self, word: str) -> str:
        return word

    @signal
    def confirm(self, factor: int) -> int:
        return factor

    @query
    def tagged(self) -> int:
        return len(self.tags)


def play(world: World) -> list[Any]:
    """Run it to its end, with whatever can happen on the way."""
    world.double(Everything.price).then_raises(OSError, OSError).does(lambda item: item)
    everything = world.start(Everything.main, ["a", "b", "a"], flow_id="e")
    world.clock.advance(hours=1)
    assert everything.query(Everything.tagged) == 10
    everything.signal("word", "early")
    everything.pause()
    world.clock.advance(days=2)
    everything.resume()
    world.clock.advance(minutes=1)
    everything.signal(Everything.confirm, 3)
    everything.signal("word", "late")
    result = everything.result()
    assert everything.query(Everything.tagged) == 10
    return result


def test_a_flow_that_does_the_same_again_raises_no_alarm(world: World) -> None:
    result = play(world)

    assert result[:4] == ["early", "late", "ConnectionError", "down"]


def test_nor_does_it_after_a_crash_at_any_commit() -> None:
    with World(always_replay=True) as calm:
        undisturbed, commits = play(calm), calm.simulation.commits
    assert commits > 20

    for commit in range(1, commits + 1):
        with World(always_replay=True, deaths=[Death(commit, is_durable=bool(commit % 2))]) as world:
            assert play(world) == undisturbed


class Attentive(Flow):
    """Looks whether what it has dropped is gone."""

    @flow(name="attentive")
    async def watch(self) -> bool:
        basket = Basket()
        watching = weakref.ref(basket)
        await self.rest()
        del basket
        self.is_gone = watching() is None
        await self.rest()
        return self.is_gone

    @step
    def rest(self) -> None: ...


def test_looking_at_local_variables_keeps_nothing_alive(world: World) -> None:
    assert world.run(Attentive.watch)


class Doomed(Flow):
    @flow(name="doomed")
    async def go(self) -> int:
        kept = await self.work(1)
        await gather(self.fall(), self.wait(kept))
        return kept

    async def fall(self) -> None:
        await sleep(1)
        raise ValueError("it is over")

    async def wait(self, kept: int) -> int:
        await self.confirm()
        return kept

    @step(on_crash="park")
    def work(self, n: int) -> int:
        return n

    @signal
    def confirm(self) -> None: ...


def test_flows_that_have_failed_or_are_parked_paused_or_repaired_raise_no_alarm(world: World) -> None:
    with pytest.raises(FlowFailed, match="it is over"):
        world.run(Doomed.go)
    slow = world.double(Doomed.work).returns(1).takes(60)
    parked = world.start(Doomed.go)
    world.crash()
    assert parked.status == "parked"
    parked.retry()
    assert parked.status == "running"
    parked.pause()
    world.clock.advance(minutes=5)
    assert (parked.status, len(slow.runs)) == ("paused", 2)
    parked.resume()
    assert parked.status == "waiting"


def test_a_system_that_is_closed_leaves_flows_behind_their_log_and_raises_no_alarm(world: World) -> None:
    work = world.double(Doomed.work).returns(1).takes(1)
    doomed = world.start(Doomed.go)

    world.simulation.stop()  # in good order: its step ends, and its code stands still

    assert (doomed.status, len(work.runs)) == ("waiting", 1)


def test_code_that_was_changed_meanwhile_is_not_compared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(self: Doomed, kept: int) -> int:
        something = "else"
        await self.confirm()
        return kept + len(something)

    doomed = world.start(Doomed.go)
    monkeypatch.setattr(Doomed, "wait", wait)
    doomed.pause()

    assert doomed.status == "paused"


class OtherDoomed(Doomed):
    def __init__(self) -> None:
        self.more = True


def test_machines_that_have_come_to_another_event_or_have_other_code_are_not_compared() -> None:
    kit = FlowTestKit(Doomed.go)
    before = rebuild(Doomed.go, "flow", kit.history)
    kit.step_succeeds(1)
    others = [before, rebuild(OtherDoomed.go, "flow", kit.history), rebuild(Doomed.go, "flow", kit.history)]

    for other in others:
        assert isinstance(other, FlowMachine)
        assert first_difference(kit._machine, other) is None
        other.close()
    kit.close()


class Tidy(Flow):
    tidied: ClassVar[list[str]] = []

    @flow(name="tidy")
    async def go(self) -> None:
        try:
            await wait_for("never")
        finally:
            self.tidied.append("tidied")


def test_what_was_rebuilt_is_closed_at_once(world: World) -> None:
    world.start(Tidy.go)

    assert Tidy.tidied == ["tidied"]


REFERENCES = {
    kind.__name__: kind
    for kind in vars(reference_flows).values()
    if isinstance(kind, type) and issubclass(kind, reference_flows.Steps) and hasattr(kind, "main")
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("crashes", [False, True])
def test_the_reference_flows_raise_no_alarm(world: World, name: str, *, crashes: bool) -> None:
    outside, kind = renew(), REFERENCES[name]
    for word in ("more", "answer", "word"):
        world.answer(word, 1)
    world.answer(kind.confirm, 1)
    reference = world.start(kind.main, *[1][: len(kind.main.parameters.names)], flow_id="r")
    while crashes and reference.status in ("running", "waiting") and world.simulation.crashes < 20:
        world.clock.advance(seconds=1)
        world.crash()
    if reference.status in ("failed", "parked"):
        outside.mended.add("r")
        reference.retry()

    assert reference.result() is not None


def test_all_reference_flows_are_among_them() -> None:
    assert len(REFERENCES) == 19
