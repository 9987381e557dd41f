"""Each promise, for each kind of step, in a simulated world and on the real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from architecture.sources import ROOT
from persistasaurus import FlowParked, FlowSystem, Limits, PayloadLimits
from persistasaurus.actors.testing import World
from steps.promised import KINDS, Promised
from steps.promises import ON_THE_REAL_ENGINE, PROMISES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHOWN = {name: value for promise in PROMISES for name, value in promise.shown.items()}
LARGE = Limits(payload=PayloadLimits(size=8 << 20))
SMALL = Limits(payload=PayloadLimits(size=10_000))


@pytest.fixture(params=["world", "engine"])
def run(
    request: pytest.FixtureRequest, engine: FlowSystem, tmp_path: Path
) -> Iterator[Callable[[str, str], Any]]:
    """Run the flow of a promise with one kind of step."""

    def run(promise: str, kind: str) -> Any:
        path = str(tmp_path / "attempts")
        if request.param == "engine":
            handle = engine.start(Promised.go, promise, kind, path, flow_id=f"{promise} {kind}"[:190])
            return handle.result(timeout=60)
        with World(always_replay=True) as world:
            return world.start(Promised.go, promise, kind, path, flow_id="promise").result()

    run.is_real = request.param == "engine"  # type: ignore[attr-defined]
    return run


@pytest.fixture(scope="module")
def engine() -> Iterator[FlowSystem]:
    with FlowSystem(flows=[Promised], step_processes=1) as system:
        yield system


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("promise", SHOWN)
def test_every_step_keeps_what_is_promised_of_all(promise: str, kind: str, run: Any) -> None:
    if promise in ON_THE_REAL_ENGINE and not run.is_real:
        pytest.skip("a step takes no time here")

    found = run(promise, kind)

    assert plain(found, promise, kind) == SHOWN[promise]


def plain(found: Any, promise: str, kind: str) -> Any:
    """Take out of what a flow has returned which kind of step it had, and what its id was."""
    if isinstance(found, list):
        return [plain(part, promise, kind) for part in found]
    if isinstance(found, str):
        return found.replace(
            f"{promise} {kind}", "promise" if found.startswith(promise) else f"{promise} KIND"
        )
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [World, FlowSystem], ids=["world", "engine"])
def test_a_systems_limits_hold_for_the_results_of_all_steps(make: Any, kind: str) -> None:
    with make(limits=LARGE, flows=[Promised]) if make is FlowSystem else make(limits=LARGE) as system:
        assert system.run(Promised.go, "is_held_to_the_limits", kind, "")[0] == "no error"
    with make(limits=SMALL, flows=[Promised]) if make is FlowSystem else make(limits=SMALL) as system:
        told = system.run(Promised.go, "is_held_to_the_limits", kind, "")

    assert told == ["PayloadError", " be stored: 2,000,002 bytes exceed the limit of 10,000"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_in_doubt_is_dealt_with_as_it_says(kind: str) -> None:
    with World() as world:
        parked = world.start(Promised.go, "is_parked_in_doubt", kind, "", flow_id="parked")
        assert parked.result() == "ran"
    with World() as world:
        die_once(world)
        parked = world.start(Promised.go, "is_parked_in_doubt", kind, "", flow_id="parked")
        with pytest.raises(FlowParked, match="in_doubt"):
            parked.result()
    with World() as world:
        die_once(world)
        assert world.run(Promised.go, "runs_again_in_doubt", kind, "") == "ran"

    with World() as world:
        die_once(world)
        assert world.run(Promised.go, "is_found_out", kind, "") == 20_000
    with World(limits=SMALL) as world:
        die_once(world)
        with pytest.raises(FlowParked, match=r"could not find out: PayloadError: .* the limit of 10,000"):
            world.run(Promised.go, "is_found_out", kind, "")


@pytest.mark.parametrize(("careful", "seen"), [(False, ["no error", 2]), (True, ["StepCrashed", 1])])
def test_a_step_whose_own_process_dies_runs_again_unless_it_may_not_run_twice(
    careful: Any, seen: list[Any], engine: FlowSystem, tmp_path: Path
) -> None:
    handle = engine.start(Promised.dies_alone(str(tmp_path / "attempts"), careful=careful))

    assert handle.result(timeout=60) == seen


def die_once(world: World) -> None:
    """Have the process die in the next step that runs."""
    simulation = world.simulation
    perform = simulation.perform

    def dying(_: Any) -> None:
        simulation.perform = perform
        simulation.kill()

    simulation.perform = dying


def test_the_guide_makes_the_same_promises() -> None:
    guide = (ROOT / "docs" / "guide" / "flows.md").read_text()

    for promise in PROMISES:
        assert f"| {promise.what} | {promise.of_steps} |" in guide
