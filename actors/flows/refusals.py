"""Refusals: what somebody hears whose request cannot be met, or need not, or whose outcome is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...flows import events
from ...flows.errors import FlowEnded, StoreUnavailable, WrongStatus

if TYPE_CHECKING:
    from ...store import EventStore
    from . import requests

__all__ = ["check_control", "nothing_to_retry", "unconfirmed", "was_done"]

_CONTROLS = (events.kind(events.Paused()), events.kind(events.Resumed()))


def was_done(store: EventStore, request: requests.PauseFlow | requests.ResumeFlow) -> bool:
    """Tell whether a request that another process left was done before, by an engine that could not respond.

    Raises:
        StoreError, MsgspecError: it cannot be told.
    """
    left = request.left
    if left is None:
        return False
    records = (r for r in store.read(request.flow_id, after=left.seen) if r.kind in _CONTROLS)
    return any(getattr(events.decode(record.data), "request", "") == left.id for record in records)


def check_control(flow_id: str, status: str) -> None:
    """Refuse to pause or resume what cannot be.

    Raises:
        FlowEnded: the flow has ended.
        WrongStatus: it is parked.
    """
    if status in ("completed", "failed"):
        raise FlowEnded(flow_id, status)
    if status == "parked":
        text = f"flow {flow_id!r} is parked: find out why, then handle.retry(); nothing was changed"
        raise WrongStatus(flow_id, status, text)


def nothing_to_retry(flow_id: str, status: str) -> WrongStatus:
    """Return what somebody is told who wants to retry what has not failed."""
    return WrongStatus(flow_id, status, f"flow {flow_id!r} is {status}: there is nothing to retry")


def unconfirmed(flow_id: str, why: Any) -> StoreUnavailable:
    """Return what a caller is told whose request may, or may not, have been recorded."""
    if isinstance(why, StoreUnavailable):
        return why
    unavailable = StoreUnavailable(
        f"flow {flow_id!r} could not confirm: {why}. Whether it is recorded is not known; the same request"
        " again, with the same id, is safe"
    )
    if isinstance(why, BaseException):
        unavailable.__cause__ = why
    return unavailable
