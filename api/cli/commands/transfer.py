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
from ..options import FILE, check_exists, command, force_option
from ..output.exit_codes import DONE, FAILED
from ..output.outcome import notify
from ..output.printable import json_line
from ..output.progress import progress
from ..output.quantities import counted
from ..output.screen import Screen
from ..shell_completion import complete_flows

if TYPE_CHECKING:
    from ....store.tools.export import Exported
    from ....store.tools.importer import Imported


class ExportSummary(msgspec.Struct, frozen=True):
    """What was written. `skipped` lists damaged flows, which were left out."""

    flows: int
    events: int
    signals: int
    skipped: list[str]


class ImportSummary(msgspec.Struct, frozen=True):
    """What was written. `present` counts flows that were there already; `conflicts` differ, and were left."""

    flows: int
    events: int
    signals: int
    present: int
    conflicts: list[str]


@command("export", example="persistasaurus export --store orders.db -o orders.jsonl")
@click.argument("flows", nargs=-1, metavar="[FLOW]...", shell_complete=complete_flows)
@click.option("-o", "--output", type=FILE, help="The file to write; standard output by default.")
@force_option
@click.option(
    "--skip-damaged", is_flag=True, help="Leave damaged flows out and list them; the exit code is 1."
)
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
        with progress("Exporting") as on_progress:
            if output is None:
                made = write_export(
                    store,
                    sys.stdout.buffer.write,
                    flows=chosen,
                    skip_damaged=skip_damaged,
                    on_progress=on_progress,
                )
            else:
                made = export_file(
                    store,
                    output,
                    flows=chosen,
                    skip_damaged=skip_damaged,
                    overwrite=overwrite,
                    on_progress=on_progress,
                )
    except StreamNotFound as error:
        raise FlowNotFound(error.stream) from error
    _report_export(made, output, as_json=as_json)
    return FAILED if made.skipped else DONE


def _report_export(made: Exported, output: Path | None, *, as_json: bool) -> None:
    skipped = [one.stream for one in made.skipped]
    if as_json:
        document = ExportSummary(made.flows, made.records, made.signals, skipped)
        if output is None:
            notify(json_line(document))
        else:
            Screen().json(document)
        return
    sys.stdout.flush()
    where = "" if output is None else f" written to {output}"
    notify(f"{_amount(made)}{where}.")
    for one in made.skipped:
        notify(f"Left out: {one}")


@command("import", example="persistasaurus import orders.jsonl --store orders.db")
@click.argument("source", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), default="-")
@click.option("--skip-conflicts", is_flag=True, help="Leave out flows that exist with a different history.")
def import_(*, source: Path, skip_conflicts: bool, store: Path, as_json: bool) -> int:
    """Import flows that `export` has written into a store, creating the store if needed.

    SOURCE is a file, or `-` for standard input. All of it is checked before anything is written. No engine
    may have the store open. Pending flows will continue in this store: make sure that they do not continue
    in the original store, too.
    """
    given = sys.stdin.buffer if str(source) == "-" else source
    with progress("Importing") as on_progress:
        made = read_export(
            given, store, now=SystemClock().now, skip_conflicts=skip_conflicts, on_progress=on_progress
        )
    _report_import(made, store, as_json=as_json)
    return FAILED if made.conflicts else DONE


def _report_import(made: Imported, store: Path, *, as_json: bool) -> None:
    if as_json:
        Screen().json(
            ImportSummary(made.flows, made.records, made.signals, made.present, list(made.conflicts))
        )
        return
    screen = Screen()
    screen.line(f"Written to {store}: {_amount(made)}.")
    if made.present:
        screen.line(f"Already there, unchanged: {counted(made.present, 'flow')}.")
    for flow_id in made.conflicts:
        screen.line(f"Left out, since it has a different history here: {flow_id}")


def _amount(made: Exported | Imported) -> str:
    records, signals = counted(made.records, "event"), counted(made.signals, "signal")
    return f"{counted(made.flows, 'flow')} with {records} and {signals}"
