"""The commands `export` and `import`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ....actors.runtime.primitives import SystemClock
from ....flows.errors import FlowNotFound
from ....store import StreamNotFound
from ....store.tools.export import export as write_export
from ....store.tools.export import export_file
from ....store.tools.importer import import_ as read_export
from ..options import STORE, check_exists, command, force_option, json_option, store_option
from ..output.exit_codes import DONE, FAILED
from ..output.outcome import tell, telling_errors
from ..output.printable import json_line
from ..output.progress import progress
from ..output.screen import Screen
from ..output.sizes import counted
from ..shell_completion import complete_flows

if TYPE_CHECKING:
    from ....store.tools.export import Exported
    from ....store.tools.importer import Imported

__all__ = ["export", "import_"]


class ExportTold(msgspec.Struct, frozen=True):
    """What was written. `skipped` are damaged flows, which were left out."""

    flows: int
    events: int
    signals: int
    skipped: list[str]


class ImportTold(msgspec.Struct, frozen=True):
    """What was written; `present`: so many were there already. `conflicts` differ, and were left."""

    flows: int
    events: int
    signals: int
    present: int
    conflicts: list[str]


@command("export", example="persistasaurus export --store orders.db -o orders.jsonl")
@click.argument("flows", nargs=-1, metavar="[FLOW]...", shell_complete=complete_flows)
@click.option("-o", "--output", type=STORE, help="The file to write; standard output by default.")
@force_option
@click.option(
    "--skip-damaged", is_flag=True, help="Leave damaged flows out and list them; the exit code is 1."
)
@store_option
@json_option
@telling_errors
def export(  # noqa: PLR0913 - click gives them by name
    *,
    flows: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    skip_damaged: bool,
    store: Path,
    as_json: bool,
) -> int:
    """Write all flows of a store, or the named ones, as JSON lines, as of one instant.

    The engine may keep writing meanwhile. With --json, the summary goes to standard error, or, with
    --output, to standard output.
    """
    check_exists(store)
    chosen = list(flows) or None
    try:
        with progress("Exporting") as told:
            if output is None:
                made = write_export(
                    store, sys.stdout.buffer.write, flows=chosen, skip_damaged=skip_damaged, on_progress=told
                )
            else:
                made = export_file(
                    store,
                    output,
                    flows=chosen,
                    skip_damaged=skip_damaged,
                    overwrite=overwrite,
                    on_progress=told,
                )
    except StreamNotFound as error:
        raise FlowNotFound(error.stream) from error
    _tell_export(made, output, as_json=as_json)
    return FAILED if made.skipped else DONE


def _tell_export(made: Exported, output: Path | None, *, as_json: bool) -> None:
    skipped = [one.stream for one in made.skipped]
    if as_json:
        document = ExportTold(made.flows, made.records, made.signals, skipped)
        if output is None:
            tell(json_line(document))
        else:
            Screen().json(document)
        return
    sys.stdout.flush()
    where = "" if output is None else f" written to {output}"
    tell(f"{_amount(made)}{where}.")
    for one in made.skipped:
        tell(f"Left out: {one}")


@command("import", example="persistasaurus import orders.jsonl --store orders.db")
@click.argument("source", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), default="-")
@click.option("--skip-conflicts", is_flag=True, help="Leave out flows that exist with a different history.")
@store_option
@json_option
@telling_errors
def import_(*, source: Path, skip_conflicts: bool, store: Path, as_json: bool) -> int:
    """Import flows that `export` has written into a store, creating the store if needed.

    SOURCE is a file, or `-` for standard input. All of it is checked before anything is written. No engine
    may have the store open. Pending flows will continue in this store: make sure that they do not continue
    in the original store, too.
    """
    given = sys.stdin.buffer if str(source) == "-" else source
    with progress("Importing") as told:
        made = read_export(
            given, store, now=SystemClock().now, skip_conflicts=skip_conflicts, on_progress=told
        )
    _tell_import(made, store, as_json=as_json)
    return FAILED if made.conflicts else DONE


def _tell_import(made: Imported, store: Path, *, as_json: bool) -> None:
    if as_json:
        Screen().json(ImportTold(made.flows, made.records, made.signals, made.present, list(made.conflicts)))
        return
    screen = Screen()
    screen.line(f"Written to {store}: {_amount(made)}.")
    if made.present:
        screen.line(f"Already there, just as in the export: {counted(made.present, 'flow')}.")
    for flow_id in made.conflicts:
        screen.line(f"Left as it is, since it has another history: {flow_id}")


def _amount(made: Exported | Imported) -> str:
    records, signals = counted(made.records, "event"), counted(made.signals, "signal")
    return f"{counted(made.flows, 'flow')} with {records} and {signals}"
