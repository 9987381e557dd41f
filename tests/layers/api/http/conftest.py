"""Systems with flows in them, and clients of their API."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from persistasaurus import FlowSystem
from persistasaurus.flows.examples import HelloWorldFlow, signup_flow
from routes.client import Client
from routes.flows import Anything, Questions

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def system() -> Iterator[FlowSystem]:
    with FlowSystem(flows=[HelloWorldFlow, signup_flow(timedelta(0)), Questions, Anything]) as opened:
        yield opened


@pytest.fixture
def client(system: FlowSystem) -> Client:
    return Client.of(system)
