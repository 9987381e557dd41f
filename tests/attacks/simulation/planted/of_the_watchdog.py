"""Bugs of the watchdog and of the black box, each with the scenario that catches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from persistasaurus.actors import system
from persistasaurus.actors.flows import restarts
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.flows.restarts import Restarts
from persistasaurus.actors.flows.supervisor import Supervisor
from persistasaurus.actors.runtime import watchdog
from persistasaurus.actors.runtime.watchdog import Watchdog
from persistasaurus.actors.system import FlowSystem
from persistasaurus.flows.errors import PersistasaurusError
from persistasaurus.flows.machine.effects import Decision
from persistasaurus.flows.machine.machine import FlowMachine
from persistasaurus.store.files import black_box
from persistasaurus.store.files.black_box import BlackBox, Past
from simulation.planted import holdups
from simulation.planted.planting import Bug, wrap
from system.doubles import MortalBlackBox

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class Planted(NamedTuple):
    bug: Bug
    scenario: Callable[[int], None]


HOLDUPS: dict[str, Planted] = {}


def caught_by(scenario: Callable[[int], None]) -> Any:
    """Register a bug as `planting.bug` does, with the scenario that catches it."""

    def register(change: Callable[[pytest.MonkeyPatch], None]) -> Any:
        name = change.__name__
        assert name not in HOLDUPS, name
        HOLDUPS[name] = Planted(Bug(name, (change.__doc__ or "").strip(), change), scenario)
        return change

    return register


# ----------------------------------------------------------------------------------------- the watchdog
@caught_by(holdups.a_body_blocks)
def never_parked(patch: pytest.MonkeyPatch) -> None:
    """The watchdog says who blocks, and leaves it at that."""
    patch.setattr(FlowSystem, "_on_held", lambda *_: False)


@caught_by(holdups.a_body_blocks_for_short)
def parked_at_once(patch: pytest.MonkeyPatch) -> None:
    """Whoever is reported is parked."""

    def judge(before: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        self._rules = self._rules._replace(give_up_s=self._rules.report_s)
        before(self, *args, **kwargs)

    wrap(patch, Watchdog, "_judge", judge)


@caught_by(holdups.a_body_blocks)
def parked_without_a_word(patch: pytest.MonkeyPatch) -> None:
    """Nobody is told who blocks, until the flow is parked."""
    patch.setattr(watchdog, "_report", lambda *_: None)


@caught_by(holdups.a_body_blocks)
def watchdog_sleeps_on(patch: pytest.MonkeyPatch) -> None:
    """The watchdog looks once, and never again."""

    def look(before: Any, self: Any) -> None:
        before(self)
        self._is_closed = True

    wrap(patch, Watchdog, "_look", look)


@caught_by(holdups.a_body_blocks)
def innocent_flow_parked(patch: pytest.MonkeyPatch) -> None:
    """It is not the flow that blocks which is parked, but the one that began last."""
    begun: list[Any] = []

    def blocked(before: Any, self: Any, message: Any) -> None:
        other = begun[-1]
        changed = message._replace(flow_id=other.flow_id, incarnation=other.incarnation, actor=other)
        before(self, changed)

    def on_start(before: Any, self: Any) -> None:
        begun.append(self)
        before(self)

    wrap(patch, FlowActor, "on_start", on_start)
    wrap(patch, Supervisor, "_blocked", blocked)


@caught_by(holdups.a_body_blocks)
def facts_lost_with_the_thread(patch: pytest.MonkeyPatch) -> None:
    """What a flow that blocks was told before, such as how its step went, is not recorded."""
    patch.setattr(FlowActor, "undecided", lambda _: Decision())


@caught_by(holdups.a_query_blocks)
def whoever_waits_is_not_answered(patch: pytest.MonkeyPatch) -> None:
    """Whoever has asked what blocks hears nothing when it is given up."""

    def blocked(before: Any, self: Any, active: Any, message: Any) -> None:
        if isinstance(message.actor.in_hand, restarts.requests.Ask):
            self._leave(active)
        else:
            before(self, active, message)

    wrap(patch, Restarts, "blocked", blocked)


@caught_by(holdups.a_query_blocks)
def parked_for_a_query(patch: pytest.MonkeyPatch) -> None:
    """A flow is parked when it is a query of it that blocks."""

    def blocked(before: Any, self: Any, active: Any, message: Any) -> None:
        message.actor.in_hand.reply.fail(PersistasaurusError("it has blocked"))
        message.actor.in_hand = None
        before(self, active, message)

    wrap(patch, Restarts, "blocked", blocked)


# ---------------------------------------------------------------------------------------- the black box
@caught_by(holdups.a_body_kills)
def nobody_named(patch: pytest.MonkeyPatch) -> None:
    """The black box forgets to name whose code is about to run."""
    patch.setattr(BlackBox, "begin", lambda *_: 0)


@caught_by(holdups.a_body_kills)
def names_never_struck_out(patch: pytest.MonkeyPatch) -> None:
    """Whoever's code has ever run is named for good, so that the innocent are blamed."""
    patch.setattr(MortalBlackBox, "finish", lambda *_: None)


@caught_by(holdups.a_body_kills)
def suspicions_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Each process begins to suspect anew."""
    patch.setattr(BlackBox, "suspect", lambda *_: None)


@caught_by(holdups.a_body_kills)
def convicted_too_early(patch: pytest.MonkeyPatch) -> None:
    """The second death counts for two."""

    def suspicions_after(before: Any, past: Past, version_of: Any) -> Any:
        found = before(past, version_of)
        return {
            name: black_box.Suspicion(one.deaths + (one.deaths == 2), one.version)
            for name, one in found.items()
        }

    wrap(patch, system, "suspicions_after", suspicions_after)


@caught_by(holdups.a_body_kills)
def convicted_and_run_all_the_same(patch: pytest.MonkeyPatch) -> None:
    """Who has killed too often is not parked before it runs."""
    patch.setattr(Restarts, "convict", lambda *_: None)


@caught_by(holdups.a_flow_comes_on_between_deaths)
def progress_not_seen(patch: pytest.MonkeyPatch) -> None:
    """A flow is blamed for all deaths, however far it has come in between."""

    def suspicions_after(before: Any, past: Past, version_of: Any) -> Any:
        def old_version_of(name: str) -> int | None:
            return None if version_of(name) is None else 0

        return before(past, old_version_of)

    wrap(patch, system, "suspicions_after", suspicions_after)


@caught_by(holdups.the_process_is_told_to_end)
def orderly_ends_counted(patch: pytest.MonkeyPatch) -> None:
    """An orderly end is taken for a death."""
    patch.setattr(BlackBox, "end", lambda _: None)


@caught_by(holdups.the_process_is_told_to_end)
def orderly_ends_counted_against_steps(patch: pytest.MonkeyPatch) -> None:
    """An orderly end counts against the steps that ran then, as a death does."""
    patch.setattr(FlowMachine, "_acquit", lambda _: None)


__all__ = ["HOLDUPS", "Planted"]
