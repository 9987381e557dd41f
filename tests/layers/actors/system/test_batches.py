"""Many starts and signals by one call: each has its outcome, and nothing is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Flow,
    FlowAlreadyExists,
    FlowDefinitionError,
    FlowEnded,
    FlowNotFound,
    FlowSystem,
    PartialFailure,
    SignalTo,
    StoreUnavailable,
    SystemClosed,
    flow,
    signal,
    wait_for,
)
from persistasaurus.actors import batches
from persistasaurus.actors.runtime.futures import Reply
from persistasaurus.store import CommitUnknown
from system.doubles import DEAD_MAN_S, FaultyStore, memory_store

if TYPE_CHECKING:
    from collections.abc import Callable


class Greetings(Flow):
    @flow(name="greeting")
    async def greet(self, name: str) -> str:
        return f"hello, {name}"

    @flow(name="waiting")
    async def waits(self, name: str) -> str:
        return f"{name}: {await self.confirm()} {await wait_for('note', str)}"

    @signal
    def confirm(self, number: int) -> int:
        return number


class Strange(Flow):
    @flow(name="strange")
    async def main(self) -> None: ...


@pytest.fixture
def system(make_system: Callable[..., FlowSystem]) -> FlowSystem:
    return make_system(Greetings)


def many(system: FlowSystem, how: str, flows: Any) -> Any:
    return (
        system.start_many(flows)
        if how == "blocking"
        else asyncio.run(awaited(system.start_many_async(flows)))
    )


def send(system: FlowSystem, how: str, signals: Any) -> Any:
    if how == "blocking":
        return system.signal_many(signals)
    return asyncio.run(awaited(system.signal_many_async(signals)))


async def awaited(call: Any) -> Any:
    return await call


HOW = pytest.mark.parametrize("how", ["blocking", "awaited"])


# ---------------------------------------------------------------------------------------------- starts
@HOW
def test_many_flows_are_started_by_one_call_and_the_handles_come_in_order(
    system: FlowSystem, how: str
) -> None:
    handles = many(system, how, [Greetings.greet(f"{n}") for n in range(2500)])

    assert [handle.result(DEAD_MAN_S) for handle in handles] == [f"hello, {n}" for n in range(2500)]
    assert len({handle.id for handle in handles}) == 2500


@HOW
def test_with_ids_the_same_call_again_gives_the_same_flows(system: FlowSystem, how: str) -> None:
    flows = {f"greeting-{n}": Greetings.greet(f"{n}") for n in range(50)}

    first, again = many(system, how, flows), many(system, how, flows)

    assert [handle.id for handle in first] == list(flows) == [handle.id for handle in again]
    assert again[7].result(DEAD_MAN_S) == "hello, 7"
    assert len(system.flows()) == 50


def test_they_share_commits(system: FlowSystem) -> None:
    before = system.statistics().commits

    system.start_many([Greetings.waits(f"{n}") for n in range(1000)])

    assert system.statistics().commits - before < 300


@HOW
def test_what_fails_has_its_error_and_all_others_are_started(system: FlowSystem, how: str) -> None:
    system.start(Greetings.greet, "ada", flow_id="b")

    with pytest.raises(
        PartialFailure, match=r"1 of 3 starts failed; the first is item 1, 'b': FlowAlreadyE"
    ) as e:
        many(system, how, {name: Greetings.greet(name) for name in "abc"})

    one, failed, other = e.value.outcomes
    assert (one.result(DEAD_MAN_S), other.result(DEAD_MAN_S)) == ("hello, a", "hello, c")
    assert isinstance(failed, FlowAlreadyExists)
    assert e.value.errors == {1: failed}
    assert e.value.code == "partial-failure"


@pytest.mark.parametrize(
    ("flows", "error", "text"),
    [
        ([Greetings.greet("ada"), Strange.main()], FlowDefinitionError, "is not registered"),
        ([Greetings.greet("ada"), "bob"], FlowDefinitionError, "is not a flow"),
        ({"a": Greetings.greet("ada"), "": Greetings.greet("bob")}, ValueError, "not a valid flow id"),
        (Greetings.greet("ada"), TypeError, "give a list of calls, or a dict"),
        ("ada", TypeError, "give a list of calls, or a dict"),
    ],
)
def test_where_a_call_cannot_be_right_nothing_is_started(
    system: FlowSystem, flows: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        system.start_many(flows)

    assert system.flows() == []


def test_no_starts_are_no_starts(system: FlowSystem) -> None:
    assert system.start_many([]) == []
    assert system.signal_many([]) == []


def test_when_the_system_is_closed_meanwhile_the_rest_is_said_not_to_be_started(
    system: FlowSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_GROUP", 2)
    begin = system._begin
    begun: list[str] = []

    def begin_and_close(call: Any, flow_id: Any) -> Any:
        if len(begun) == 2:
            system._admission.is_closed = True
            raise SystemClosed("closed meanwhile")
        begun.append(flow_id)
        return begin(call, flow_id)

    monkeypatch.setattr(system, "_begin", begin_and_close)
    with pytest.raises(PartialFailure) as caught:
        system.start_many({name: Greetings.greet(name) for name in "abcde"})

    assert [type(outcome).__name__ for outcome in caught.value.outcomes] == [
        *["FlowHandle"] * 2,
        *["SystemClosed"] * 3,
    ]


def test_when_a_commit_fails_it_says_which_starts_are_not_confirmed(
    make_system: Callable[..., FlowSystem],
) -> None:
    store = FaultyStore(memory_store())
    system = make_system(Greetings, store=store)

    def fail(_: int, store: FaultyStore) -> None:
        if any(write.stream == "b" for write in store.writes):
            store.fail = None
            raise CommitUnknown("the disk is gone")

    store.fail = fail
    flows = {name: Greetings.greet(name) for name in "abc"}
    with pytest.raises(PartialFailure) as caught:
        system.start_many(flows)
    assert all(isinstance(error, StoreUnavailable) for error in caught.value.errors.values())

    assert [handle.result(DEAD_MAN_S) for handle in system.start_many(flows)] == [
        f"hello, {name}" for name in "abc"
    ]


# --------------------------------------------------------------------------------------------- signals
@HOW
def test_many_signals_are_sent_by_one_call_in_order_and_once_for_each_id(
    system: FlowSystem, how: str
) -> None:
    names = [f"{n}" for n in range(300)]
    handles = system.start_many({name: Greetings.waits(name) for name in names})
    signals = [
        signal
        for name in names
        for signal in (
            SignalTo(name, Greetings.confirm(int(name)), signal_id="confirmed"),
            SignalTo(name, "note", "noted", signal_id="note"),
        )
    ]

    first, again = send(system, how, signals), send(system, how, signals)

    assert [handle.result(DEAD_MAN_S) for handle in handles] == [f"{name}: {name} noted" for name in names]
    assert [(receipt.signal_id, receipt.duplicate) for receipt in first[:2]] == [
        ("confirmed", False),
        ("note", False),
    ]
    assert all(receipt.duplicate for receipt in again)


@HOW
def test_signals_that_are_refused_have_their_error_and_all_others_are_recorded(
    system: FlowSystem, how: str
) -> None:
    waits = system.start(Greetings.waits, "ada", flow_id="a")
    assert system.start(Greetings.greet, "bob", flow_id="b").result(DEAD_MAN_S)

    with pytest.raises(
        PartialFailure, match="2 of 4 signals failed; the first is item 0, 'nobody'"
    ) as caught:
        send(
            system,
            how,
            [
                SignalTo("nobody", Greetings.confirm(1)),
                SignalTo("a", Greetings.confirm(2)),
                SignalTo("b", Greetings.confirm(3)),
                SignalTo("a", "note", "noted"),
            ],
        )

    assert {n: type(error) for n, error in caught.value.errors.items()} == {0: FlowNotFound, 2: FlowEnded}
    assert waits.result(DEAD_MAN_S) == "ada: 2 noted"


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (("a", Greetings.confirm(1)), TypeError, r"give SignalTo\(flow_id"),
        (SignalTo("a", Greetings.confirm), TypeError, "is not a signal"),  # type: ignore[arg-type]
        (SignalTo("a", Greetings.confirm(1), 2), TypeError, "has its payload"),
        (SignalTo("", Greetings.confirm(1)), ValueError, "not a valid flow id"),
        (SignalTo("a", Greetings.confirm(1), signal_id="\n"), ValueError, "not a valid signal id"),
    ],
)
def test_where_a_signal_cannot_be_right_nothing_is_sent(
    system: FlowSystem, wrong: Any, error: type[Exception], text: str
) -> None:
    system.start(Greetings.waits, "ada", flow_id="a")

    with pytest.raises(error, match=text):
        system.signal_many([SignalTo("a", Greetings.confirm(1)), wrong])

    assert system.store.inbox("a") == []


def test_signals_that_are_not_confirmed_in_time_are_said_not_to_be(
    system: FlowSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.start(Greetings.waits, "ada", flow_id="a")
    monkeypatch.setattr(batches.Batch, "_sent", lambda *_: Reply())

    with pytest.raises(PartialFailure) as caught:
        system.signal_many([SignalTo("a", Greetings.confirm(1))], timeout=0.01)

    assert isinstance(caught.value.errors[0], TimeoutError)
