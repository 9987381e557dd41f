"""How long the machines run: PERSISTASAURUS_EXAMPLES=2000 pytest tests/machines for a campaign.

Every change sees the same examples, and a failure prints its steps. A campaign takes others each time,
unless it is given a seed: pytest --hypothesis-seed=7.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_EXAMPLES = int(os.environ.get("PERSISTASAURUS_EXAMPLES", "0"))


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
