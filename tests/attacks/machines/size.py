"""How long the machines run: PERSISTASAURUS_EXAMPLES=2000 pytest tests/attacks/machines for a campaign.

Every change sees the same examples, and a failure prints its steps. So does a campaign; PERSISTASAURUS_SEED=7
chooses another one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

from hypothesis import HealthCheck, seed, settings

if TYPE_CHECKING:
    from hypothesis.stateful import RuleBasedStateMachine

_EXAMPLES = int(os.environ.get("PERSISTASAURUS_EXAMPLES", "0"))
_SEED = int(os.environ.get("PERSISTASAURUS_SEED", "1"))

M = TypeVar("M", bound="type[RuleBasedStateMachine]")


def seeded(machine: M) -> M:
    """Have a campaign depend on nothing but its seed, so that the same command finds the same again."""
    return seed(_SEED)(machine) if _EXAMPLES else machine


def size(usual: int, steps: int) -> settings:
    """So many examples of so many steps, unless this is a campaign."""
    return settings(
        max_examples=_EXAMPLES or usual,
        stateful_step_count=steps,
        derandomize=not _EXAMPLES,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
