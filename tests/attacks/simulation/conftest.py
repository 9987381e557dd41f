"""Long campaigns are switched by the environment: PERSISTASAURUS_RUNS=100000, PERSISTASAURUS_SEED=4711."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def runs() -> int | None:
    """So many runs are wanted; None: as many as every change can bear."""
    wanted = os.environ.get("PERSISTASAURUS_RUNS")
    return None if wanted is None else int(wanted)


@pytest.fixture
def seed() -> int | None:
    """The number of the first run; None: nobody has said."""
    wanted = os.environ.get("PERSISTASAURUS_SEED")
    return None if wanted is None else int(wanted)
