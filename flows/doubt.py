"""What to do about a step whose attempt is recorded, and of which nobody knows whether it has happened."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from . import events

if TYPE_CHECKING:
    from .pending import StepRun

_SUSPICIOUS = 2
"""So many unresolved attempts, and the step only runs when no other suspect does."""


class Verdict(enum.Enum):
    """What to do about a step in doubt, other than to park its flow."""

    RUN = "run"
    RUN_ALONE = "run alone"
    RECONCILE = "reconcile"


def judge(run: StepRun, poison_after: int, *, is_reconciled: bool = False) -> Verdict | events.Parked:
    """Return what is to be done. A person's approval counts for more than anything that has happened."""
    if run.approved or not run.is_doubtful:
        return Verdict.RUN
    if run.unresolved >= poison_after:
        return events.Parked(
            "poisoned", f"the process died {run.unresolved} times during step {run.number} {run.step.name!r}"
        )
    if not is_reconciled and run.step.reconcile is not None:
        return Verdict.RECONCILE
    if not is_reconciled and run.step.on_crash == "park":
        return events.Parked(
            "in_doubt",
            f"the process died during step {run.number} {run.step.name!r}, and it is not known whether"
            " its effect has happened. Find out; handle.retry() runs the step again",
        )
    return Verdict.RUN_ALONE if run.unresolved >= _SUSPICIOUS else Verdict.RUN
