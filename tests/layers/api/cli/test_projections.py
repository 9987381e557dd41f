"""`projections`, and what `doctor` says of them: how far they are, and which are parked, engine or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import (
    EventSourcedActor,
    FlowSystem,
    Projection,
    ProjectionParked,
    SupervisorRules,
    command,
)
from persistasaurus.actors.flows.active_flow import RestartRules

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Ask


class Counted(msgspec.Struct, tag="counted"):
    number: int


class Total(msgspec.Struct):
    value: int = 0


class Counter(EventSourcedActor[Total, Counted], name="counter"):
    def apply(self, state: Total, event: Counted) -> None:
        state.value += event.number

    @command
    def count(self, number: int) -> int:
        self.record(Counted(number))
        return self.state.value


class Sums(Projection, name="sums", of=Counter):
    schema = "CREATE TABLE sum (id TEXT, number INT)"

    def on(self, db: Any, at: Any, stream: str, event: Counted) -> None:
        db.execute("INSERT INTO sum VALUES (?, ?)", (stream, event.number))


class Fails(Sums, name="fails", of=Counter):
    file = "elsewhere.db"

    def on(self, db: Any, at: Any, stream: str, event: Counted) -> None:
        if event.number == 3:
            raise ValueError("three is too many")


@pytest.fixture
def counted(store: Path) -> Path:
    rules = SupervisorRules(restart=RestartRules(initial_s=0.001, max_restarts=1))
    with FlowSystem(store, actors=[Counter], projections=[Sums, Fails], rules=rules) as system:
        counter = system.actor(Counter, "c")
        counter.ask(Counter.count, 1)
        for handle in system.projections:
            handle.wait_for(timeout=20)
        for number in (3, 4):
            counter.ask(Counter.count, number)
        system.projection(Sums).wait_for(timeout=20)
        with pytest.raises(ProjectionParked):
            system.projection(Fails).wait_for(timeout=20)
    return store


def listed(ask: Ask, *words: str | Path) -> dict[str, dict[str, Any]]:
    told = ask("projections", "--json", *words)
    assert told.exit_code == 0
    return {one["name"]: one for one in map(json.loads, told.stdout.splitlines())}


def test_it_shows_how_far_they_are_and_why_one_is_parked(ask: Ask, counted: Path) -> None:
    elsewhere = counted.with_name("elsewhere.db")
    found = listed(ask, elsewhere)

    end = found["sums"]["position"]
    assert (found["sums"]["status"], found["sums"]["lag"], found["sums"]["reason"]) == ("following", 0, "")
    assert (found["fails"]["status"], found["fails"]["lag"], found["fails"]["position"]) == (
        "parked",
        2,
        end - 2,
    )
    assert "at event 2 of 'c', 'counted'" in found["fails"]["reason"]
    assert "ValueError: three is too many" in found["fails"]["reason"]
    assert found["fails"]["file"] == str(elsewhere)
    assert listed(ask).keys() == {"sums"}
    people = ask("projections", elsewhere).stdout
    assert "parked" in people
    assert "following" in people


def test_a_file_that_cannot_be_read_is_listed_with_the_reason(ask: Ask, counted: Path) -> None:
    broken = counted.with_name(f"{counted.name}-projection-broken")
    broken.write_bytes(b"nothing of the kind" * 500)
    counted.with_name(f"{counted.name}-projection-empty").touch()

    found = listed(ask, counted.with_name("missing"))
    assert found["broken"]["status"] == found["empty"]["status"] == found["missing"]["status"] == "unreadable"
    assert "is damaged" in found["broken"]["reason"]
    assert "has not been built yet" in found["empty"]["reason"]
    assert "there is no projection at" in found["missing"]["reason"]
    assert found["broken"]["position"] is None
    assert "unreadable" in ask("projections").stdout
    checks = [json.loads(line) for line in ask("doctor", "--json").stdout.splitlines()]
    texts = [check["text"] for check in checks if check["name"] == "projections"]
    assert len(texts) == 2
    assert "broken is unreadable" in texts[0]


def test_without_projections_it_says_so(ask: Ask, store: Path) -> None:
    assert "No projections." in ask("projections").stderr
    assert listed(ask) == {}


def test_doctor_counts_those_that_are_well(ask: Ask, counted: Path) -> None:
    del counted
    checks = [json.loads(line) for line in ask("doctor", "--json").stdout.splitlines()]

    assert [check["text"] for check in checks if check["name"] == "projections"] == ["1 projection"]
