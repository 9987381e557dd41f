"""What of a flow's state goes to the process of an isolated step, and what it says of the rest."""

from __future__ import annotations

import sys
from collections import namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from threading import Lock
from typing import Any
from uuid import UUID

import msgspec
import pytest
from persistasaurus import Flow, FlowDefinitionError, FlowFailed, FlowSystem, flow, step
from persistasaurus.flows.errors import FlowStateError
from persistasaurus.flows.values.remote_state import RemoteState, is_found
from steps.kept import SYSTEMS, Kept

Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - that it works, too


@dataclass
class Order:
    number: int
    lines: list[str]


class Slotted(Flow):
    __slots__ = ("stage",)


VALUES = [
    None,
    True,
    0,
    -(1 << 63),
    (1 << 63) - 1,
    1 << 63,
    -(1 << 200),
    1.5,
    float("inf"),
    "text \u00e9",
    b"\x00\xff",
    [],
    [1, [2, (3,)]],
    (),
    {1, (2, 3)},
    frozenset({"a"}),
    {1: "a", (1, 2): [None], "b": {}},
    ["list", ["int"]],
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1),  # noqa: DTZ001 - as a user may keep it
    date(2026, 1, 1),
    timedelta(days=1),
    UUID(int=7),
    Pair(1, "b"),
    Order(1, ["a"]),
    [Order(1, []), {"x": Order(2, ["b"])}],
]


def find(module: str, name: str) -> Any:
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found


def there_and_back(instance: Any) -> Any:
    sent = msgspec.msgpack.encode(RemoteState.of(instance))
    return msgspec.msgpack.decode(sent, type=RemoteState).bring_back(find, "a step")


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_is(value: Any) -> None:
    kept = Kept()
    kept.value = value

    back = there_and_back(kept)

    assert type(back) is Kept
    assert repr(back.value) == repr(value)


def test_what_is_kept_in_slots_comes_too_and_what_is_not_set_does_not() -> None:
    kept = Slotted()
    assert not hasattr(there_and_back(kept), "stage")
    kept.stage = "done"

    assert there_and_back(kept).stage == "done"


class Elsewhere:
    """Its class is found, but nothing knows how to store it."""


def cycle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def of_a_local_class() -> Any:
    class Local(msgspec.Struct):
        n: int

    return Local(1)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (Lock(), "lock"),
        (Elsewhere(), "Elsewhere"),
        ([Elsewhere()], "Elsewhere"),
        (cycle(), "recursion"),
        (of_a_local_class(), "is not found by its name"),
        (float, "type"),
        (print, "builtin"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_sent_raises_when_it_is_asked_for_and_not_before(value: Any, why: str) -> None:
    kept = Kept()
    kept.fine, kept.inherited = "fine", value

    back = there_and_back(kept)

    assert isinstance(back, Kept)
    assert back.fine == "fine"
    with pytest.raises(FlowStateError, match=r"'a step' read self\.inherited") as told:
        _ = back.inherited
    assert why in str(told.value)
    assert "as an argument" in str(told.value)


@pytest.mark.parametrize("what", ["system", "lock"])
def test_an_isolated_step_has_no_system_and_says_what_to_do(what: str) -> None:
    with FlowSystem(flows=[Kept]) as system:
        SYSTEMS[:] = [system]
        with pytest.raises(FlowFailed, match=r"FlowStateError: 'ask' read self\.inherited") as failed:
            system.run(Kept.go, what)

    assert "without isolated=True" in failed.value.message


def test_an_isolated_step_that_asks_for_what_the_program_makes_is_told_that_it_is_not_there() -> None:
    with FlowSystem(flows=[Kept]) as system:
        trace = system.run(Kept.miss)

    assert "NameError: name 'system' is not defined" in trace
    assert "A step that uses the system runs without isolated=True" in trace


def test_a_step_that_no_other_process_would_find_is_refused_at_the_definition() -> None:
    class Local(Flow):
        @flow(name="local")
        async def go(self) -> None:
            await self.work()

        @step(isolated=True)
        def work(self) -> None: ...

    with pytest.raises(FlowDefinitionError, match="'work' is isolated, but another process cannot import"):
        FlowSystem(flows=[Local])


def test_what_was_typed_in_is_found_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "Order", Order, raising=False)
    monkeypatch.setattr(main, "__file__", "script.py", raising=False)
    assert is_found(("__main__", "Order"), Order)
    monkeypatch.delattr(main, "__file__")

    assert not is_found(("__main__", "Order"), Order)
    assert not is_found(("no_such_module", "Order"), Order)
