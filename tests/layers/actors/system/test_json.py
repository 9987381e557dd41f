"""Flows started, signalled and asked in JSON, by names: checked as strictly as in Python."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import (
    Flow,
    FlowAlreadyExists,
    FlowDefinitionError,
    FlowNotFound,
    FlowNotRegistered,
    FlowSystem,
    PayloadError,
    PayloadLimits,
    QueryNotFound,
    SignalRejected,
    SystemClosed,
    flow,
    query,
    signal,
    wait_for,
)
from persistasaurus import Limits as FlowLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOON = datetime(2026, 5, 17, 12, tzinfo=UTC)


class Address(msgspec.Struct, forbid_unknown_fields=True):
    street: str


class Shipped(msgspec.Struct):
    item: str
    to: Address | None
    count: int
    at: datetime


class Order(Flow):
    def __init__(self) -> None:
        self.log: list[Any] = []

    @flow(name="order")
    async def main(self, item: str, to: Address | None = None, *, count: int = 1) -> Shipped:
        self.log += [item, to, count]
        at = await self.confirm()
        await self.ship()
        return Shipped(item, to, count, at)

    @signal
    def confirm(self, at: datetime) -> datetime:
        return at

    @signal
    def ship(self, by: str, weight: float = 1.0) -> None: ...

    @query
    def entry(self, number: int, *, again: bool = False) -> Any:
        return [self.log[number]] * (2 if again else 1)

    @query
    def unstorable(self) -> Any:
        return object()

    @query
    def many(self, *numbers: int) -> Any:
        return numbers


class Listens(Flow):
    @flow(name="listens")
    async def main(self) -> Any:
        return await wait_for("anything", Any)


@pytest.fixture
def system(make_system: Callable[..., FlowSystem]) -> FlowSystem:
    return make_system(Order, Listens)


def test_a_flow_goes_from_start_to_end_in_json(system: FlowSystem) -> None:
    handle = system.start_json("order", b'{"item": "book", "count": 2, "to": {"street": "A"}}', flow_id="o")
    receipt = handle.signal_json("confirm", b'{"at": "2026-05-17T12:00:00Z"}', signal_id="s")
    assert (receipt.signal_id, receipt.duplicate) == ("s", False)
    handle.signal_json("ship", b'{"by": "air"}')
    assert handle.result(20) == Shipped("book", Address("A"), 2, NOON)
    assert handle.query_json("entry", b'{"number": 1}') == b'[{"street":"A"}]'
    assert handle.query_json("entry", b'{"again": true, "number": 2}') == b"[2,2]"


def test_the_same_in_json_and_in_python_is_the_same(system: FlowSystem) -> None:
    one = system.start(Order.main, "book", flow_id="o")
    two = system.start_json("order", b'{"count":1, "item":"\\u0062ook", "to":null}', flow_id="o")
    assert one.id == two.id
    first = one.signal(Order.confirm, NOON, signal_id="s")
    for payload in (b'{"at": "2026-05-17T12:00:00Z"}', b' "2026-05-17T12:00:00+00:00" '):
        again = two.signal_json("confirm", payload, signal_id="s")
        assert again.duplicate
        assert again.at == first.at
    one.signal("ship", "air", signal_id="t")
    assert two.signal_json("ship", b'{"weight": 1, "by": "air"}', signal_id="t").duplicate
    with pytest.raises(FlowAlreadyExists):
        system.start_json("order", b'{"item": "pen"}', flow_id="o")


def test_it_can_be_awaited(system: FlowSystem) -> None:
    async def main() -> Any:
        handle = await system.start_json_async("listens")
        await handle.signal_json_async("anything", b'{"a": [1, 2.5, null]}')
        other = await system.start_json_async("order", b'{"item": "book"}')
        return await handle, await other.query_json_async("entry", b'{"number": 0}')

    assert asyncio.run(main()) == ({"a": [1, 2.5, None]}, b'["book"]')


REFUSED = [
    (b"", r"at \$"),
    (b"{", r"at \$"),
    (b"[]", r"at \$ "),
    (b"null", r"at \$ "),
    (b'"book"', r"at \$ "),
    (b"{}", "item"),
    (b'{"item": 1}', r"\$\.item "),
    (b'{"item": "a", "x": 1}', "x"),
    (b'{"item": "a", "self": 1}', "self"),
    (b'{"item": "a", "item": "b"}', "has the field 'item' twice"),
    (b'{"item": "a", "\\u0069tem": "b"}', "has the field 'item' twice"),
    (b'{"item": "a", "to": {"street": "b", "street": "c"}}', r"\$\.to .*has the field 'street' twice"),
    (b'{"item": "a", "to": {"street": "b", "no": 1}}', r"\$\.to .*no"),
    (b'{"item": "a", "count": NaN}', r"at \$"),
    (b'{"item": "a", "count": 1.5}', r"\$\.count "),
    (b'{"item": "a", "count": 1e999}', r"at \$"),
    (b'{"item": "\xff"}', r"at \$"),
    (b'{"item": "\\ud800"}', r"at \$"),
    (b'{"item": "a"} {}', r"at \$"),
    (b'\xef\xbb\xbf{"item": "a"}', r"at \$"),
    ('{"item": "a"}'.encode("utf-16"), r"at \$"),
    (b'{"item": "' + b"x" * (1 << 20) + b'"}', "bytes exceed the limit"),
    (b'{"item": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested more than 64 levels"),
]


@pytest.mark.parametrize(("args", "text"), REFUSED, ids=range(len(REFUSED)))
def test_arguments_that_do_not_fit_are_refused_with_the_path_and_nothing_is_written(
    system: FlowSystem, args: bytes, text: str
) -> None:
    with pytest.raises(PayloadError, match=text):
        system.start_json("order", args)
    assert system.flows() == []


@pytest.mark.parametrize(
    ("name", "payload", "text"),
    [
        ("confirm", b"{}", "at"),
        ("confirm", b"null", r"\$\.at "),
        ("confirm", b'"yesterday"', r"\$\.at "),
        ("confirm", b'1,"x":2', r"at \$"),
        ("confirm", b'{"at": "2026-05-17T12:00:00Z", "x": 1}', "x"),
        ("confirm", b'{"at": "2026-05-17T12:00:00Z", "at": "2026-05-17T12:00:00Z"}', "twice"),
        ("ship", b'"air"', r"at \$ "),
        ("ship", b'{"by": "air", "weight": "much"}', r"\$\.weight"),
        ("anything", b"{", r"at \$"),
        ("anything", b'{"a": 1, "a": 2}', "has the field 'a' twice"),
        ("anything", b"[" * 65 + b"]" * 65, "nested more than 64"),
    ],
)
def test_a_signal_that_does_not_fit_is_refused_and_nothing_is_written(
    system: FlowSystem, name: str, payload: bytes, text: str
) -> None:
    handle = system.start_json("order", b'{"item": "a"}')
    with pytest.raises(SignalRejected, match=text) as refused:
        handle.signal_json(name, payload)
    assert str(refused.value).endswith("nothing was written")
    assert system.store.inbox(handle.id) == []


def test_a_query_that_does_not_fit_is_refused(system: FlowSystem) -> None:
    handle = system.start_json("order", b'{"item": "a"}')
    with pytest.raises(QueryNotFound, match=r"no query 'x'; it answers 'entry', 'unstorable', 'many'"):
        handle.query_json("x")
    with pytest.raises(PayloadError, match="number"):
        handle.query_json("entry")
    with pytest.raises(PayloadError, match="x"):
        handle.query_json("entry", b'{"number": 0, "x": 0}')
    with pytest.raises(PayloadError, match="the answer of query 'unstorable'"):
        handle.query_json("unstorable")
    with pytest.raises(FlowDefinitionError, match="has no name"):
        handle.query_json("many")
    with pytest.raises(IndexError):
        handle.query_json("entry", b'{"number": 99}')
    with pytest.raises(QueryNotFound, match="it answers none at all"):
        system.start_json("listens").query_json("entry")


def test_names_that_nobody_knows_are_refused(system: FlowSystem) -> None:
    with pytest.raises(FlowNotRegistered, match=r"no flow named 'nope' .*'order', 'listens'"):
        system.start_json("nope")
    ghost = FlowSystem.flow
    handle = system.start_json("listens")
    handle.id = "ghost"
    for call in (lambda: handle.signal_json("a"), lambda: handle.query_json("a"), lambda: ghost(system, "g")):
        with pytest.raises(FlowNotFound):
            call()
    with pytest.raises(ValueError, match="is not a valid flow id"):
        system.start_json("listens", flow_id="a\nb")
    with pytest.raises(ValueError, match="is not a valid name of a signal"):
        system.start_json("listens").signal_json("")


def test_a_flow_whose_code_is_not_here_takes_any_json_and_answers_nothing(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    with make_system(Order, path=path) as system:
        system.start_json("order", b'{"item": "a"}', flow_id="o")
    without_code = make_system(path=path)
    handle = without_code.flow("o")
    assert not handle.signal_json("confirm", b' {"at" : "2026-05-17T12:00:00Z"} ', signal_id="s").duplicate
    with pytest.raises(FlowNotRegistered, match="there is none at all"):
        handle.query_json("entry")
    without_code.close()
    handle = make_system(Order, path=path).flow("o")
    assert handle.signal(Order.confirm, NOON, signal_id="s").duplicate


def test_a_system_s_own_limits_hold(make_system: Callable[..., FlowSystem]) -> None:
    limits = FlowLimits(payload=PayloadLimits(size=100, depth=3))
    system = make_system(Listens, Order, limits=limits)
    handle = system.start_json("listens")
    with pytest.raises(SignalRejected, match="limit of 100"):
        handle.signal_json("anything", b'"' + b"x" * 100 + b'"')
    with pytest.raises(SignalRejected, match="more than 3 levels"):
        handle.signal_json("anything", b"[[[[1]]]]")
    with pytest.raises(PayloadError, match="limit of 100"):
        system.start_json("order", b'{"item": "' + b"x" * 100 + b'"}')


def test_a_closed_system_refuses_json_too(system: FlowSystem) -> None:
    handle = system.start_json("listens")
    system.close()
    for call in (
        lambda: system.start_json("listens"),
        lambda: handle.signal_json("anything", b"1"),
        lambda: handle.query_json("x"),
    ):
        with pytest.raises(SystemClosed):
            call()
