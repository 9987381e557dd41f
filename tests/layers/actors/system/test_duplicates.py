"""The same signal, or the same start, again: it is the same by its values, whatever their bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import (
    Flow,
    FlowAlreadyExists,
    FlowEnded,
    FlowSystem,
    SignalRejected,
    flow,
    signal,
    wait_for,
)
from persistasaurus.actors import RemoteClient
from persistasaurus.actors.testing import World
from persistasaurus.flows import SignalCall
from system.doubles import DEAD_MAN_S, memory_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AB, BA = {"a": 1, "b": 2}, {"b": 2, "a": 1}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Stubborn(msgspec.Struct):
    n: int

    def __eq__(self, other: object) -> bool:
        if WHIM:
            raise SystemExit(1)
        return isinstance(other, Stubborn) and self.n == other.n

    __hash__ = None  # type: ignore[assignment]


WHIM: list[str] = []


@dataclass
class Paid:
    meta: dict[str, int]
    tags: set[str] = field(default_factory=set)
    more: Any = None


class Shop(Flow):
    @flow(name="shop")
    async def sell(self, meta: dict[str, int], tags: set[str] | None = None) -> int:
        del meta, tags
        return await self.end()

    @signal
    def paid(self, data: Paid) -> int:
        return len(data.meta)

    @signal
    def tagged(self, tags: set[str], at: datetime = NOON) -> int:
        return len(tags)

    @signal
    def priced(self, price: Decimal, stubborn: Stubborn | None = None) -> None: ...

    @signal
    def end(self) -> int:
        return 1

    async def listens(self) -> None:
        """Name what it could wait for by name."""
        await wait_for("free")


class Grown(Flow):
    """The same, after a parameter with a default was added to its signal and to its flow."""

    @flow(name="shop")
    async def sell(self, meta: dict[str, int], tags: set[str] | None = None, note: str = "") -> int:
        del meta, tags, note
        return await self.end()

    @signal
    def paid(self, data: Paid, note: str = "") -> None: ...

    @signal
    def tagged(self, tags: set[str], at: datetime = NOON, *, is_new: bool = False) -> None: ...

    @signal
    def end(self) -> int:
        return 2

    async def listens(self) -> None:
        """Name what it could wait for by name."""
        await wait_for("free")


def raw(name: str, data: bytes) -> Any:
    """Make a signal as another process would have made it, whose sets and keys have another order."""
    return SignalCall(name, data)


SAME: dict[str, tuple[Any, Any]] = {
    "keys": (Shop.paid(Paid(AB)), Shop.paid(Paid(BA))),
    "a set": (raw("tagged", b'{"tags":["x","y","z"]}'), raw("tagged", b'{"tags":["z","x","y"]}')),
    "a set inside": (
        raw("paid", b'{"data":{"meta":{},"tags":["x","y"]}}'),
        raw("paid", b'{"data":{"tags":["y","x"],"meta":{}}}'),
    ),
    "a default": (raw("tagged", b'{"tags":["x"]}'), Shop.tagged({"x"})),
    "a zone": (Shop.tagged({"x"}, NOON), Shop.tagged({"x"}, NOON.astimezone(timezone(timedelta(hours=5))))),
    "a price": (Shop.priced(Decimal("1.5")), Shop.priced(Decimal("1.50"))),
    "by name": (("free", AB), ("free", BA)),
    "by name, inside": (("free", [{"a": AB}]), ("free", [{"a": BA}])),
    "by name, a set": (("free", set("abcdefgh")), ("free", set("hgfedcba"))),
    "a whole number": (("free", [1]), ("free", [1.0])),
}
OTHER: dict[str, tuple[Any, Any]] = {
    "another value": (Shop.paid(Paid(AB)), Shop.paid(Paid({"a": 1}))),
    "another set": (Shop.tagged({"x"}), Shop.tagged({"y"})),
    "another name": (Shop.tagged({"x"}), ("free", {"tags": ["x"]})),
    "another order of a list": (("free", [1, 2]), ("free", [2, 1])),
    "true for 1": (("free", {"a": [1]}), ("free", {"a": [True]})),
    "true for 1, inside": (Shop.paid(Paid({}, set(), {"a": 1})), Shop.paid(Paid({}, set(), {"a": True}))),
    "nothing for something": (("free", None), ("free", 0)),
    "nothing": (("free",), ("free", {})),
    "no comparison": (
        Shop.priced(Decimal(1), Stubborn(1)),
        raw("priced", b'{"stubborn":{"n":1},"price":"1"}'),
    ),
}


def send(handle: Any, what: Any, key: str = "k") -> bool:
    parts = what if isinstance(what, tuple) else (what,)
    return handle.signal(*parts, signal_id=key).duplicate


@pytest.fixture(params=["world", "engine"], name="system")
def _system(request: pytest.FixtureRequest, make_system: Callable[..., FlowSystem]) -> Any:
    if request.param == "engine":
        yield make_system(Shop)
    else:
        with World() as world:
            yield world


@pytest.mark.parametrize("name", SAME)
def test_the_same_signal_again_is_a_duplicate_whatever_its_bytes(system: Any, name: str) -> None:
    first, again = SAME[name]
    handle = system.start(Shop.sell, AB)

    assert [send(handle, what) for what in (first, again, first, again)] == [False, True, True, True]
    handle.signal(Shop.end)
    assert handle.result(DEAD_MAN_S) == 1
    assert send(handle, again)


@pytest.mark.parametrize("name", OTHER)
def test_another_value_under_the_same_id_is_refused(
    system: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = OTHER[name]
    handle = system.start(Shop.sell, AB)
    assert not send(handle, first)
    if name == "no comparison":
        monkeypatch.setattr(f"{__name__}.WHIM", ["to exit when it is compared"])

    with pytest.raises(SignalRejected, match="nothing was written"):
        send(handle, other)

    assert send(handle, first)


def test_a_signal_that_was_sent_before_its_type_grew_is_the_same(
    make_system: Callable[..., FlowSystem], tmp_path: Path
) -> None:
    path = tmp_path / "flows.db"
    system = make_system(Shop, path=path)
    handle = system.start(Shop.sell, AB, flow_id="a")
    send(handle, Shop.paid(Paid(AB, {"x", "y"})), "1")
    send(handle, Shop.tagged({"x"}), "2")
    system.close()

    system = make_system(Grown, path=path)
    handle = system.start(Grown.sell, BA, flow_id="a")

    assert send(handle, Grown.paid(Paid(BA, {"y", "x"})), "1")
    assert send(handle, Grown.tagged({"x"}), "2")
    with pytest.raises(SignalRejected):
        send(handle, Grown.tagged({"x"}, is_new=True), "2")
    with pytest.raises(FlowAlreadyExists):
        system.start(Grown.sell, BA, None, "other", flow_id="a")


def test_a_signal_to_a_flow_that_nobody_knows_is_compared_as_json(
    make_system: Callable[..., FlowSystem],
) -> None:
    store = memory_store()
    close, store.close = store.close, lambda: None  # type: ignore[method-assign]
    system = make_system(Shop, store=store)
    system.start(Shop.sell, AB, flow_id="a").signal("free", AB, signal_id="k")
    system.close()
    store.close = close  # type: ignore[method-assign]

    handle = make_system(store=store).flow("a")

    assert send(handle, ("free", BA))
    with pytest.raises(SignalRejected):
        send(handle, ("free", {"a": 1}))


def test_the_same_order_of_another_process_is_a_duplicate(
    make_system: Callable[..., FlowSystem], tmp_path: Path
) -> None:
    system = make_system(Shop, path=tmp_path / "flows.db")
    handle = system.start(Shop.sell, AB, flow_id="a")

    def post(payload: bytes) -> Any:
        with RemoteClient(tmp_path / "flows.db") as client:
            answered = client.signal("a", "paid", payload, signal_id="k").wait(DEAD_MAN_S)
        assert answered is not None
        return answered.result("a")

    assert not handle.signal_json("paid", b'{"data":{"meta":{"a":1,"b":2}}}', signal_id="k").duplicate
    assert handle.signal_json("paid", b'{"data":{"meta":{"b":2,"a":1}}}', signal_id="k").duplicate
    assert post(b'{"data":{"meta":{"b":2,"a":1}, "tags":[]}}').duplicate
    with pytest.raises(SignalRejected):
        post(b'{"data":{"meta":{"b":3}}}')


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ((AB, {"x", "y"}), (BA, {"y", "x"})),
        ((AB,), (BA, None)),
    ],
)
def test_the_same_start_again_is_the_same_flow(system: Any, first: Any, again: Any) -> None:
    handle = system.start(Shop.sell, *first, flow_id="a")

    assert system.start(Shop.sell, *again, flow_id="a").id == handle.id
    with pytest.raises(FlowAlreadyExists):
        system.start(Shop.sell, {"a": 2}, flow_id="a")
    handle.signal(Shop.end)
    assert handle.result(DEAD_MAN_S) == 1
    assert system.start(Shop.sell, *again, flow_id="a").result(DEAD_MAN_S) == 1
    with pytest.raises(FlowEnded):
        handle.signal("free", 1, signal_id="another")


def test_a_set_whose_members_have_no_order_is_sent_as_it_is(system: Any) -> None:
    handle = system.start(Shop.sell, AB)

    assert not send(handle, ("free", {1, "a", None, (2, "b")}))
    assert send(handle, ("free", {(2, "b"), None, "a", 1}))
    assert not send(handle, ("free", [Paid(AB, {"x", "y"}), {"z"}, ({"v"},)]), "2")
    assert send(handle, ("free", [Paid(BA, {"y", "x"}), {"z"}, [["v"]]]), "2")
