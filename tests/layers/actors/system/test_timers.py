"""Timers: once each, never early, whatever the calendar does, and after a restart only the remainder."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from persistasaurus import Flow, SupervisorRules, flow, sleep, sleep_until, step
from persistasaurus.actors.flows.clock import JumpAwareClock, wall_without_jumps
from persistasaurus.actors.flows.timers import LoadDue
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.store import StoreHalted
from system.doubles import FaultyStore, kinds, live_flows, memory_store, supervisor_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from persistasaurus import FlowHandle, FlowSystem

MANY = 10_000
HOUR = 3600.0


class Sleeps(Flow):
    @flow
    async def main(self, seconds: float) -> None:
        await sleep(seconds)

    @flow
    async def until(self, when: datetime) -> None:
        await sleep_until(when)

    @flow
    async def delayed(self) -> None:
        await self.later()

    @step(delay=timedelta(seconds=10))
    def later(self) -> None:
        pass


from datetime import UTC, datetime  # noqa: E402 - flows read their annotations when they are registered


def statuses(system: FlowSystem) -> set[str]:
    found: set[str] = set()
    after = None
    while page := system.flows(after=after, limit=1000):
        found |= {f.status for f in page}
        after = page[-1].stream
    return found


def is_quiet(system: FlowSystem) -> bool:
    """Whether nobody has anything to do before time goes by."""
    return all(
        ref.actor_inbox.empty() and not ref.actor_inbox._scheduled.locked()
        for ref in (system.supervisor, system._loader, system._timers, system.journal)
    ) and all(
        (ref := active.ref) is None or ref.actor_inbox.empty()
        for active in supervisor_of(system)._active.copy().values()
    )


def timers_of(system: FlowSystem) -> Any:
    return system._timers.actor_inbox.owner


def settle(system: FlowSystem) -> None:
    for _ in range(5):
        wait_until(lambda: is_quiet(system), 60)


def test_ten_thousand_sleeping_flows_are_woken_once_each_and_never_early(
    make_system: Callable[..., FlowSystem], environment: Environment, clock: ManualClock
) -> None:
    system = make_system(Sleeps, environment=environment, rules=SupervisorRules(max_idle=100))
    replies = [system._start(Sleeps.main, (60.0,), {}, f"flow-{n}").reply for n in range(MANY)]
    for reply in replies:
        reply.get(timeout=60)
    settle(system)
    assert len(live_flows(system)) <= 101
    for seconds in (15, 15, 15, 14):
        clock.advance(seconds)
        settle(system)
    assert statuses(system) == {"waiting"}
    watches = [system.flow(f"flow-{n}")._watch() for n in range(MANY)]
    clock.advance(1)
    for watch in watches:
        watch.reply.get(timeout=60)

    assert statuses(system) == {"completed"}
    assert all(kinds(system.flow(f"flow-{n}")).count("timer_fired") == 1 for n in range(0, MANY, 97))


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 10 * 365 * 24 * HOUR])
@pytest.mark.parametrize("idle_s", [1.0, 1000.0], ids=["at rest", "live"])
def test_a_jump_of_the_calendar_makes_no_sleep_shorter(
    make_system: Callable[..., FlowSystem],
    environment: Environment,
    clock: ManualClock,
    jump: float,
    idle_s: float,
) -> None:
    system = make_system(Sleeps, environment=environment, rules=SupervisorRules(idle_s=idle_s))
    handle = system.start(Sleeps.main, 100.0)
    for _ in range(10):
        settle(system)
        clock.advance(2)
    settle(system)
    assert bool(live_flows(system)) is (idle_s > 100)
    clock.jump_wall(jump)
    for _ in range(79):
        settle(system)
        clock.advance(1)
    settle(system)
    assert handle.status == "waiting"
    for _ in range(102):
        settle(system)
        clock.advance(1)

    wait_until(lambda: handle.status == "completed")
    assert kinds(handle).count("timer_fired") == 1


def test_a_sleep_that_is_not_disturbed_ends_on_the_second_also_at_rest_and_far_ahead(
    make_system: Callable[..., FlowSystem], environment: Environment, clock: ManualClock
) -> None:
    system = make_system(Sleeps, environment=environment, rules=SupervisorRules(idle_s=1))
    handle = system.start(Sleeps.main, HOUR)
    began = clock.elapsed()
    while clock.elapsed() < began + HOUR - 1:
        settle(system)
        clock.advance(min(10, began + HOUR - 1 - clock.elapsed()))
    settle(system)
    assert handle.status == "waiting"
    clock.advance(1)

    wait_until(lambda: handle.status == "completed")


def test_a_date_on_the_calendar_comes_when_the_calendar_says_so(
    make_system: Callable[..., FlowSystem], environment: Environment, clock: ManualClock
) -> None:
    system = make_system(Sleeps, environment=environment, rules=SupervisorRules(idle_s=1))
    when = datetime.fromtimestamp(clock.now() / 1e6, UTC) + timedelta(hours=2)
    handle = system.start(Sleeps.until, when)
    for _ in range(5):
        settle(system)
        clock.advance(2)
    clock.jump_wall(2 * HOUR - 60)
    for _ in range(45):
        settle(system)
        clock.advance(1)
    settle(system)
    assert handle.status == "waiting"
    for _ in range(20):
        settle(system)
        clock.advance(1)

    wait_until(lambda: handle.status == "completed")


@pytest.mark.parametrize("down_s", [0.0, 4.0, 1000.0])
def test_after_a_restart_only_the_remainder_of_a_delay_is_waited_for(
    make_system: Callable[..., FlowSystem], path: Path, clock: ManualClock, down_s: float
) -> None:
    def boot() -> FlowSystem:
        environment = Environment(
            clock=clock, alarms=ManualAlarms(clock), dispatcher=Environment.system().dispatcher
        )
        return make_system(Sleeps, path=path, environment=environment)

    system = boot()
    handle: FlowHandle[Any] = system.start(Sleeps.delayed, flow_id="delayed")
    settle(system)
    clock.advance(5)
    settle(system)
    system.close()
    clock.advance(down_s)
    system = boot()
    handle = system.flow("delayed")
    settle(system)
    left = max(0.0, 5 - down_s)
    if left:
        clock.advance(left - 0.001)
        settle(system)
        assert "step_attempted" not in kinds(handle)
        clock.advance(0.002)
    wait_until(lambda: handle.status == "completed")


@pytest.mark.parametrize(
    ("error", "logged"), [(StoreHalted("injected"), 0), (ZeroDivisionError("injected"), 1)], ids=repr
)
def test_a_look_into_the_store_that_fails_is_made_again(
    error: Exception, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = FaultyStore(memory_store())
    rules = SupervisorRules(idle_s=1, horizon_s=30)

    def fail_once(*_: Any, **__: Any) -> Any:
        del store.due
        raise error

    with Simulation([Sleeps], store=lambda _: cast("Any", store), rules=rules) as simulation:
        handle = simulation.system.start(Sleeps.main, 100.0)
        simulation.advance(50)
        store.due = fail_once
        simulation.advance(49)
        assert "due" not in vars(store)
        assert handle.status == "waiting"
        simulation.advance(1)

        assert handle.status == "completed"
        assert caplog.text.count("Timers could not look into the store") == logged
    store.inner.close()


def test_that_what_is_due_cannot_be_looked_up_is_said_once_until_it_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store: Any = FaultyStore(memory_store())
    fails = 3

    def due(*args: Any, **options: Any) -> Any:
        nonlocal fails
        if fails:
            fails -= 1
            raise StoreHalted("injected")
        return store.inner.due(*args, **options)

    rules = SupervisorRules(horizon_s=10)
    with Simulation([Sleeps], store=lambda _: cast("Any", store), rules=rules) as simulation:
        handle = simulation.system.start(Sleeps.main, 100.0)
        simulation.advance(50)
        store.due = due
        simulation.advance(51)

        assert not fails
        assert handle.status == "completed"
        assert caplog.text.count("Could not look up which flows are due") == 1
    store.inner.close()


def test_more_flows_than_are_read_at_once_are_all_woken_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persistasaurus.actors.flows.timers._PAGE", 3)
    with Simulation([Sleeps], rules=SupervisorRules(idle_s=1, horizon_s=30)) as simulation:
        handles = [simulation.system.start(Sleeps.main, 100.0) for _ in range(10)]
        simulation.advance(99)
        assert not live_flows(simulation.system)
        simulation.advance(1)

        assert {handle.status for handle in handles} == {"completed"}


def test_whoever_has_it_look_at_once_does_not_have_it_look_more_often_from_then_on() -> None:
    store = FaultyStore(memory_store())
    looks: list[float] = []
    with Simulation(
        [Sleeps], store=lambda _: cast("Any", store), rules=SupervisorRules(horizon_s=30)
    ) as simulation:
        system = simulation.system
        simulation.run_until_idle()
        store.due = lambda *args, **options: looks.append(1) or store.inner.due(*args, **options)
        for _ in range(5):
            system._timers.tell(LoadDue())
        simulation.advance(1)
        at_once = len(looks)
        assert 1 < at_once <= 5
        simulation.advance(60)

        assert len(looks) == at_once + 60 / 15
    store.inner.close()


def test_a_flow_that_sleeps_at_rest_is_not_woken_before_its_time() -> None:
    rules = SupervisorRules(idle_s=1, horizon_s=30)
    with Simulation([Sleeps], rules=rules) as simulation:
        handle = simulation.system.start(Sleeps.main, 100.0)
        simulation.advance(60)
        assert timers_of(simulation.system)._at == {}  # so far ahead it is nowhere but in the store
        simulation.advance(39)
        assert supervisor_of(simulation.system)._incarnations == 1
        simulation.advance(1)

        assert handle.status == "completed"


def test_moments_know_jumps_in_both_directions() -> None:
    clock = ManualClock()
    jump_aware = JumpAwareClock(clock)
    began = clock.now()
    clock.advance(5)
    assert jump_aware.now().jumps == ()
    clock.jump_wall(0.5)
    assert jump_aware.now().jumps == ()
    clock.jump_wall(HOUR - 0.5)
    clock.advance(1)
    clock.jump_wall(-2 * HOUR)
    jump_aware.now()
    clock.jump_wall(HOUR)
    moment = jump_aware.now()

    assert sum(by for _, by in moment.jumps) == 0
    assert wall_without_jumps(moment) == began + 6_000_000
