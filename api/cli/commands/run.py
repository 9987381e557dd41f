"""The command `run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from ....flows import Registry
from ..engine import Engine, Verbosity
from ..flow_modules import flows_of
from ..options import command
from ..output.exit_codes import UNREAD, UNUSABLE
from ..output.outcome import notify
from ..output.proposal import proposed
from ..stopping import Stopping, code_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from ..flow_modules import FlowSource

F = TypeVar("F", bound="Callable[..., Any]")

_LOOK_S = 1.0


def verbosity_options(function: F) -> F:
    verbose = click.option(
        "-v", "--verbose", is_flag=True, help="Report every event, including each step and signal."
    )
    quiet = click.option(
        "-q", "--quiet", is_flag=True, help="Report no events; the output of steps is shown."
    )
    return verbose(quiet(function))


@command("run", example="persistasaurus run order.py --store orders.db")
@click.argument("modules", nargs=-1, required=True, metavar="MODULE[:NAME]...")
@verbosity_options
def run(*, modules: tuple[str, ...], verbose: bool, quiet: bool, store: Path, as_json: bool) -> int:
    """Run the flows of a module until Ctrl-C: unfinished flows continue, and new ones can be started.

    MODULE is a dotted name, looked up in the current directory first, or the path of a .py file. This runs
    all flows that it defines, or only NAME. The store is created if it does not exist.

    Ctrl-C or SIGTERM stops cleanly, and waits up to 10 seconds for running steps; a second one stops at
    once. Neither loses anything: flows continue at the next start.
    """
    flows = flows_of(modules)
    with Stopping() as stopping:
        with Engine(flows, store, Verbosity(as_json, verbose, quiet), stopping.ask) as engine:
            introduce(flows, store)
            code = until_stopped(engine, stopping)
        return UNREAD if engine.is_unread else code


def introduce(flows: Sequence[FlowSource], store: Path) -> None:
    names = ", ".join(definition.name for definition in Registry(tuple(flows)))
    notify(f"Running {names} on {store}. Ctrl-C stops it; from another terminal:")
    notify(f"  {proposed('list', store=store)}")


def until_stopped(engine: Engine, stopping: Stopping) -> int:
    """Wait until the engine is asked to stop, or cannot continue. Return the exit code."""
    while not stopping.wait(_LOOK_S):
        refusal = engine.system.client.admission.refusal
        if refusal is not None:
            notify(f"persistasaurus: {refusal}")
            return UNUSABLE
    if not engine.is_unread:
        notify("Stopping: waiting up to 10 s for running steps. Repeat it to stop at once.")
    return code_of(stopping.by)
