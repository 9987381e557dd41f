"""What a caller is told when something is wrong: with what it was, and where in the code."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from persistasaurus import Flow, FlowAlreadyExists, FlowDefinitionError, FlowFailed, FlowSystem, flow, step
from persistasaurus.flows.events import StepFailed


@dataclass
class Order:
    item: str
    price: float


def defined():
    class Sells(Flow):
        @flow(name="sells")
        async def go(self, order: Order, count: int = 1, note: str | None = None) -> int:
            return await self.charge(order.price * count)

        @step
        def charge(self, amount: float) -> int:
            raise ConnectionRefusedError(amount)

    return Sells


Sells = defined()


@pytest.fixture(name="system")
def _system():
    with FlowSystem(flows=[Sells]) as system:
        yield system


def test_a_flow_that_was_started_otherwise_shows_the_arguments_that_differ(system) -> None:
    system.start(Sells.go, Order("tea", 1.5), 2, flow_id="a")

    with pytest.raises(FlowAlreadyExists) as refused:
        system.start(Sells.go, Order("tea", 2.5), 2, "x" * 1000, flow_id="a")

    message = str(refused.value)
    assert 'order was {"item":"tea","price":1.5} and is {"item":"tea","price":2.5} now' in message
    assert "note was null and is " in message
    assert "count" not in message
    assert len(message) < 400


def test_an_argument_that_came_later_is_shown_as_left_out(system) -> None:
    system.start_json("sells", b'{"order":{"item":"tea","price":1}}', flow_id="a")

    with pytest.raises(FlowAlreadyExists, match="count was 1 and is 3 now"):
        system.start(Sells.go, Order("tea", 1), 3, flow_id="a")


def test_a_flow_of_another_type_is_named(system) -> None:
    class Other(Flow):
        @flow(name="other")
        async def go(self) -> None: ...

    with FlowSystem(flows=[Sells, Other]) as both:
        both.start(Other.go, flow_id="a")
        with pytest.raises(FlowAlreadyExists, match="it is 'other', and not 'sells'"):
            both.start(Sells.go, Order("tea", 1), flow_id="a")


def test_a_class_that_was_defined_anew_is_told_from_one_that_was_never_given(system) -> None:
    again = defined()

    class Unknown(Flow):
        @flow
        async def go(self) -> None: ...

    with pytest.raises(FlowDefinitionError) as refused:
        system.start(again.go, Order("tea", 1))
    for part in (
        "<flow 'sells'> at test_errors_for_callers.py:",
        "defined anew",
        "notebook",
        "close the system",
    ):
        assert part in str(refused.value)
    with pytest.raises(FlowDefinitionError, match="is not registered: FlowSystem"):
        system.start(Unknown.go)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Sells, r"Give the method: Sells\.go"),
        (Sells.charge, "Give the flow that it belongs to"),
        ("sells", "start_json"),
        (Sells(), "Give the class"),
    ],
    ids=["class", "step", "name", "instance"],
)
def test_what_is_not_a_flow_is_not_started(system, given, said) -> None:
    with pytest.raises(FlowDefinitionError, match=said):
        system.start(given)


def test_the_failure_of_a_flow_names_the_line_of_its_code_and_that_of_its_step(system) -> None:
    handle = system.start(Sells.go, Order("tea", 1.5))

    with pytest.raises(FlowFailed) as failed:
        handle.result(timeout=30)

    code = Sells.go.function.__code__
    assert failed.value.line == f"test_errors_for_callers.py:{code.co_firstlineno + 2}"
    assert f"failed at {failed.value.line}: StepError: step 1 'charge' failed" in str(failed.value)
    step_failed = next(event for _, _, event in handle.events() if isinstance(event, StepFailed))
    assert (
        step_failed.error.line
        == f"test_errors_for_callers.py:{Sells.charge.function.__code__.co_firstlineno + 2}"
    )
