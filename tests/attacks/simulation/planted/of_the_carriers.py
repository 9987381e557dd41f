"""Bugs of the carriers, the watchman and short steps, each with the scenario that catches it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from persistasaurus.actors.runtime.carriers import Carriers
from persistasaurus.actors.runtime.watchman import Watchman
from persistasaurus.actors.steps import short_steps
from persistasaurus.actors.steps.short_steps import ShortSteps
from simulation.planted import standstills
from simulation.planted.planting import Bug, wrap

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class Planted(NamedTuple):
    bug: Bug
    scenario: Callable[[], None]


STANDSTILLS: dict[str, Planted] = {}


def caught_by(scenario: Callable[[], None]) -> Any:
    """Register a bug as `planting.bug` does, with the scenario that catches it."""

    def register(change: Callable[[pytest.MonkeyPatch], None]) -> Any:
        name = change.__name__
        assert name not in STANDSTILLS, name
        STANDSTILLS[name] = Planted(Bug(name, (change.__doc__ or "").strip(), change), scenario)
        return change

    return register


@caught_by(standstills.one_carrier_after_another_is_held)
def returning_carrier_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A carrier that was relieved takes from the queue again, and is not counted."""
    patch.setattr(Carriers, "_comes_back", lambda *_: True)


@caught_by(standstills.one_carrier_after_another_is_held)
def nobody_wakes_the_watchman(patch: pytest.MonkeyPatch) -> None:
    """The watchman is taken to be awake when it sleeps."""
    patch.setattr(Watchman, "is_asleep", property(lambda _: False, lambda *_: None), raising=False)


@caught_by(standstills.one_carrier_after_another_is_held)
def watchman_sees_nothing(patch: pytest.MonkeyPatch) -> None:
    """A turn that stands still is taken for a new one."""

    def look(before: Any, self: Any, weight: int) -> bool:
        for post in self._posts:
            post.seen_turn = -1
        return before(self, weight)

    wrap(patch, Watchman, "_look", look)


@caught_by(standstills.one_carrier_after_another_is_held)
def relieved_and_not_replaced(patch: pytest.MonkeyPatch) -> None:
    """A stuck carrier counts no longer, and nobody takes its place."""

    def relieve(_: Any, self: Any, post: Any) -> None:
        with self.lock:
            post.is_relieved = True
            self._relieved += 1

    wrap(patch, Carriers, "relieve", relieve)


@caught_by(standstills.one_carrier_after_another_is_held)
def spare_ones_not_dismissed(patch: pytest.MonkeyPatch) -> None:
    """Who has stepped aside is not told that all is over."""

    def retire(before: Any, self: Any) -> None:
        spare, self._spare = self._spare, []
        before(self)
        self._spare = spare

    wrap(patch, Carriers, "retire_if_idle", retire)


@caught_by(standstills.a_thread_is_refused)
def refused_thread_not_asked_for_again(patch: pytest.MonkeyPatch) -> None:
    """A carrier that could not be relieved for want of a thread is forgotten."""
    patch.setattr(Carriers, "ask_again", lambda _: None)


@caught_by(standstills.a_step_waits_for_another_flow)
def waiting_steps_count_as_running(patch: pytest.MonkeyPatch) -> None:
    """A short step that waits for a flow keeps that flow's steps from running."""
    patch.setattr(short_steps._ShortRun, "_uncounted", lambda _: nullcontext())


@caught_by(standstills.many_steps_block)
def any_number_of_steps_on_carriers(patch: pytest.MonkeyPatch) -> None:
    """Steps that have not turned out long yet take all carriers there may be."""
    patch.setattr(short_steps, "_HELD", 1000)
    patch.setattr(short_steps, "_HELD_OF_STEP", 1000)


@caught_by(standstills.a_step_asks_its_own_flow)
def step_run_nested(patch: pytest.MonkeyPatch) -> None:
    """A short step runs at once, within the turn of its flow's actor."""

    def submit(before: Any, self: Any, run: Any) -> bool:
        ready, self._ready = self._ready, lambda short: short._run_slice()
        try:
            return before(self, run)
        finally:
            self._ready = ready

    wrap(patch, ShortSteps, "submit", submit)


__all__ = ["STANDSTILLS", "Planted"]
