"""What must never happen cannot, in any order of events; and without any one of its guards it can.

A model is as good as its likeness: each guard names the code that it stands for, and what is to be
found there.
"""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING

import pytest
from model.explorer import explore
from model.fence import Fence
from model.mailbox import Mail
from model.migration import Migration
from model.passivation import Passivation
from model.relief import Relief
from model.remote_requests import RemoteRequests
from model.signal_race import SignalRace
from model.timer import Timer

if TYPE_CHECKING:
    from model.explorer import Model

MODELS: list[type[Model]] = [Fence, Passivation, SignalRace, Timer, Migration, RemoteRequests, Mail, Relief]
GUARDS = [
    pytest.param(model, guard, id=f"{model.__name__}-{guard}") for model in MODELS for guard in model.guards
]


@pytest.mark.parametrize("model", MODELS)
def test_nothing_goes_wrong_and_everything_ends_whatever_the_order(model: type[Model]) -> None:
    begun = time.perf_counter()
    explored = explore(model())
    assert explored.finding is None, str(explored.finding)
    print(f"{model.__name__}: {explored.states} states in {time.perf_counter() - begun:.2f} s")  # noqa: T201 - the figures of the model
    assert explored.states > 20, "a model that hardly does anything shows hardly anything"


@pytest.mark.parametrize(("model", "guard"), GUARDS)
def test_each_guard_is_needed(model: type[Model], guard: str) -> None:
    explored = explore(model(without=guard))
    assert explored.finding is not None, f"nothing goes wrong without it: {model.guards[guard].what}"
    print(explored.finding)  # noqa: T201 - the way to it


@pytest.mark.parametrize(("model", "guard"), GUARDS)
def test_each_guard_stands_for_code_that_is_there(model: type[Model], guard: str) -> None:
    found = model.guards[guard]
    assert found.words in inspect.getsource(found.code), f"{found.code.__qualname__} does it otherwise now"


@pytest.mark.parametrize("model", MODELS)
def test_a_guard_that_does_not_exist_cannot_be_left_out(model: type[Model]) -> None:
    with pytest.raises(KeyError):
        model(without="gravity")
