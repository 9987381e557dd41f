"""Bugs of projections: events that are skipped, or taken twice, and tables that are shown too early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import structs
from persistasaurus.actors.projections.projector import Projector, _EventFailure
from persistasaurus.store.sqlite.projection_file import ProjectionFile
from simulation.planted.planting import Bug, wrap

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

PROJECTION_BUGS: dict[str, Bug] = {}
"""They are hunted by runs of their own: see `simulation/projected.py`."""


def _bug(change: Callable[[pytest.MonkeyPatch], None]) -> None:
    PROJECTION_BUGS[change.__name__] = Bug(change.__name__, (change.__doc__ or "").strip(), change)


@_bug
def position_committed_after_the_rows(patch: pytest.MonkeyPatch) -> None:
    """The rows and the position are committed one after the other."""

    def apply(before: Any, self: Any, work: Any, state: Any, at: int) -> Any:
        found: list[Any] = []

        def stay(database: Any) -> Any:
            found.append(work(database))
            return state.position, state.mark

        before(self, stay, state, at)
        return before(self, lambda _: found[0], state, at)

    wrap(patch, ProjectionFile, "apply", apply)


@_bug
def position_committed_before_the_rows(patch: pytest.MonkeyPatch) -> None:
    """The position is committed first, and the rows after it."""

    def apply(before: Any, self: Any, records: Any, state: Any, page: Any) -> Any:
        last = page[-1].position
        after = records.apply(lambda _: (last, str(last)), state, 0)
        return before(self, records, after, page)

    wrap(patch, Projector, "_apply", apply)


@_bug
def event_skipped_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    """Whoever opens the file goes on after the event that comes next."""

    def target(before: Any, self: Any) -> Any:
        file, state = before(self)
        if state.position and not getattr(self, "_has_gone_on", False):
            self._has_gone_on = True
            store, self._store = self._store, _OneAhead(self)
            self._real_store = store
        return file, state

    wrap(patch, Projector, "_target", target)


class _OneAhead:
    def __init__(self, projector: Any) -> None:
        self._projector = projector
        self._store = projector._store

    def scan_all(self, *, after: int, limit: int) -> Any:
        self._projector._store = self._store
        return self._store.scan_all(after=after + 1, limit=limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@_bug
def failed_event_passed_over(patch: pytest.MonkeyPatch) -> None:
    """An event that `on` has failed at is left out."""

    def on(before: Any, self: Any, *args: Any) -> None:
        try:
            before(self, *args)
        except _EventFailure as failure:
            if not isinstance(failure.error, ValueError):
                raise

    wrap(patch, Projector, "_on", on)


@_bug
def shown_before_it_is_complete(patch: pytest.MonkeyPatch) -> None:
    """A draft takes the place of the old tables after its first page."""

    def take(before: Any, self: Any, state: Any) -> None:
        before(self, state)
        if self._draft is not None:
            self.position = state.position
            self._main_state = structs.replace(state, position=state.position)
            self._main.replace_by(self._draft)
            self._draft.close()
            self._draft = None

    wrap(patch, Projector, "_take", take)


@_bug
def commit_not_heard_of(patch: pytest.MonkeyPatch) -> None:
    """A projector that has caught up does not hear of the next commit."""

    def receive(before: Any, self: Any, message: Any) -> None:
        before(self, message)
        self.is_told = True

    wrap(patch, Projector, "on_receive", receive)
