"""An incarnation: what a handler records is applied at once, and what fails leaves nothing."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest
from persistasaurus import (
    ActorStateError,
    EventSourcedActor,
    PayloadError,
    PayloadLimits,
    Refused,
    command,
    query,
)
from persistasaurus.flows.entities.actor import definition_of
from persistasaurus.flows.entities.incarnation import EntityIncarnation


class Put(msgspec.Struct, tag="put"):
    key: str
    value: Any = None
    items: list[int] = []


class Removed(msgspec.Struct, tag="removed"):
    key: str


class Other(msgspec.Struct, tag="other"):
    n: int


class ShelfState(msgspec.Struct):
    values: dict[str, Any] = {}
    items: list[list[int]] = []
    ratio: float = 0.0


class Shelf(EventSourcedActor[ShelfState, Put | Removed], name="shelf"):
    def apply(self, state: ShelfState, event: Put | Removed) -> Any:
        if isinstance(event, Removed):
            state.values["half"] = 1
            del state.values[event.key]
            return None
        state.items.append(event.items)
        state.values[event.key] = event.value
        if event.key == "nan":
            state.ratio = float("nan")
        if event.key == "returns":
            return "something"
        if event.key == "records":
            self.record(Removed("x"))
        return None

    @command
    def put(self, name: str, value: Any = None) -> list[str]:
        self.record(Put(name, value))
        return list(self.state.values)

    @command
    def put_all(self, names: list[str]) -> int:
        for name in names:
            self.put(name)
        return len(self.keys())

    @command
    def put_then(self, name: str, error: str) -> Any:
        self.record(Put(name))
        if error == "wrong event":
            self.record(Other(1))  # type: ignore[arg-type]
        if error == "wrong reply":
            return {1, (2, 3)}
        if error == "exit":
            raise SystemExit(3)
        raise Refused(error)

    @command
    def catch(self) -> str:
        try:
            self.record(Removed("nobody"))
        except KeyError:
            return "caught"
        return "not there"

    @command
    def refuse_first(self) -> None:
        raise Refused("before anything")

    @command
    def change(self) -> None:
        self.state.values["changed"] = 1

    @command
    def keep(self) -> None:
        self.last = 1

    @command
    def alias(self) -> list[list[int]]:
        mine = [1, 2]
        self.record(Put("a", items=mine))
        mine.append(3)
        return self.state.items

    @query
    def keys(self) -> list[str]:
        return list(self.state.values)

    @query
    def wrong(self) -> None:
        self.record(Put("q"))


class Shelves:
    """An incarnation, and what it has recorded so far."""

    def __init__(self, **options: Any) -> None:
        self.definition = definition_of(Shelf)
        self.incarnation = EntityIncarnation(self.definition, "s-1", **options)
        self.recorded: list[bytes] = []

    def __call__(self, part: Any, *args: Any) -> Any:
        handler = self.definition.handler(vars(Shelf)[part])
        values = handler.parameters.bind(args, {})
        recorded, reply = self.incarnation.handle(handler, values)
        self.recorded += [event.data for event in recorded]
        return reply

    def is_as_recorded(self) -> bool:
        again = EntityIncarnation(self.definition, "s-1")
        for data in self.recorded:
            again.replay(data)
        return bool(again.state == self.incarnation.state)


@pytest.fixture
def shelf() -> Shelves:
    return Shelves()


def test_what_is_recorded_is_applied_at_once_and_decoded(shelf: Shelves) -> None:
    assert shelf("put", "a", 1) == ["a"]
    assert shelf("put_all", ["b", "c"]) == 3
    assert shelf("alias") == [[], [], [], [1, 2]]
    assert shelf.recorded[0] == b'{"type":"put","key":"a","value":1,"items":[]}'
    assert shelf.is_as_recorded()


@pytest.mark.parametrize("value", [(1, 2), {1: "a"}, float("nan"), {1, 2}, b"x"])
def test_an_event_that_would_not_come_back_equal_is_refused_with_its_path(shelf: Shelves, value: Any) -> None:
    with pytest.raises(PayloadError, match=r"event Put of Shelf: the value at \$.value"):
        shelf("put", "a", value)
    assert (shelf("keys"), shelf.recorded) == ([], [])


def test_an_event_of_no_use_is_refused_and_so_is_one_that_is_too_large(shelf: Shelves) -> None:
    with pytest.raises(TypeError, match=r"Other\(n=1\) is not an event of Shelf, which records Put, Removed"):
        shelf("put_then", "a", "wrong event")
    small = Shelves(limits=PayloadLimits(size=100))
    with pytest.raises(PayloadError, match=r"event Put of Shelf: .* exceed the limit of 100"):
        small("put", "a" * 100)
    assert shelf.incarnation.state == small.incarnation.state == ShelfState()


@pytest.mark.parametrize("before", [0, 1, 3, 100])
@pytest.mark.parametrize("error", ["not now", "wrong event", "wrong reply", "exit"])
def test_a_command_that_fails_leaves_nothing(shelf: Shelves, before: int, error: str) -> None:
    for number in range(before):
        shelf("put", f"k{number}", number)
    with pytest.raises((Refused, TypeError, PayloadError, SystemExit)):
        shelf("put_then", "late", error)
    with pytest.raises(Refused):
        shelf("refuse_first")

    assert len(shelf("keys")) == len(shelf.recorded) == before
    assert shelf("put", "late") == [*(f"k{number}" for number in range(before)), "late"]
    assert shelf.is_as_recorded()


def test_a_bug_in_apply_costs_the_command_that_meets_it_also_when_that_catches_it(shelf: Shelves) -> None:
    shelf("put", "a")
    with pytest.raises(KeyError, match="nobody"):
        shelf("catch")
    for wrong in ("returns", "records"):
        with pytest.raises((TypeError, RuntimeError), match=r"returned 'something'|called in apply"):
            shelf("put", wrong)

    assert shelf("keys") == ["a"]
    assert shelf.is_as_recorded()


def test_only_a_command_that_is_being_handled_records(shelf: Shelves) -> None:
    with pytest.raises(RuntimeError, match=r"record\(\) was called in query 'Shelf.wrong'; only a command"):
        shelf("wrong")
    with pytest.raises(RuntimeError, match=r"<Shelf 's-1'>: record\(\) was called in no command"):
        shelf.incarnation._actor.record(Put("a"))
    assert shelf.incarnation._actor.id == "s-1"


def test_an_actor_keeps_nothing_but_its_state(shelf: Shelves) -> None:
    with pytest.raises(
        ActorStateError, match=r"self.last of Shelf 's-1' was assigned to.*Make 'last' a field"
    ):
        shelf("keep")
    with pytest.raises(TypeError, match=r"Shelf\(\) makes no actor: write system.actor\(Shelf, id\)"):
        Shelf()
    with pytest.raises(TypeError, match=r"started by its first message: system.actor\(Shelf, id\)"):
        Shelf.start()  # type: ignore[attr-defined]


def test_a_change_outside_of_apply_is_found_when_it_is_looked_for(shelf: Shelves) -> None:
    shelf("change")
    assert shelf("keys") == ["changed"]

    checked = Shelves(is_checked=True)
    checked("put", "a")
    with pytest.raises(
        ActorStateError, match=r"command 'Shelf.change' changed state.values\['changed'\] outside"
    ):
        checked("change")
    assert checked("put", "b") == ["a", "b"]
    assert checked.is_as_recorded()


def test_a_state_whose_bytes_would_not_bring_it_back_says_so_once_and_that_it_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    shelf = Shelves(is_checked=True)
    shelf.incarnation.replay(b'{"type":"put","key":"nan"}')
    shelf("put", "a")
    shelf("put", "b")
    with pytest.raises(Refused):
        shelf("put_then", "late", "not now")

    assert shelf.incarnation.is_lost
    assert caplog.text.count("is slow to undo a command, and cannot be checked: the state of Shelf") == 1


def test_what_is_kept_to_come_back_to_grows_with_the_state_and_not_with_its_age(shelf: Shelves) -> None:
    for number in range(1000):
        shelf("put", "same", number)

    incarnation = shelf.incarnation
    assert sum(map(len, incarnation._tail)) <= 2 * max(512, len(incarnation._kept or b""))
