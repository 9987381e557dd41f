"""The command `run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from ....flows import Registry
from ..engine import Engine, Telling
from ..flow_modules import flows_of
from ..options import command, json_option, store_option
from ..output.exit_codes import UNREAD, UNUSABLE
from ..output.outcome import tell, telling_errors
from ..output.proposal import proposed
from ..stopping import Stopping, code_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from ..flow_modules import FlowSource

__all__ = ["introduce", "run", "telling_options", "until_stopped"]

F = TypeVar("F", bound="Callable[..., Any]")

_LOOK_S = 1.0


def telling_options(function: F) -> F:
    """Let a command tell more, or nothing, of what happens."""
    verbose = click.option(
        "-v", "--verbose", is_flag=True, help="Report every event, including each step and signal."
    )
    quiet = click.option(
        "-q", "--quiet", is_flag=True, help="Report no events; the output of steps is shown."
    )
    return verbose(quiet(function))


@command("run", example="persistasaurus run order.py --store orders.db")
@click.argument("modules", nargs=-1, required=True, metavar="MODULE[:NAME]...")
@telling_options
@store_option
@json_option
@telling_errors
def run(*, modules: tuple[str, ...], verbose: bool, quiet: bool, store: Path, as_json: bool) -> int:
    """Run the flows of a module until Ctrl-C: unfinished flows continue, and new ones can be started.

    MODULE is a dotted name, looked up in the current directory first, or the path of a .py file. This runs
    all flows that it defines, or only NAME. The store is created if it does not exist.

    Ctrl-C or SIGTERM stops cleanly, and waits up to 10 seconds for running steps; a second one stops at
    once. Neither loses anything: flows continue at the next start.
    """
    flows = flows_of(modules)
    with Stopping() as stopping:
        with Engine(flows, store, Telling(as_json, verbose, quiet), stopping.ask) as engine:
            introduce(flows, store)
            code = until_stopped(engine, stopping)
        return UNREAD if engine.is_unread else code


def introduce(flows: Sequence[FlowSource], store: Path) -> None:
    """Say what runs, and where."""
    names = ", ".join(definition.name for definition in Registry(tuple(flows)))
    tell(f"Running {names} on {store}. Ctrl-C stops it; from another terminal:")
    tell(f"  {proposed('list', store=store)}")


def until_stopped(engine: Engine, stopping: Stopping) -> int:
    """Wait until somebody wants the engine to stop, or it can do nothing any more; return the exit code."""
    while not stopping.wait(_LOOK_S):
        refusal = engine.system.client.admission.refusal
        if refusal is not None:
            tell(f"persistasaurus: {refusal}")
            return UNUSABLE
    if not engine.is_unread:
        tell("Stopping: waiting up to 10 s for running steps. Repeat it to stop at once.")
    return code_of(stopping.by)
