"""Repairs, which take a failed flow back to where it can continue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import events
from ..errors import NondeterminismError
from .history import Plan, failures_to_retry, plan_of
from .replay_check import ReplayChecker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .execution import Execution
    from .history import Recorded


def repair_of(
    history: Sequence[Recorded], scratch: Execution, flow: str, by: str, why: str
) -> events.Repaired:
    """Return the event that repairs a flow. It voids nothing if the flow has not failed.

    It replays the history without the failures to retry, on an execution that serves only for this. As long
    as the code does the same as before, its history stays; from the first difference on, it is void.

    Raises:
        NondeterminismError: the code differs already before the failure.
    """
    retried, failed_at = failures_to_retry(history)
    if failed_at is None:
        return events.Repaired(None, by, why)
    plan = plan_of(history)
    since = _first_difference(history, Plan(plan.void | set(retried), plan.rewound), scratch, flow)
    if since is None or since.version is None or since.version > failed_at:
        return events.Repaired(failed_at, by, why, retried)
    if since.version < min((failed_at, *retried)):
        raise since
    return events.Repaired(since.version, by, why, retried)


def _first_difference(
    history: Sequence[Recorded], plan: Plan, scratch: Execution, flow: str
) -> NondeterminismError | None:
    checker = ReplayChecker(scratch, flow)
    scratch.sink = checker
    try:
        checker.replay(history, plan)
    except NondeterminismError as error:
        return error
    finally:
        scratch.close()
    return None
