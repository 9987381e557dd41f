"""What to do about a step whose attempt is recorded without an outcome."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from .. import events

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .pending import StepRun

_SUSPICIOUS = 2
"""After this many unresolved attempts a step only runs when no other suspect does."""
_LONG = 1_000_000
"""A lethal step kills the process soon. One that had run for this many microseconds may be innocent."""
_PATIENCE = 3
"""The process may die this many times as often during such a step."""


class Evidence(NamedTuple):
    """How the previous process ended, as far as it exonerates the steps that ran then."""

    is_blameless: bool = False
    """It was told to end, or its code was another: no step is to blame."""
    alive_at: int | None = None
    """When it was last seen alive, in microseconds since the epoch, UTC."""

    def excuses(self, run: StepRun) -> bool:
        """Return whether a step had been running for long when the process died."""
        return self.alive_at is not None and self.alive_at - run.attempted_at >= _LONG


NONE = Evidence()


class InDoubtAction(enum.Enum):
    """What to do about a step in doubt, other than to park its flow."""

    RUN = "run"
    RUN_ALONE = "run alone"
    RECONCILE = "reconcile"


def decide_in_doubt(
    run: StepRun, poison_after: int, *, is_reconciled: bool = False, evidence: Evidence = NONE
) -> InDoubtAction | events.Parked:
    """Return what to do. A person's approval overrides everything that has happened.

    `reconcile` is called even so: the approval may have been for another step of the flow.
    """
    if not run.is_doubtful:
        return InDoubtAction.RUN
    # An isolated step can only kill a process of its own, so the engine's deaths are not its doing.
    deaths = 0 if run.step.isolated else run.unresolved
    limit = poison_after * (_PATIENCE if evidence.excuses(run) else 1)
    if not run.approved and deaths >= limit:
        return events.Parked(
            "poisoned",
            f"the process died {deaths} times during step {run.number} {run.step.name!r}, and"
            f" Limits(poison_after={poison_after}) allows no more. Find out whether the step is to blame;"
            " handle.retry() runs it again",
        )
    if not is_reconciled and run.step.reconcile is not None:
        return InDoubtAction.RECONCILE
    if run.approved:
        return InDoubtAction.RUN
    if not is_reconciled and run.step.on_crash == "park":
        return events.Parked(
            "in_doubt",
            f"step {run.number} {run.step.name!r} was interrupted: its process died, or did not wait for it."
            " It is not known whether its effect has happened. Find out; handle.retry() runs the step again",
        )
    return InDoubtAction.RUN_ALONE if deaths >= _SUSPICIOUS else InDoubtAction.RUN


def parked_in_doubt(actions: Iterable[InDoubtAction | events.Parked]) -> events.Parked | None:
    """Return the event that parks a flow if any of its steps needs a person; it names all of them.

    A retry approves every in-doubt step of the flow, so the message must list all of them.
    """
    found = [action for action in actions if isinstance(action, events.Parked)]
    return events.Parked(found[0].reason, "; ".join(parked.message for parked in found)) if found else None
