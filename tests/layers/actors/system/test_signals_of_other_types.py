"""A value of another type than the flow waits for is refused where it is sent, wherever that can be known."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Flow,
    FlowHandle,
    FlowSystem,
    SignalRejected,
    SupervisorRules,
    flow,
    gather,
    step,
    wait_for,
)
from persistasaurus.actors.remote.client import RemoteClient
from persistasaurus.flows.values.codec import Codec
from persistasaurus.store import StoreError, StoreReader
from system.doubles import DEAD_MAN_S, kinds, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass
class Item:
    count: int


class Words(Flow):
    """Its code says with which types it waits."""

    @flow(name="plain")
    async def plain(self) -> int:
        return await wait_for("word", int)

    @flow(name="made of others")
    async def made(self) -> tuple[Item, list[Item], int | None]:
        item, items = wait_for("item", Item), wait_for("items", list[Item])
        return await gather(item, items, wait_for("some", of=int | None))

    @flow(name="in order")
    async def in_order(self) -> Any:
        return [await wait_for("word", int), await wait_for("word", str)]

    @flow(name="computed")
    async def computed(self, name: str) -> Any:
        return [await wait_for(name, int), await wait_for("b" + name, list[int])]

    @flow(name="later")
    async def later(self, of: str) -> Any:
        await wait_for("go")
        return await wait_for("word", {"int": int, "str": str}[of])

    @flow(name="slow")
    async def slow(self) -> Any:
        await self.work()
        return await wait_for("word", int)

    @step
    def work(self) -> None: ...


SENDING: dict[str, Callable[[FlowHandle[Any]], Any]] = {
    "by name": lambda handle: handle.signal("word", "x", signal_id="k"),
    "json": lambda handle: handle.signal_json("word", b'"x"', signal_id="k"),
    "async": lambda handle: asyncio.run(_sent(handle)),
}


async def _sent(handle: FlowHandle[Any]) -> Any:
    return await handle.signal_async("word", "x", signal_id="k")


@pytest.mark.parametrize("send", SENDING.values(), ids=SENDING)
@pytest.mark.parametrize("flow", [Words.plain, Words.in_order, Words.slow], ids=lambda flow: flow.name)
def test_a_value_of_another_type_is_refused_and_nothing_is_written(
    make_system: Callable[..., FlowSystem], send: Callable[[FlowHandle[Any]], Any], flow: Any
) -> None:
    system = make_system(Words)
    handle = system.start(flow, flow_id="a")

    with pytest.raises(
        SignalRejected, match=r"signal 'word': .*Expected `int`, got `str`; nothing was written"
    ):
        send(handle)

    assert system.store.inbox("a") == []
    assert not handle.signal("word", 3, signal_id="k").duplicate  # its id is free still
    if flow is Words.in_order:
        handle.signal("word", "x")
    assert handle.result(DEAD_MAN_S) in (3, [3, "x"])
    assert system.store.dead_letters() == []


def test_types_that_are_made_of_others_are_known(make_system: Callable[..., FlowSystem]) -> None:
    handle = make_system(Words).start(Words.made)

    for name, value in (("item", {"count": "x"}), ("items", [{}]), ("some", "x")):
        with pytest.raises(SignalRejected, match=f"signal '{name}'"):
            handle.signal(name, value)
    for name, value in (("item", {"count": 1}), ("items", [Item(2)]), ("some", None)):
        handle.signal(name, value)

    assert handle.result(DEAD_MAN_S) == (Item(1), [Item(2)], None)


@pytest.mark.parametrize("idle_s", [0.0, 60.0], ids=["at rest", "at work"])
def test_a_flow_that_waits_now_is_known_to_by_what_type_whatever_its_code_says(
    make_system: Callable[..., FlowSystem], idle_s: float
) -> None:
    system = make_system(Words, rules=SupervisorRules(idle_s=idle_s))
    handle = system.start(Words.computed, "word", flow_id="a")
    wait_until(lambda: system.client.is_active("a") is bool(idle_s))

    with pytest.raises(SignalRejected, match="Expected `int`, got `str`"):
        handle.signal("word", "x")
    handle.signal("word", 1)
    wait_until(
        lambda: kinds(handle).count("signal_awaited") == 2 and system.client.is_active("a") is bool(idle_s)
    )
    with pytest.raises(SignalRejected, match=r"signal 'bword'"):
        handle.signal("bword", 1)
    handle.signal("bword", [1])

    assert handle.result(DEAD_MAN_S) == [1, [1]]
    assert system.store.dead_letters() == []


def test_signals_that_are_acknowledged_and_not_yet_taken_count(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Words)
    for _ in range(20):
        handle = system.start(Words.in_order)
        handle.signal("word", 1)
        handle.signal("word", "x")
        assert handle.result(DEAD_MAN_S) == [1, "x"]


def test_nothing_is_known_of_a_flow_that_has_not_looked_at_what_came_before(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Words)
    handle = system.start(Words.in_order, flow_id="a")
    handle.pause()
    handle.signal("word", 1)
    wait_until(lambda: not system.store.inbox("a"))
    handle.signal("word", "x")
    handle.resume()

    assert handle.result(DEAD_MAN_S) == [1, "x"]


def test_a_store_that_cannot_be_read_refuses_nothing(
    make_system: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = make_system(Words)
    handle = system.start(Words.computed, "word", flow_id="a")
    wait_until(lambda: handle.status == "waiting")

    def fail(*_: Any, **__: Any) -> None:
        raise StoreError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(system.store, "inbox", fail)
        assert system.client.awaited.refusal("a", "word", b'"x"') is None
    assert system.client.awaited.refusal("a", "word", b'"x"') is not None
    assert system.client.awaited.refusal("a", "word", b"3") is None
    assert system.client.awaited.refusal("a", "other", b"3") is None
    assert system.client.awaited.refusal("b", "word", b"3") is None


def test_of_flows_at_rest_so_many_are_known_that_memory_stays_small(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Words, rules=SupervisorRules(idle_s=0.0))
    handle = system.start(Words.computed, "word", flow_id="a")
    wait_until(lambda: kinds(handle)[-1] == "signal_awaited" and not system.client.is_active("a"))
    assert system.client.awaited.refusal("a", "word", b'"x"') is not None

    for number in range(10_000):
        system.client.awaited.passivate(f"b{number}", {"word": Codec(int, "a word")})

    assert len(system.client.awaited._passivated) <= 10_000
    assert system.client.awaited.refusal("a", "word", b'"x"') is None


def test_the_same_signal_again_is_answered_the_same_though_the_flow_waits_for_another_type_now(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Words)
    handle = system.start(Words.computed, "word", flow_id="a")
    handle.signal("word", 1, signal_id="k")
    handle.signal("bword", [1], signal_id="l")
    handle.result(DEAD_MAN_S)

    assert handle.signal("word", 1, signal_id="k").duplicate
    assert handle.signal("bword", [1], signal_id="l").duplicate


def test_where_nobody_waits_yet_it_is_kept_and_becomes_a_dead_letter_with_the_reason(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    system = make_system(Words, path=path)
    handle = system.start(Words.later, "int", flow_id="a")
    handle.signal("word", "x", signal_id="early")
    handle.signal("word", 3, signal_id="right")
    handle.signal("go")

    assert handle.result(DEAD_MAN_S) == 3
    (letter,) = system.store.dead_letters()
    assert (letter.key, letter.name) == ("early", "word")
    assert "Expected `int`, got `str`" in letter.reason
    with StoreReader.open(path) as reader:
        assert list(reader.query("SELECT key, status FROM signals WHERE key = 'early'", ())) == [
            ("early", "refused")
        ]


def test_a_signal_for_a_parked_flow_is_kept_since_other_code_may_take_it(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    class Before(Flow):
        @flow(name="plain")
        async def plain(self) -> Any:
            await self.work()
            return await wait_for("word", int)

        @step
        def work(self) -> None: ...

    system = make_system(Before, path=path)
    handle = system.start(Before.plain, flow_id="a")
    wait_until(lambda: handle.status == "waiting")
    system.close()
    system = make_system(Words, path=path)  # other code: it has no such step
    handle = system.flow("a")
    system.client.wake("a")
    wait_until(lambda: handle.status == "parked")

    handle.signal("word", "x", signal_id="k")

    assert [entry.key for entry in system.store.inbox("a")] == ["k"]


def test_another_process_hears_it_too(make_system: Callable[..., FlowSystem], path: Path) -> None:
    system = make_system(Words, path=path)
    system.start(Words.computed, "word", flow_id="a")

    with RemoteClient(path) as client:
        answered = client.signal("a", "word", b'"x"').wait(DEAD_MAN_S)

    assert answered is not None
    with pytest.raises(SignalRejected, match="Expected `int`, got `str`"):
        answered.result("a")
    assert system.store.dead_letters() == []
