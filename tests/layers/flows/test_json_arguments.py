"""Arguments that come as JSON are checked strictly, and sealed as if they had come from Python."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from persistasaurus.flows import Flow, PayloadLimits, flow, query
from persistasaurus.flows.errors import PayloadError
from persistasaurus.flows.values.codec import Parameters
from persistasaurus.flows.values.duplicates import refuse_duplicates
from persistasaurus.flows.values.loan import Loan

LIMITS = PayloadLimits()


def parameters(function: Any) -> Parameters:
    return Parameters(function, "it", skip_self=False)


def target(
    first: int, second: str = "two", /, third: Any = None, *, fourth: float, fifth: bool = True
) -> Any:
    return first, second, third, fourth, fifth


def test_whatever_the_kind_of_a_parameter_it_goes_by_its_name_and_ends_in_its_place() -> None:
    known = parameters(target)
    data, values = known.seal_json(b'{"fourth":4.0, "third": [3], "first":1}', LIMITS)
    bound = known.codec.seal(known.bind((1,), {"third": [3], "fourth": 4.0}))
    assert data == bound[0]
    assert known.call(values) == known.call(bound[1]) == (1, "two", [3], 4.0, True)
    assert known.names == ("first", "second", "third", "fourth", "fifth")


def test_a_function_without_parameters_takes_an_empty_object_and_nothing_else() -> None:
    known = parameters(lambda: None)
    assert known.seal_json(b" { } ", LIMITS)[0] == b"{}"
    with pytest.raises(PayloadError, match="a"):
        known.seal_json(b'{"a": 1}', LIMITS)


def test_histories_are_read_as_leniently_as_ever() -> None:
    """A parameter that the code no longer has is no reason not to replay."""
    known = parameters(target)
    data = b'{"first":1,"fourth":4.0,"gone":true}'
    with pytest.raises(PayloadError, match="gone"):
        known.seal_json(data, LIMITS)
    assert known.call(known.decode(data)) == (1, "two", None, 4.0, True)


def test_a_flow_knows_its_queries_by_name_also_those_it_inherits() -> None:
    class Base(Flow):
        @query
        def one(self) -> int:
            return 1

        @query
        def two(self) -> int:
            return 2

    class Derived(Base):
        @flow
        async def main(self) -> None: ...

        @query
        def two(self) -> int:
            return 22

        @query
        def three(self) -> int:
            return 3

    @flow
    async def bare() -> None: ...

    queries = Derived.main.queries
    assert sorted(queries) == ["one", "three", "two"]
    assert queries["two"].ask(Loan(Derived(), "two", {}), (), {}) == 22
    assert bare.queries == {}


# ------------------------------------------------------------------------------------ fields given twice
@pytest.mark.parametrize(
    ("data", "path", "field"),
    [
        ('{"a":1,"a":2}', "$", "a"),
        ('{"a":1,"b":{"c":1,"c":1}}', "$.b", "c"),
        ('[0,{"a":[{"x":1,"y":2,"x":3}]}]', "$[1].a[0]", "x"),
        ('{"a":{"x":1,"x":2},"a":1}', "$", "a"),
        ('{"a":1,"\\u0061":2}', "$", "a"),
        ('{"":1,"":2}', "$", ""),
    ],
)
def test_a_field_given_twice_is_refused_with_its_path(data: str, path: str, field: str) -> None:
    with pytest.raises(PayloadError, match=f"it has the field {field!r} twice") as refused:
        refuse_duplicates(data.encode(), "it")
    assert refused.value.path == path


def test_numbers_of_any_size_are_looked_at_by_nobody() -> None:
    refuse_duplicates(b'{"a":' + b"9" * 100_000 + b',"b":1e999999}', "it")


def test_random_values_have_no_field_twice_and_those_with_one_doubled_do() -> None:
    seed = 11
    rng = random.Random(seed)

    def value(depth: int) -> Any:
        kind = rng.randrange(4 if depth else 2)
        if kind == 2:
            return [value(depth - 1) for _ in range(rng.randrange(4))]
        if kind == 3:
            return {rng.choice('ab"\\:é ') + str(n): value(depth - 1) for n in range(rng.randrange(4))}
        return rng.choice([None, True, 1, -2.5, 'a"b:{,', ":", ""])

    doubled = 0
    for _ in range(500):
        text = json.dumps(value(5), ensure_ascii=rng.random() < 0.5)
        refuse_duplicates(text.encode(), "it")
        if (at := text.find('{"')) >= 0:
            name = json.JSONDecoder().raw_decode(text[at + 1 :])[0]
            twice = f"{text[: at + 1]}{json.dumps(name)}: 0, {text[at + 1 :]}"
            with pytest.raises(PayloadError, match="twice"):
                refuse_duplicates(twice.encode(), f"seed {seed}")
            doubled += 1
    assert doubled > 100
