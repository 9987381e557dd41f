"""The store fails: nobody hears a wrong answer, nothing is lost, and it goes on when the store is back."""

from __future__ import annotations

import logging
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import Flow, StoreUnavailable, SupervisorRules, flow, step, wait_for
from persistasaurus.actors.flows.active_flow import RestartRules
from persistasaurus.store import CommitUnknown, StoreFenced, StoreFull, StoreHalted
from system.doubles import DEAD_MAN_S, FaultyStore, completions, live_flows, memory_store, wait_until
from system.reference import Reference, check, drive, insist

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus import FlowSystem

RULES = SupervisorRules(idle_s=0.005, restart=RestartRules(initial_s=0.001, max_restarts=3))


class Waits(Flow):
    @flow
    async def main(self) -> int:
        return await self.double(await wait_for("n", int))

    @step
    def double(self, n: int) -> int:
        return 2 * n


def halted(store: FaultyStore, error: Exception) -> Exception:
    """Have the store behind refuse everything until it is reopened, as the real one would."""
    store.inner._halted = error  # type: ignore[assignment]
    return error


def unknown_and_written(store: FaultyStore) -> None:
    store.inner.commit(store.writes)
    raise halted(store, CommitUnknown("the answer was lost, injected"))


def unknown_and_not_written(store: FaultyStore) -> None:
    raise halted(store, CommitUnknown("the commit was lost, injected"))


def full(store: FaultyStore) -> None:
    raise halted(store, StoreFull("the disk is full, injected"))


def bug(store: FaultyStore) -> None:
    raise halted(store, ZeroDivisionError("injected"))


FAULTS = [unknown_and_written, unknown_and_not_written, full, bug]


def run(make_system: Callable[..., FlowSystem], strike: Callable[[FaultyStore], None], at: int) -> int:
    store = FaultyStore(memory_store(), lambda k, store: strike(store) if k == at else None)
    system = make_system(Reference, rules=RULES, store=store)
    check(drive(system, "reference"))
    system.close()
    return store.commits


@pytest.mark.parametrize("strike", FAULTS, ids=lambda fault: fault.__name__)
def test_a_failure_of_any_commit_changes_nothing(
    make_system: Callable[..., FlowSystem], strike: Callable[[FaultyStore], None]
) -> None:
    commits = run(make_system, strike, at=0)

    assert commits > 10
    for k in range(1, commits + 1):
        run(make_system, strike, at=k)


def test_many_failures_in_a_row_use_up_no_flows_budget(make_system: Callable[..., FlowSystem]) -> None:
    store = FaultyStore(memory_store())
    system = make_system(Waits, rules=RULES, store=store)
    handles = [system.start(Waits.main, flow_id=f"flow-{n}") for n in range(20)]
    store.fail = lambda k, store: full(store) if k % 2 else None
    for n, handle in enumerate(handles):
        insist(lambda handle=handle, n=n: handle.signal("n", n, signal_id="n"))

    assert [handle.result(DEAD_MAN_S) for handle in handles] == [2 * n for n in range(20)]
    assert all(completions(handle) == {1: 1} for handle in handles)


def test_while_the_store_is_halted_everything_is_refused_and_then_goes_on(
    make_system: Callable[..., FlowSystem], caplog: pytest.LogCaptureFixture
) -> None:
    is_back = Event()
    store = FaultyStore(memory_store())

    def not_yet() -> None:
        if not is_back.is_set():
            raise StoreFull("the disk is full, injected")

    store.before_reopen = not_yet
    system = make_system(Waits, rules=RULES, store=store)
    handle = system.start(Waits.main, flow_id="first")
    at = store.commits + 1
    store.fail = lambda k, store: full(store) if k == at else None
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        handle.signal("n", 1, signal_id="n")

    with pytest.raises(StoreUnavailable, match="nothing was written"):
        handle.signal("n", 1, signal_id="n")
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        system.start(Waits.main, flow_id="second")
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        handle.pause()
    assert handle.status == "waiting"
    is_back.set()
    wait_until(lambda: system.store._halted is None)

    insist(lambda: handle.signal("n", 1, signal_id="n"))

    assert handle.result(DEAD_MAN_S) == 2
    assert [m.message.partition(":")[0] for m in caplog.records if m.levelno >= logging.WARNING] == [
        "The store is halted",
        "The store is open again.",
    ]


def test_when_the_outcome_cannot_be_found_out_the_caller_hears_unknown(
    make_system: Callable[..., FlowSystem],
) -> None:
    store = FaultyStore(memory_store())
    system = make_system(Waits, store=store)
    handle = system.start(Waits.main, flow_id="first")
    at, reopens = store.commits + 1, []
    store.fail = lambda k, store: unknown_and_written(store) if k == at else None

    def fail_once() -> None:
        reopens.append(1)
        if len(reopens) == 1:
            raise StoreHalted("not yet, injected")

    store.before_reopen = fail_once
    with pytest.raises(StoreUnavailable, match="the outcome is unknown") as caught:
        handle.signal("n", 1, signal_id="n")

    assert isinstance(caught.value.__cause__, CommitUnknown)
    # Nobody has woken the flow. It is looked for when the store is back, and not only by the next look.
    assert handle.result(5) == 2


def test_when_another_process_owns_the_store_the_engine_stops_and_refuses_everything(
    make_system: Callable[..., FlowSystem], caplog: pytest.LogCaptureFixture
) -> None:
    store = FaultyStore(memory_store())
    system = make_system(Waits, store=store)
    first, second = (system.start(Waits.main, flow_id=name) for name in ("first", "second"))
    failures: list[Any] = []
    watch = first._watch()
    watch.reply.add_done_callback(failures.append)
    wait_until(lambda: supervisor_watches(system) == 1)

    def fenced(_: int, store: FaultyStore) -> None:
        raise halted(store, StoreFenced("epoch 2, injected"))

    store.fail = fenced
    with pytest.raises(StoreUnavailable, match="another process owns the store"):
        second.signal("n", 1)

    with pytest.raises(StoreUnavailable, match="another process owns the store"):
        watch.reply.get(timeout=DEAD_MAN_S)
    for refused in (
        lambda: first.signal("n", 1),
        first.pause,
        lambda: first.result(1),
        lambda: first.query(None),
        lambda: first.status,
        lambda: system.start(Waits.main),
        system.flows,
    ):
        with pytest.raises((StoreUnavailable, TypeError)):
            refused()
    assert store.reopens == 0
    assert [r.levelname for r in caplog.records if r.name == "persistasaurus"] == ["CRITICAL"]


def supervisor_watches(system: FlowSystem) -> int:
    return len(system.supervisor.actor_inbox.owner._watchers)


def test_flows_at_rest_are_not_disturbed_by_a_halted_store(make_system: Callable[..., FlowSystem]) -> None:
    store = FaultyStore(memory_store())
    system = make_system(Waits, rules=RULES, store=store)
    handle = system.start(Waits.main)
    wait_until(lambda: not live_flows(system))
    at = store.commits + 1
    store.fail = lambda k, store: full(store) if k == at else None
    with pytest.raises(StoreUnavailable):
        system.start(Waits.main)

    wait_until(lambda: store.inner._halted is None)
    assert handle.status == "waiting"
    assert handle.id not in live_flows(system)
