"""Confirmations from another terminal: a signal, left where whoever owns the store takes it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...actors.handle import from_microseconds
from ...actors.remote.client import Postbox
from ...actors.runtime.seam import SystemClock
from ...flows.errors import FlowNotFound
from ...flows.examples import SignupFlow
from ..cli.output.exit_codes import DONE
from ..cli.output.screen import Screen

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["run"]

_PATIENCE_S = 10.0


def run(flow_id: str, store: Path) -> int:
    """Confirm a sign-up, and say what that means.

    Raises:
        PersistasaurusError: it was not confirmed.
        StoreError: the store cannot be used.
    """
    if not store.exists():
        raise FlowNotFound(flow_id)
    now = from_microseconds(SystemClock().now())
    call = SignupFlow.confirm_email_address(now)
    with Postbox(store) as postbox:
        answered = postbox.signal(flow_id, call.name, call.data).wait(_PATIENCE_S)
    if answered is None:
        Screen().line("On record. The sign-up takes it when it is run again.")
    else:
        answered.result(flow_id)
        Screen().line("Confirmed. The sign-up goes on, over there.")
    return DONE
