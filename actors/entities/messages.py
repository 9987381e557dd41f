"""What is sent to the actor behind a reference."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from ...flows.entities.definition import Handler
from ...store import Append
from ...store.contract import Outcome
from ..runtime.actor import try_tell
from ..runtime.futures import Reply

__all__ = ["FinishAll", "HandleCall", "LookAt", "LookIfIdle", "PendingAppend"]


class HandleCall(msgspec.Struct):
    """Run a command or query. `reply` is None if nobody waits for the answer."""

    handler: Handler
    values: msgspec.Struct
    reply: Reply[Any] | None


class PendingAppend(msgspec.Struct):
    """An append on its way: to the journal as its entry, and back to the entity as the answer."""

    write: Append
    ref: Any
    outcome: Outcome | None = None

    def done(self, outcome: Outcome) -> None:
        """Take the journal's answer back to the entity's turn."""
        self.outcome = outcome
        try_tell(self.ref, self)


class LookIfIdle(NamedTuple):
    """Passivate, if there was nothing to do for long enough."""


class LookAt(NamedTuple):
    """Reply with the entity's actor itself, if it could be recovered: for tools and tests."""

    reply: Reply[Any]


class FinishAll(NamedTuple):
    """Reply when everything that was sent before has been answered."""

    reply: Reply[None]
