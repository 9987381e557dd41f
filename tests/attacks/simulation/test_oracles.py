"""The oracles can see: each of these bugs, planted into the engine, is found, and called by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.flows.supervisor import Supervisor
from persistasaurus.actors.flows.timers import Timers
from persistasaurus.actors.persistence.journal import Journal
from persistasaurus.flows.machine.execution import Execution
from persistasaurus.flows.machine.pending import Due
from persistasaurus.store import Append, Appended, CommitUnknown, Deliver, Delivered, StoreError
from simulation.campaign import run_campaign

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 300


def acknowledges_before_it_commits(patch: pytest.MonkeyPatch) -> None:
    commit = Journal._commit

    def early(self: Any, entries: list[Any]) -> None:
        for entry in entries:
            if isinstance(entry.write, Deliver):
                entry.done(Delivered(1, entry.write.at, duplicate=False))
        commit(self, entries)

    patch.setattr(Journal, "_commit", early)


def swallows_an_error_of_the_store(patch: pytest.MonkeyPatch) -> None:
    commit = Journal._commit

    def deaf(self: Any, entries: list[Any]) -> None:
        real = self._store.commit

        def fine(writes: Any) -> Any:
            try:
                return real(writes)
            except (CommitUnknown, StoreError):
                return [
                    Appended(w.expected + len(w.records))
                    if isinstance(w, Append)
                    else Delivered(1, w.at, False)
                    for w in writes
                ]

        store, self._store = self._store, _Store(self._store, fine)
        commit(self, entries)
        self._store = store

    patch.setattr(Journal, "_commit", deaf)


class _Store:
    def __init__(self, inner: Any, commit: Callable[..., Any]) -> None:
        self._inner = inner
        self.commit = commit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def acts_before_it_records(patch: pytest.MonkeyPatch) -> None:
    write = FlowActor.write

    def hasty(self: Any, append: Any, then: Callable[[], None], failed: Any = None) -> None:
        then()
        write(self, append, lambda: None, failed)

    patch.setattr(FlowActor, "write", hasty)


def fires_timers_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Due, "has_come", lambda self, moment: self.remaining(moment) <= 4)


def forgets_timers_at_recovery(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timers, "_take", lambda *_: None)


def does_not_pause(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Execution, "is_still", property(lambda self: self.ended is not None))


def starts_two_actors(patch: pytest.MonkeyPatch) -> None:
    launch = Supervisor._launch

    def twice(self: Any, active: Any, found: Any) -> None:
        launch(self, active, found)
        if active.incarnation % 7 == 0:
            launch(self, active, found)

    patch.setattr(Supervisor, "_launch", twice)


PLANTED = {
    acknowledges_before_it_commits: "signal",
    swallows_an_error_of_the_store: "",
    acts_before_it_records: "",
    fires_timers_early: "came before its time",
    forgets_timers_at_recovery: "does not end",
    does_not_pause: "is paused, and goes on",
    starts_two_actors: "two live actors",
}


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)

    found = run_campaign(RUNS, seed=0)

    assert found is not None
    print(found)  # noqa: T201 - seeds are told
    assert PLANTED[bug] in found.what
