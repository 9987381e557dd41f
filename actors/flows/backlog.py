"""The backlog: flows that have something to do and wait in the store until others are through.

Only so many flows are at work at a time. A start beyond that is recorded, and nothing more: no actor, no
code. The flow's header says that it has been due since, so it is found like one whose time has come, or one
that ran when the process died: by the question which flows are due, page by page, as there is room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...flows import events
from ...store import Append, Appended, HeaderChange, NewRecord, StreamState, WrongExpectedVersion
from ..persistence.journal import Entry
from . import requests
from .refusals import unconfirmed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...store import Outcome
    from ..persistence.persistent_actor import StreamAccess
    from ..runtime.environment import Environment

__all__ = ["Backlog"]


class Backlog:
    """What the supervisor has left in the store, and since when.

    `hear` gets `StartDeferred`, or the start again if the flow exists. `look_from` has flows found that have
    been due since an instant.
    """

    def __init__(
        self,
        access: StreamAccess,
        environment: Environment,
        hear: Callable[[object], None],
        look_from: Callable[[int], None],
    ) -> None:
        self._access = access
        self._environment = environment
        self._hear = hear
        self._look_from = look_from
        self._since: int | None = None

    def put(self, start: requests.StartFlow) -> None:
        """Record a start, and answer it when that is durable. If the flow exists, it is compared as usual."""
        at = self._environment.clock.now()
        started = events.FlowStarted(start.type, msgspec.Raw(start.args), self._environment.new_seed())
        record = NewRecord(at, events.kind(started), events.encode(started))
        due = HeaderChange("running", StreamState.OPEN, at)

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Appended):
                start.reply.resolve(None)
                start.end.resolve(None)  # whoever wants to know how it ends asks the store, and then us
                self._hear(requests.StartDeferred(at))
            elif isinstance(outcome, WrongExpectedVersion):
                self._hear(start._replace(may_be_new=False))
            else:
                start.reply.fail(unconfirmed(start.flow_id, outcome))

        append = Append(start.flow_id, 0, (record,), due, start.type)
        self._access.journal.tell(Entry(append, done))

    def leave(self, since: int = 0) -> None:
        """Take note that something was left in the store that has been due since an instant."""
        self._since = since if self._since is None else min(self._since, since)

    def look(self) -> None:
        """Have what was left in the store found, if anything was."""
        since, self._since = self._since, None
        if since is not None:
            self._look_from(since)
