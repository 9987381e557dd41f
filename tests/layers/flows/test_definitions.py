"""Definitions that cannot work are refused when they are made or registered, saying why."""

from __future__ import annotations

import functools
from datetime import timedelta
from math import inf, nan
from typing import Any

import pytest
from persistasaurus.flows import (
    Flow,
    Limits,
    PayloadLimits,
    Registry,
    Retry,
    flow,
    query,
    signal,
    step,
    wait_for,
)
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
    refused(lambda: flow(5), "over a function")


def test_a_step_is_a_function_that_returns() -> None:
    def generator(self):
        yield

    async def agenerator(self):
        yield

    async def coroutine(self) -> None: ...

    refused(lambda: step(generator), "generator")
    refused(lambda: step(agenerator), "generator")
    refused(lambda: step(functools.partial(print)), "write a `def`")
    refused(lambda: step(isolated=True)(coroutine), "isolated")
    refused(lambda: step(name="")(lambda: 0), "not a valid name")
    refused(lambda: step(name="a\nb")(lambda: 0), "not a valid name")
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
    refused(lambda: Registry((Nonsense,)), "cannot be resolved")
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
    refused(lambda: Registry((Empty,)), "is not a flow")
    refused(lambda: Registry((5,)), "is not a flow")


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
    refused(lambda: Registry((Still,)), "is not a flow")


def test_a_query_is_a_plain_method() -> None:
    async def coroutine(self) -> None: ...

    refused(lambda: query(coroutine), "plain method")
    refused(lambda: query(lambda: 0), "plain method|no name")


def method(self, x: int = 1) -> int:
    return x


def function(x: int) -> int:
    return x


async def body(self) -> None: ...


def wrapped(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        # options that are given by position
        (lambda: step("x"), ["@step(name='x')"]),
        (lambda: flow("x"), ["@flow(name='x')"]),
        (lambda: signal("x"), ["@signal(name='x')"]),
        (lambda: query("x"), ["@query"]),
        (lambda: step(SECOND), ["delay=", "timeout="]),
        (lambda: step(Retry()), ["@step", "by name"]),
        (lambda: step(3), ["@step", "by name"]),
        # options that there are not
        (lambda: step(dealy=SECOND), ["'dealy'", "'delay'", "reconcile"]),
        (lambda: flow(nmae="x"), ["'nmae'", "'name'"]),
        (lambda: signal(retry=Retry()), ["'retry'", "name"]),
        # options of the wrong kind
        (lambda: step(retry=3)(method), ["retry=Retry(max_attempts=3)", "test_definitions.py:"]),
        (lambda: step(retry=Retry)(method), ["retry=Retry()"]),
        (lambda: step(retry=True)(method), ["retry=Retry()"]),
        (lambda: step(retry=False)(method), ["leave it out"]),
        (lambda: step(retry={"max_attempts": 3})(method), ["retry=Retry(...)"]),
        (lambda: step(timeout=5)(method), ["step 'method'", "timeout=timedelta(seconds=5)"]),
        (lambda: step(delay=0.5)(method), ["delay=timedelta(seconds=0.5)"]),
        (lambda: step(delay="5s")(method), ["delay='5s'", "timedelta"]),
        (lambda: step(delay=True)(method), ["delay=True", "timedelta"]),
        (lambda: step(delay=nan)(method), ["delay=nan", "timedelta"]),
        (lambda: step(timeout=timedelta(0))(method), ["timeout", "more than 0"]),
        (lambda: step(timeout=timedelta.max)(method), ["timeout", "leave it out"]),
        (lambda: step(isolated="yes")(function), ["isolated", "True or False"]),
        (lambda: step(on_crash="explode")(function), ["on_crash", "'park'"]),
        (lambda: step(name=5)(function), ["name for a step"]),
        (lambda: flow(name="")(body), ["name for a flow"]),
        (lambda: step(reconcile=5)(method), ["reconcile", "5"]),
        (lambda: step(reconcile=body)(method), ["reconcile", "`def`"]),
        (lambda: step(reconcile=lambda self: None)(method), ["reconcile", "arguments"]),
        (lambda: step(reconcile=lambda *, y: None)(function), ["reconcile", "arguments"]),
        # what they stand over
        (lambda: step(staticmethod(function)), ["@staticmethod", "function at test_definitions.py:"]),
        (lambda: step(classmethod(method)), ["@classmethod", "self"]),
        (lambda: flow(classmethod(body)), ["@classmethod", "self"]),
        (lambda: step(functools.partial(function, 1)), ["partial", "`def`"]),
        (lambda: step(print), ["print", "`def`"]),
        (lambda: step(Base), ["Base is a class", "method"]),
        (lambda: flow(Base), ["Base is a class", "method"]),
        (lambda: step(step(function)), ["<step 'function'>"]),
        (lambda: step(flow(body)), ["<flow 'body'>"]),
        (lambda: flow(wrapped(body)), ["`async def`", "decorator", "test_definitions.py:"]),
        (lambda: signal(function), ["method", "wait_for"]),
    ],
)
def test_an_option_is_refused_where_it_is_written_with_what_to_write_instead(write, said) -> None:
    with pytest.raises(FlowDefinitionError) as refused:
        write()

    for part in said:
        assert part in str(refused.value)


def test_what_looks_like_a_mistake_and_is_none_works() -> None:
    assert step()(function).name == "function"
    assert flow()(body).name == "body"
    assert step(reconcile=lambda self, x: None)(method).reconcile
    assert step(reconcile=lambda self, *args: None)(method).reconcile
    assert step(reconcile=max)(method).reconcile  # nobody can read its signature
    assert Registry(iter([Base])).find("Base.go") is Base.go


@pytest.mark.parametrize(
    ("flows", "said"),
    [
        (Base, "flows=[Base]"),
        (module_level, "flows=[<flow 'module_level'>]"),
        ("Base", "flows=['Base']"),
        (None, "flows=[None]"),
        ([Base()], "Give the class, Base"),
        ([Base.go(1, c=1)], "without calling it"),
        ([double], "Give the flow that it belongs to, or that calls it"),
        ([body], "Put @flow over the function"),
        ([functools], "derive from Flow"),
        ([type("Empty", (Flow,), {})], "Put @flow over the `async def` method"),
    ],
)
def test_what_is_no_list_of_flows_is_refused_with_what_to_write(flows, said) -> None:
    with pytest.raises(FlowDefinitionError) as refused:
        Registry(flows)

    assert said in str(refused.value)


@pytest.mark.parametrize("part", ["go", "work", "ask", "peek"])
def test_a_part_that_is_overridden_by_a_plain_method_is_refused(part) -> None:
    class Whole(Flow):
        @flow
        async def go(self) -> None: ...

        @flow
        async def other(self) -> None: ...

        @step
        def work(self) -> None: ...

        @signal
        def ask(self) -> None: ...

        @query
        def peek(self) -> None: ...

    def plain(self) -> None: ...

    below = type("Below", (type("Between", (Whole,), {}),), {part: plain})

    decorator = {"go": "flow", "work": "step", "ask": "signal", "peek": "query"}[part]
    line = plain.__code__.co_firstlineno
    with pytest.raises(
        FlowDefinitionError, match=f"Below.{part} at test_definitions.py:{line}.*@{decorator}"
    ):
        Registry([below])


@pytest.mark.parametrize("wrapper", [staticmethod, classmethod])
def test_a_step_within_a_static_or_class_method_is_refused(wrapper) -> None:
    class Wraps(Flow):
        @flow
        async def go(self) -> None: ...

        work = wrapper(step(function))

    with pytest.raises(FlowDefinitionError, match=r"Wraps.work is <step 'function'> within"):
        Registry([Wraps])


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800", "x" * 201])
def test_a_name_that_cannot_be_shown_cannot_be_waited_for(name) -> None:
    refused(lambda: wait_for(name), "not a valid name for a signal")


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"initial": timedelta(-1)},
        {"factor": 0.5},
        {"factor": float("nan")},
        {"jitter": 2},
        {"jitter": nan},
        {"jitter": True},
        {"jitter": "0.1"},
        {"initial": timedelta(hours=1)},
        {"initial": 0.5},
        {"initial": "1s"},
        {"initial": None},
        {"maximum": 300},
        {"maximum": inf},
        {"factor": inf},
        {"factor": "2"},
        {"factor": True},
        {"max_attempts": 2.0},
        {"max_attempts": inf},
        {"max_attempts": None},
        {"max_attempts": "3"},
        {"max_attempts": True},
        {"on": ()},
        {"on": []},
        {"on": "ConnectionError"},
        {"on": ("ConnectionError",)},
        {"on": ConnectionError("down")},
        {"on": (ConnectionError, TimeoutError("late"))},
        {"on": (int,)},
        {"on": None},
        {"on": ((OSError,), ValueError)},
        {"give_up_on": ["KeyError"]},
        {"give_up_on": KeyError()},
        {"give_up_on": lambda error: True},
    ],
)
def test_a_policy_that_cannot_work_is_refused(options) -> None:
    refused(lambda: Retry(**options), "Retry")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"initial": 0.5}, "initial=timedelta(seconds=0.5)"),
        ({"maximum": 60}, "maximum=timedelta(seconds=60)"),
        ({"initial": timedelta(hours=1)}, "raise `maximum`"),
        ({"on": "ConnectionError"}, "on=(ConnectionError, TimeoutError)"),
        ({"on": ()}, "leave `on` out"),
        ({"max_attempts": inf}, "a large one"),
    ],
    ids=str,
)
def test_a_policy_that_is_refused_says_what_to_write(options, said) -> None:
    with pytest.raises(FlowDefinitionError) as refused:
        Retry(**options)

    assert said in str(refused.value)


@pytest.mark.parametrize("given", [OSError, (OSError,), [OSError], {OSError}, frozenset([OSError])], ids=str)
def test_the_classes_of_a_policy_may_come_in_any_collection(given) -> None:
    tried, given_up = Retry(on=given), Retry(give_up_on=given)

    assert tried.on == given_up.give_up_on == (OSError,)
    assert tried.wait(1, ConnectionError(), "s") is not None
    assert tried.wait(1, KeyError(), "s") is None
    assert given_up.wait(1, ConnectionError(), "s") is None


def test_a_policy_without_waits_never_waits() -> None:
    assert Retry(initial=timedelta(0), max_attempts=10_000).wait(5_000, OSError(), "s") == 0


@pytest.mark.parametrize("value", [0, -1, 1.0, True, None, "1", nan, inf])
@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (Limits, "events"),
        (Limits, "history_bytes"),
        (Limits, "poison_after"),
        (PayloadLimits, "size"),
        (PayloadLimits, "depth"),
    ],
)
def test_a_limit_that_is_no_whole_number_above_nothing_is_refused(kind, option, value) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        kind(**{option: value})

    assert f"{kind.__name__}({option}={value!r}): give" in str(refused.value)


@pytest.mark.parametrize("value", [PayloadLimits, 1000, None], ids=str)
def test_limits_of_payloads_are_a_thing_of_their_own(value) -> None:
    with pytest.raises(TypeError, match=r"payload=PayloadLimits\("):
        Limits(payload=value)


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


def test_a_part_without_its_self_or_within_a_property_is_refused() -> None:
    class Forgets(Flow):
        @flow
        async def go(self) -> None: ...

        @step
        def work() -> None: ...

    class Wraps(Flow):
        @flow
        async def go(self) -> None: ...

        @property
        @step
        def work(self) -> None: ...

    class Borrows(Flow):
        @flow
        async def go(self) -> None: ...

        work = double

    refused(lambda: Registry([Forgets]), r"write work\(self, ...\)")
    refused(lambda: Registry([Wraps]), "within a @property")
    assert Registry([Borrows]).find(Borrows.go.name) is Borrows.go


def test_a_query_that_yields_is_refused() -> None:
    def yields(self) -> Any:
        yield self

    refused(lambda: query(yields), "is a generator")
