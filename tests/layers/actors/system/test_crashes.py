"""A flow actor that crashes anywhere, at any time, changes nothing of what comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import SupervisorRules
from persistasaurus.actors.flows.active_flow import RestartRules
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.flows.recovery import Recovery
from persistasaurus.actors.persistence.persistent_actor import PersistentActor
from persistasaurus.flows.machine.machine import FlowMachine
from system.reference import Reference, check, drive

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus import FlowSystem

RULES = SupervisorRules(idle_s=0.005, restart=RestartRules(initial_s=0.001, max_restarts=50))

PLACES = {
    "while it decides": (FlowMachine, "handle"),
    "while it records": (PersistentActor, "write"),
    "while it acts": (FlowActor, "_act"),
    "while it carries out a command": (FlowActor, "_carry_out"),
    "while it arms its alarm": (FlowActor, "_arm"),
    "when it starts": (FlowActor, "on_start"),
    "while it recovers": (Recovery, "recover"),
    "while it takes a message": (FlowActor, "on_command"),
    "when it hears from the journal": (FlowActor, "_on_committed"),
    "when its end is durable": (FlowActor, "_over"),
    "when it goes to rest": (FlowActor, "_leave"),
}


class Fault:
    """Counts the calls of a method, and raises at one of them: instead of the call, or after it."""

    def __init__(self, at: int, error: type[BaseException], *, after: bool) -> None:
        self.at = at
        self.calls = 0
        self.error = error
        self.after = after

    def context(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            strikes = self.calls == self.at
            if strikes and not self.after:
                raise self.error("injected")
            result = original(*args, **kwargs)
            if strikes:
                raise self.error("injected")
            return result

        return call


def run(make_system: Callable[..., FlowSystem], place: str, fault: Fault) -> None:
    owner, name = PLACES[place]
    original = getattr(owner, name)
    system = make_system(Reference, rules=RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, fault.context(original))
        check(drive(system, "reference"))
    system.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("place", PLACES)
def test_a_crash_at_any_point_changes_nothing(
    make_system: Callable[..., FlowSystem], place: str, *, after: bool
) -> None:
    clean = Fault(0, RuntimeError, after=after)
    run(make_system, place, clean)

    for k in range(1, clean.calls + 2):
        error = SystemExit if k % 3 == 0 else RuntimeError
        run(make_system, place, Fault(k, error, after=after))
