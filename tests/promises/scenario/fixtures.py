"""A world for each test of sign-ups, closed at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scenario.signups import Signups
from scenario.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "flows.db")
    yield world
    world.close()


@pytest.fixture
def signups(world: World) -> Signups:
    return Signups(world)
