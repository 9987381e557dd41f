"""Systems with flows in them, clients of their API, and wires to a server that each module has at `url`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from persistasaurus import FlowSystem
from persistasaurus.flows.examples import HelloWorldFlow, signup_flow
from routes.client import Client
from routes.flows import Anything, Questions
from serving.doubles import Effects, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _broken() -> Iterator[None]:
    Questions.broken = True
    yield
    Questions.broken = True


@pytest.fixture
def system() -> Iterator[FlowSystem]:
    with FlowSystem(flows=[HelloWorldFlow, signup_flow(timedelta(0)), Questions, Anything]) as opened:
        yield opened


@pytest.fixture
def client(system: FlowSystem) -> Client:
    return Client.of(system)


@pytest.fixture(scope="module")
def effects() -> Effects:
    return Effects()


@pytest.fixture
def wire(url: str, effects: Effects) -> Iterator[Wire]:
    """Connect to the module's server, which has done nothing yet."""
    effects.done.clear()
    with Wire(url) as wire:
        yield wire
