"""Repairs: how a flow that has failed is taken back to where it can run on."""

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
    """Return the event that repairs a flow; nothing of it becomes void when it has not failed.

    The failures that are retried are taken out of the history, and what is left is replayed, on an
    execution that is used for nothing else. As far as the code does the same as before, that stays;
    from where it does something else on, what it did is void.

    Raises:
        NondeterminismError: the code does something else already before the failure.
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
