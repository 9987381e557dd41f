"""Definitions that cannot work are refused when they are made or registered, saying why."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any

import pytest
from persistasaurus.flows import Flow, Registry, Retry, flow, query, signal, step, wait_for
from persistasaurus.flows.errors import FlowDefinitionError
from stories import Story


class Base(Flow):
    @flow
    async def go(self, a: int, /, b: int = 2, *, c: int, d: list[int] = []) -> Any:  # noqa: B006 - never changed
        return await self.work(a, b=b, c=c, d=d)

    @step
    def work(self, a: int, b: int, *, c: int, d: list[int]) -> list[int]:
        return [a, b, c, *d]


class Sub(Base):
    @step
    def work(self, a: int, b: int, *, c: int, d: list[int]) -> list[int]:
        return [*d, c, b, a]


@flow
async def module_level(x: int) -> int:
    return await double(x)


@step
def double(x: int) -> int:
    return 2 * x


def test_arguments_are_bound_as_python_binds_them() -> None:
    assert Story(Base.go, 1, c=3).start().finish().result == [1, 2, 3]
    assert Story(Base.go, 1, 5, c=3, d=[9]).start().finish().result == [1, 5, 3, 9]
    for args, kwargs in [((), {"c": 1}), ((1,), {}), ((1, 2, 3), {"c": 1}), ((1,), {"c": 1, "e": 1})]:
        with pytest.raises(TypeError, match=r"flow 'Base\.go'"):
            Base.go(*args, **kwargs)


def test_a_flow_is_inherited_with_the_steps_of_the_subclass() -> None:
    assert Sub.go.name == "Sub.go"
    assert Base.go.name == "Base.go"
    assert Story(Sub.go, 1, c=3).start().finish().result == [3, 2, 1]
    registry = Registry((Base, Sub, module_level))
    assert {d.name for d in registry} == {"Base.go", "Sub.go", "module_level"}
    assert Sub.go in registry
    assert registry.find("Sub.go") is Sub.go


def test_module_level_flows_and_steps_work() -> None:
    assert Story(module_level, 4).start().finish().result == 8


def refused(make, match) -> None:
    with pytest.raises(FlowDefinitionError, match=match):
        make()


def test_a_flow_is_async_without_yield() -> None:
    def plain(self) -> None: ...

    async def generator(self):
        yield

    refused(lambda: flow(plain), "must be `async def`")
    refused(lambda: flow(generator), "without `yield`")
    refused(lambda: flow(5), "must be")


def test_a_step_is_a_function_that_returns() -> None:
    def generator(self):
        yield

    async def agenerator(self):
        yield

    async def coroutine(self) -> None: ...

    refused(lambda: step(generator), "generator")
    refused(lambda: step(agenerator), "generator")
    refused(lambda: step(functools.partial(print)), "no function")
    refused(lambda: step(isolated=True)(coroutine), "isolated")
    refused(lambda: step(name="")(lambda: 0), "no name")
    refused(lambda: step(name="a\nb")(lambda: 0), "no name")
    refused(lambda: step(delay=-timedelta(1))(lambda: 0), "delay")
    refused(lambda: step(timeout=5)(lambda: 0), "timeout")
    refused(lambda: step(on_crash="explode")(lambda: 0), "on_crash")


def test_parameters_need_names_and_known_types() -> None:
    class Star(Flow):
        @flow
        async def go(self, *names: str) -> None: ...

    class Keywords(Flow):
        @flow
        async def go(self) -> None: ...

        @step
        def work(self, **options: int) -> None: ...

    class Unknown(Flow):
        @flow
        async def go(self) -> None: ...

        @step
        def work(self, x: NeverHeardOf) -> None: ...  # noqa: F821 - on purpose

    class Nonsense(Flow):
        @flow
        async def go(self) -> timedelta.nothing: ...

    class Ambiguous(Flow):
        @flow
        async def go(self, x: Base | Sub | dict[str, int] | Retry) -> None: ...

    refused(lambda: Registry((Star,)), "take a list or a dict")
    refused(lambda: Registry((Keywords,)), "take a list or a dict")
    refused(lambda: Registry((Unknown,)), "NeverHeardOf")
    refused(lambda: Registry((Nonsense,)), "make no sense")
    refused(lambda: Registry((Ambiguous,)), "cannot be stored")


def test_an_instance_is_made_without_arguments() -> None:
    class Needy(Flow):
        def __init__(self, client: object) -> None: ...

        @flow
        async def go(self) -> None: ...

    refused(lambda: Registry((Needy,)), "must work without arguments")


def test_names_are_unique() -> None:
    class One(Flow):
        @flow(name="same")
        async def go(self) -> None: ...

    class Two(Flow):
        @flow(name="same")
        async def go(self) -> None: ...

    class Steps(Flow):
        @flow
        async def go(self) -> None: ...

        @step(name="s")
        def a(self) -> None: ...

        @step(name="s")
        def b(self) -> None: ...

    refused(lambda: Registry((One, Two)), "two flows are named 'same'")
    refused(lambda: Registry((Steps,)), "two steps named 's'")
    Registry((One, One, One.go))


def test_only_flows_are_registered() -> None:
    class NoBase:
        @flow
        async def go(self) -> None: ...

    class Empty(Flow): ...

    refused(lambda: Registry((NoBase,)), "derive from Flow")
    refused(lambda: Registry((Empty,)), "is no flow")
    refused(lambda: Registry((5,)), "is no flow")


def test_a_part_that_a_subclass_replaces_is_gone() -> None:
    class Asks(Flow):
        @flow
        async def go(self) -> None: ...

        @signal
        def ask(self, x: int) -> int:
            return x

    class Silent(Asks):
        ask = None

    class Still(Asks):
        go = None

    assert set(Asks.go.signals) == {"ask"}
    assert set(Silent.go.signals) == set()
    refused(lambda: Registry((Still,)), "is no flow")


def test_a_query_is_a_plain_method() -> None:
    async def coroutine(self) -> None: ...

    refused(lambda: query(coroutine), "plain method")
    refused(lambda: query(lambda: 0), "plain method|no name")


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800", "x" * 201])
def test_a_name_that_cannot_be_shown_cannot_be_waited_for(name) -> None:
    refused(lambda: wait_for(name), "no name for a signal")


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"initial": timedelta(-1)},
        {"factor": 0.5},
        {"factor": float("nan")},
        {"jitter": 2},
        {"initial": timedelta(hours=1)},
    ],
    ids=str,
)
def test_a_policy_that_cannot_work_is_refused(options) -> None:
    refused(lambda: Retry(**options), "Retry")


def test_waits_grow_to_a_maximum_and_errors_can_be_given_up_on() -> None:
    policy = Retry(max_attempts=10_000, jitter=0, give_up_on=(KeyError,))

    waits = [policy.wait(n, OSError(), "s") for n in (1, 2, 3, 9, 10, 5000)]
    assert waits == [1_000_000, 2_000_000, 4_000_000, 256_000_000, 300_000_000, 300_000_000]
    assert policy.wait(1, KeyError(), "s") is None
    assert policy.wait(1, SystemExit(), "s") is None
    assert policy.wait(1, None, "s") == 1_000_000
    assert policy.wait(10_000, OSError(), "s") is None
    shortened = Retry(jitter=0.5).wait(1, None, "s")
    assert 500_000 <= shortened < 1_000_000
    assert shortened == Retry(jitter=0.5).wait(1, None, "s")
