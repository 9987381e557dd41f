"""What went wrong in the recovery of others, and must not here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from historic.flows import DEAD_MAN_S, BadReads, Errand, Held, Stubborn, effects, finish_errand
from persistasaurus import FlowAlreadyExists, FlowSystem, StoreUnavailable
from persistasaurus.actors.testing.mortal import Death
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.flows import events
from persistasaurus.store import Durability, SqliteStore
from store.takeover import locks_that_do_not_hold

if TYPE_CHECKING:
    from pathlib import Path

    from persistasaurus.actors.runtime.primitives import ManualClock

DEATHS = [(commit, durable) for commit in range(1, 12) for durable in (False, True)]


@pytest.fixture(autouse=True)
def _no_effects() -> None:
    effects.clear()
    Held.arrived.clear()
    Held.let_go.clear()


# dbos-transact-py #759: each recovery of a flow whose id was empty began another one; for a month.
def test_no_id_is_empty_and_recovery_makes_no_new_flow() -> None:
    with Simulation([Errand]) as simulation:
        for nobody in ("", "\n", "a\0b"):
            with pytest.raises(ValueError, match="flow id"):
                simulation.system.start(Errand.run, flow_id=nobody)
        assert simulation.system.flows() == []
        simulation.insist(lambda system: system.start(Errand.run, flow_id="only"))
        for _ in range(20):
            simulation.crash()
            simulation.run_until_idle()
            assert [found.stream for found in simulation.system.flows()] == ["only"]

        assert finish_errand(simulation, "only") == "hello"
        assert 1 <= effects["only/leave"] <= 21
        assert effects["only/arrive"] == 1


# dbos-transact-py #769: an id that was used again got a result of the run before. Nothing is deleted here;
# so an id is one run, for ever.
def test_an_id_that_was_used_never_means_another_run() -> None:
    with Simulation([Errand, Stubborn]) as simulation:
        simulation.insist(lambda system: system.start(Errand.run, 1.0, flow_id="one"))
        result = finish_errand(simulation, "one")
        simulation.crash()

        with pytest.raises(FlowAlreadyExists):
            simulation.system.start(Errand.run, 2.0, flow_id="one")
        with pytest.raises(FlowAlreadyExists):
            simulation.system.start(Stubborn.run, flow_id="one")
        assert simulation.system.start(Errand.run, 1.0, flow_id="one").result(timeout=1) == result
        assert effects["one/leave"] == effects["one/arrive"] == 1


# dbos-transact-py #742, #804, #232, dbos-transact-ts #706: a process that was on its way out took flows
# back from the one that had recovered them.
def test_who_was_overtaken_records_nothing_more_and_takes_nothing_back(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    flows = [Held]
    with FlowSystem(path, flows=flows, durability=Durability.MAY_LOSE_LAST_COMMITS) as old:
        old.start(Held.run, flow_id="held")
        assert Held.arrived.wait(DEAD_MAN_S)
        with locks_that_do_not_hold(path):
            new = FlowSystem(path, flows=flows, durability=Durability.MAY_LOSE_LAST_COMMITS)
        with new:
            assert new.flow("held").result(timeout=DEAD_MAN_S) == "second"
            recorded = new.flow("held").events()
            Held.let_go.set()
            with pytest.raises(StoreUnavailable):
                old.start(Held.run, flow_id="another")
            assert new.flow("held").events() == recorded
            assert [found.stream for found in new.flows()] == ["held"]
    steps = [e.event.step for e in recorded if isinstance(e.event, events.StepCompleted)]
    assert steps == [1, 2]
    assert effects["held/after"] == 1


# dbos-transact-py #716: an error within the loop that recovers was logged, and the flows behind it forgotten.
@pytest.mark.parametrize("fail_at", range(1, 10))
def test_one_failure_while_many_recover_strands_nobody(fail_at: int) -> None:
    store = SqliteStore.open(":memory:", now=lambda: 0, durability=Durability.MAY_LOSE_LAST_COMMITS)
    boots = 0
    bad: BadReads | None = None

    def opened(clock: ManualClock) -> BadReads:
        nonlocal boots, bad
        boots += 1
        store._now = clock.now
        if boots > 1:
            store.reopen()
        bad = BadReads(store, fail_at if boots == 2 else 0)
        return bad

    ids = [f"errand-{number}" for number in range(8)]
    with Simulation([Errand], store=opened) as simulation:
        for flow_id in ids:
            simulation.insist(lambda system, name=flow_id: system.start(Errand.run, flow_id=name))
        simulation.run_until_idle()
        simulation.crash()
        simulation.advance(120)
        assert bad is not None
        assert bad.left <= 0, "no such reading was made"
        for flow_id in ids:
            assert finish_errand(simulation, flow_id) == "hello"
            assert effects[f"{flow_id}/arrive"] == 1
    store.close()


# dbos-transact-py #805: a flow stood still for ever between two steps that were recorded.
@pytest.mark.parametrize(("commit", "durable"), DEATHS)
def test_a_death_between_any_two_records_leaves_nobody_standing(commit: int, durable: bool) -> None:  # noqa: FBT001
    with Simulation([Errand], deaths=[Death(commit, durable)]) as simulation:
        simulation.insist(lambda system: system.start(Errand.run, flow_id="one"))
        simulation.advance(5)

        assert finish_errand(simulation, "one") == "hello"
        assert simulation.clock.elapsed() < 60


# dbos-transact-py #360: after a restart a retry, or a sleep, was waited for from the beginning.
@pytest.mark.parametrize("crashes", [1, 5])
def test_a_restart_does_not_make_a_retry_wait_from_the_beginning(crashes: int) -> None:
    with Simulation([Stubborn]) as simulation:
        began = simulation.clock.elapsed()
        simulation.insist(lambda system: system.start(Stubborn.run, flow_id="one"))
        simulation.run_until_idle()
        for _ in range(crashes):
            simulation.advance(90 / crashes)
            simulation.crash()
        assert simulation.system.flow("one").status == "waiting"

        assert simulation.system.flow("one").result(timeout=1000) == 2
        assert simulation.clock.elapsed() - began == pytest.approx(100, abs=1)


# temporalio/sdk-go #2206: while keys could not be had, flows were lost for good as nondeterministic. There is
# no codec here; what cannot be had for a while is the code.
@pytest.mark.parametrize("events_before", range(1, 9))
def test_what_cannot_be_had_for_a_while_is_no_reason_to_give_a_flow_up(events_before: int) -> None:
    with Simulation([Errand], deaths=[Death(events_before, is_durable=True)]) as simulation:
        try:
            simulation.insist(lambda system: system.start(Errand.run, flow_id="one"))
        finally:
            simulation.crash()
        for _ in range(3):
            simulation.flows = []
            simulation.advance(60)
            simulation.crash()
            simulation.flows = [Errand]
            simulation.advance(1)
            simulation.crash()

        assert finish_errand(simulation, "one") == "hello"
