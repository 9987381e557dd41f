"""The handle of a projection: how far it is, and what can be done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ...flows.errors import ProjectionDefinitionError, SystemClosed
from ...flows.values.settings import check_timeout
from ...store.sqlite.projection_file import query_projection
from ..ref import Ref
from ..replies import got, got_async, refuse_on_step_loop
from ..runtime.actor import try_tell
from ..runtime.futures import Reply
from .projector import RebuildProjection, RetryProjection, WaitUntil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ...store import EventStore, Rows
    from ...store.sqlite.projection_place import ProjectionPlace
    from .projection import ProjectionDefinition
    from .projector import Projector

__all__ = ["ProjectionHandle"]


class ProjectionHandle:
    """A projection of a system. Every method may be called from any thread."""

    def __init__(
        self,
        definition: ProjectionDefinition,
        projector: Projector,
        store: EventStore,
        place: ProjectionPlace,
        check_open: Callable[[], None],
    ) -> None:
        self._definition = definition
        self._projector = projector
        self._store = store
        self._place = place
        self._check_open = check_open

    # ---------------------------------------------------------------------------------------- looking
    @property
    def name(self) -> str:
        """Its name."""
        return self._definition.name

    @property
    def path(self) -> Path | None:
        """Its file, which other programs may read at any time; None: it is in memory, as its store is."""
        return self._place.path

    @property
    def status(self) -> str:
        """`following`, `rebuilding`, `retrying` after an error, `parked`, or `stopped` with the system."""
        return self._projector.status

    @property
    def reason(self) -> str:
        """Why it is being retried, or is parked; "" otherwise."""
        return self._projector.reason

    @property
    def position(self) -> int:
        """Everything up to this position of the store's total order is visible to readers."""
        return self._projector.position

    @property
    def lag(self) -> int:
        """How many positions it is behind the store. It reads the store.

        Raises:
            SystemClosed: the system is closed.
        """
        self._check_open()
        return max(0, self._store.position() - self._projector.position)

    def query(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        """Run a read-only statement on its tables, as they are now; `values` are those of its placeholders.

        Raises:
            QueryFailed: it cannot be run, or would do more than read.
            StoreError: the file cannot be read.
        """
        return query_projection(self._place, statement, values)

    def is_of(self, definition: ProjectionDefinition) -> bool:
        """Tell whether it is the handle of this class."""
        return self._definition is definition

    # ---------------------------------------------------------------------------------------- waiting
    def wait_for(self, what: Ref[Any] | int | None = None, timeout: float | None = None) -> None:
        """Wait until everything is visible that was durable before this call.

        Args:
            what: whose events are waited for, or a position of the total order; None: all. Events become
                visible in the total order, so those before them do, too.
            timeout: how many seconds to wait; None: as long as it takes.

        Raises:
            ProjectionParked: it is parked, or becomes so meanwhile.
            SystemClosed: the system is closed, or closes meanwhile.
            TimeoutError: it did not come so far in time.
            ProjectionDefinitionError: it does not follow actors of that class.
            NotInFlowError: the caller is a flow's body; wait outside, or in a step.
        """
        check_timeout("wait_for", timeout)
        refuse_on_step_loop("await wait_for_async()")
        waiting = self._waited_for(what)
        try:
            got(waiting.reply, timeout, self._late())
        finally:
            waiting.reply.resolve(None)  # nobody waits any more

    async def wait_for_async(
        self,
        what: Ref[Any] | int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the same as wait_for's
    ) -> None:
        """Await what `wait_for` waits for; raises like it."""
        check_timeout("wait_for_async", timeout)
        waiting = self._waited_for(what)
        try:
            await got_async(waiting.reply, timeout, self._late())
        finally:
            waiting.reply.resolve(None)

    def _waited_for(self, what: Any) -> WaitUntil:
        position: int | None = None
        if isinstance(what, Ref):
            self._check_followed(cast("Ref[Any]", what))
        elif what is not None:
            if type(what) is not int:
                raise TypeError(f"wait_for({what!r}): give a reference to an actor, a position, or nothing")
            position = what
        waiting = WaitUntil(position, Reply())
        self._tell(waiting)
        return waiting

    def _check_followed(self, ref: Ref[Any]) -> None:
        if ref.type not in self._definition.decoders:
            names = ", ".join(map(repr, self._definition.decoders))
            raise ProjectionDefinitionError(f"projection {self.name!r} does not follow {ref!r}, but {names}")

    def _late(self) -> str:
        return f"projection {self.name!r} has not come so far"

    # ----------------------------------------------------------------------------------------- acting
    def retry(self) -> None:
        """Have it go on after it was parked, at the event that it failed at; otherwise this does nothing.

        Raises:
            SystemClosed: the system is closed.
        """
        reply: Reply[None] = Reply()
        self._tell(RetryProjection(reply))
        reply.get()

    def rebuild(self) -> None:
        """Have it built anew from the first event on, and return when that has begun.

        Until it has caught up, readers see the old tables; then they see the new ones, as a whole. It goes on
        after a restart. `wait_for` waits for it, too.

        Raises:
            SystemClosed: the system is closed.
            StoreError: its file cannot be used; the message says why.
        """
        reply: Reply[None] = Reply()
        self._tell(RebuildProjection(reply))
        reply.get()

    def _tell(self, message: WaitUntil | RetryProjection | RebuildProjection) -> None:
        self._check_open()
        if not try_tell(self._projector.actor_ref, message):
            raise SystemClosed(f"projection {self.name!r} follows no more: {self.reason or 'it is stopped'}")

    def __repr__(self) -> str:
        return f"<projection {self.name!r}: {self.status}>"
