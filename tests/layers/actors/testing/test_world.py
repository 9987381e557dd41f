"""The world that users' tests live in: time is virtual, steps are doubled, and nothing is waited for."""

from __future__ import annotations

from datetime import timedelta
from time import process_time

import pytest
from persistasaurus import FlowDefinitionError, FlowFailed, NondeterminismError, PayloadError
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.actors.testing import Stuck, World
from persistasaurus.flows import FlowDefinition, Registry
from persistasaurus.flows.examples.hello import HelloWorldFlow
from testing.shop import ForgetfulFlow, LotteryFlow, OrderFlow, charged, convert

DONE = "a book, payment-1, eve, 6, A BOOK"


def test_an_order_goes_through_days_in_no_time(flows: World) -> None:
    begun = flows.clock.now()
    order = flows.start(OrderFlow.fulfil, "a book")
    assert order.query(OrderFlow.how_far) == "charged"

    flows.clock.advance(days=1)
    assert order.status == "waiting"
    order.signal(OrderFlow.approve, "eve")

    assert order.result() == DONE
    assert timedelta(days=2) <= flows.clock.now() - begun < timedelta(days=2, seconds=1)


def test_who_waits_in_vain_is_told_for_what_and_where(flows: World) -> None:
    order = flows.start(OrderFlow.fulfil, "a book")

    with pytest.raises(Stuck, match=r"signal 'approve', awaited at shop\.py:\d+"):
        order.result()
    with pytest.raises(TimeoutError, match="within 3 s"):
        order.result(timeout=3)
    order.pause(by="ops", why="holiday")
    with pytest.raises(Stuck, match=r"paused by ops \(holiday\)"):
        order.result()


def test_an_answer_is_given_to_each_flow_that_waits_now_or_later(flows: World) -> None:
    early = flows.start(OrderFlow.fulfil, "a book")
    flows.clock.advance(days=3)
    flows.answer(OrderFlow.approve, "eve")
    late = flows.start(OrderFlow.fulfil, "a book")

    assert [early.status, late.status] == ["completed", "waiting"]
    assert early.result() == late.result() == DONE


def test_an_answer_that_does_not_fit_is_refused_at_once(flows: World) -> None:
    with pytest.raises(PayloadError):
        flows.answer(OrderFlow.approve, 3)  # type: ignore[arg-type]


def test_a_double_stands_in_for_each_kind_of_step(flows: World) -> None:
    charge = flows.double(OrderFlow.charge).returns("p").then_raises(OSError("down"), TimeoutError)
    weigh = flows.double(OrderFlow.weigh).returns(7)
    label = flows.double(OrderFlow.print_label).does(lambda item: item * 2)
    approve = flows.double(OrderFlow.approve).returns("a robot")
    flows.answer(OrderFlow.approve, "eve")
    charged.clear()

    assert flows.run(OrderFlow.fulfil, "x", flow_id="o") == "x, p, a robot, 7, xx"
    assert [call.args for call in charge.calls] == [{"item": "x"}]
    assert [run.attempt for run in charge.runs] == [1, 2, 3]
    assert [len(double.runs) for double in (weigh, label, approve)] == [1, 1, 1]
    assert approve.calls[0].args == {"by": "eve"}
    assert charged == []


def test_a_double_that_does_not_keep_the_steps_promise_is_refused(flows: World) -> None:
    with pytest.raises(PayloadError):
        flows.double(OrderFlow.weigh).returns("heavy")  # type: ignore[arg-type]
    flows.double(OrderFlow.charge)
    with pytest.raises(FlowFailed, match="was not given a result"):
        flows.run(OrderFlow.fulfil, "x")
    with pytest.raises(TypeError, match="is not a step"):
        flows.double(OrderFlow.fulfil)  # type: ignore[call-overload]


def test_steps_take_virtual_time_and_time_out(flows: World) -> None:
    flows.answer(OrderFlow.approve, "eve")
    flows.double(OrderFlow.weigh).returns(1).takes(timedelta(seconds=6))

    with pytest.raises(FlowFailed, match="ran longer than the 5 s"):
        flows.run(OrderFlow.fulfil, "x")
    flows.double(OrderFlow.weigh).takes(4)
    assert flows.run(OrderFlow.fulfil, "x").startswith("x, ")


def test_a_crash_loses_nothing_that_was_acknowledged(flows: World) -> None:
    charge = flows.double(OrderFlow.charge).returns("p").takes(60)
    order = flows.start(OrderFlow.fulfil, "x")
    flows.crash()
    assert order.status == "running"
    flows.clock.advance(days=3)
    flows.crash()
    receipt = order.signal(OrderFlow.approve, "eve", signal_id="s")
    flows.crash()

    assert not receipt.duplicate
    assert order.signal(OrderFlow.approve, "eve", signal_id="s").duplicate
    assert order.result().startswith("x, p, eve")
    assert len(charge.calls) == 1
    assert len(charge.runs) == 2  # it was under way when the process died


def test_long_waits_cost_no_time(flows: World) -> None:
    flows.start(OrderFlow.fulfil, "x")
    began = process_time()
    flows.clock.advance(days=10_000)
    assert process_time() - began < 0.5


def test_flows_that_do_not_repeat_themselves_are_found_at_once() -> None:
    with World() as world:
        world.run(ForgetfulFlow.go)
    with World(always_replay=True) as world:
        with pytest.raises(NondeterminismError) as found:
            world.run(ForgetfulFlow.go)

        said = str(found.value)
        assert "recorded:  step 2 'note' at shop.py:" in said
        assert "attempted: step 2 'note' at shop.py:" in said
        assert "recorded arguments:" in said
    with World(always_replay=True) as world:
        world.answer(OrderFlow.approve, "eve")
        assert world.run(OrderFlow.fulfil, "a book") == DONE
        assert len(world.run(LotteryFlow.draw)) == 3


def test_the_same_seed_gives_the_same_chance_and_another_does_not() -> None:
    def drawn(seed: int) -> list[str]:
        with World(seed=seed) as world:
            return world.run(LotteryFlow.draw)

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_module_level_step_is_doubled_as_well(flows: World) -> None:
    assert flows.double(convert) is flows.double(convert)


def test_a_clock_can_pass_over_what_falls_due_which_is_late_then() -> None:
    clock = ManualClock()
    alarms, fired = ManualAlarms(clock), list[float]()
    alarms.call_at(1.0, lambda: fired.append(clock.elapsed()))
    before = clock.now()

    clock.pass_over(5.0)
    assert fired == []
    clock.advance(0.0)
    assert fired == [5.0]
    assert clock.now() - before == 5_000_000


def test_a_registry_takes_flows_in_later_and_the_same_ones_again() -> None:
    registry = Registry((OrderFlow,))
    registry.add(LotteryFlow)
    registry.add(LotteryFlow)

    assert registry.find("lottery") is LotteryFlow.draw
    other = FlowDefinition(LotteryFlow.draw.function, name="lottery", owner=LotteryFlow)
    with pytest.raises(FlowDefinitionError, match="two flows are named 'lottery'"):
        registry.add(other)


def test_a_calendar_that_is_set_back_makes_nothing_early_or_late(flows: World) -> None:
    order = flows.start(OrderFlow.fulfil, "x")
    flows.clock.jump(days=-30)
    flows.clock.advance(days=1, hours=23)
    assert order.events()[-1].event.__class__.__name__ == "TimerSet"
    flows.clock.jump(days=60)
    flows.clock.advance(hours=1)
    assert order.events()[-1].event.__class__.__name__ == "SignalAwaited"


def test_a_whole_test_takes_milliseconds() -> None:
    def whole() -> float:
        began = process_time()
        with World() as world:
            assert world.run(HelloWorldFlow.say_hello) == 10
        return process_time() - began

    fastest = min(whole() for _ in range(5))

    assert fastest < 0.05, f"{fastest * 1000:.1f} ms"  # 7 ms is usual
