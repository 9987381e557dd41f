"""The command `sql`."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any

import click

from ..options import command, open_reader
from ..output.exit_codes import DONE, FAILED
from ..output.outcome import notify
from ..output.printable import cut, printable
from ..output.proposal import proposed
from ..output.screen import Column, Screen, StyledText, width_of

if TYPE_CHECKING:
    from pathlib import Path

    from ....store import Rows, StoreReader

VIEWS = ("flows", "steps", "signals", "timers", "dead_letters", "events")
# Including the views that a reader of an older store adds.
_VIEW_COLUMNS = """
SELECT m.name, c.name FROM pragma_table_list m, pragma_table_info(m.name) c
WHERE m.type = 'view' ORDER BY m.name, c.cid
"""
_SHOWN_MAX = 1_000
_LENGTH = 200


@command("sql", example='persistasaurus sql "SELECT status, count(*) FROM flows GROUP BY status"')
@click.argument("statement", required=False)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header line.")
def sql(*, statement: str | None, as_csv: bool, store: Path, as_json: bool) -> int:
    """Query a store in SQL, read-only. Without STATEMENT, list the views and their columns.

    The views flows, steps, signals, timers, dead_letters and events are documented and stable. A table shows
    at most 1,000 rows, one value a line if the terminal is too narrow; --json and --csv print all rows. On a
    damaged store the query runs on what can be read, and the exit code is 1.
    """
    if as_csv and as_json:
        raise click.UsageError("use either --csv or --json, not both")
    with open_reader(store) as reader:
        if statement is None:
            return _show_views(reader, as_json=as_json)
        found = reader.query(statement)
        if as_csv:
            _write_csv(found)
        elif as_json:
            _write_json(found)
        else:
            _show(found)
    if found.damage is None:
        return DONE
    notify(f"{found.damage}; {proposed('verify', store=store)}")
    return FAILED


def _write_csv(found: Rows) -> None:
    shows = sys.stdout.isatty()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(found.columns)
    for row in found.rows:
        writer.writerow([_text(value) for value in row] if shows else [_plain(value) for value in row])


def _write_json(found: Rows) -> None:
    screen = Screen()
    for row in found.rows:
        values = [value.hex() if isinstance(value, bytes) else value for value in row]
        screen.json(dict(zip(found.columns, values, strict=True)))


def _show(found: Rows) -> None:
    screen = Screen()
    rows: list[list[str]] = []
    for row in found.rows:
        if len(rows) == _SHOWN_MAX:
            notify(f"Only the first {_SHOWN_MAX:,} rows are shown; --json or --csv gives all.")
            break
        rows.append([cut(_text(value), _LENGTH) for value in row])
    if not found.columns:
        return
    columns = [Column(name) for name in found.columns]
    if screen.width is None or width_of(columns, rows) <= screen.width:
        screen.table(columns, rows)
    else:
        _show_one_by_one(screen, found.columns, rows)


def _show_one_by_one(screen: Screen, names: tuple[str, ...], rows: list[list[str]]) -> None:
    """Show rows that are wider than the terminal, one value a line."""
    longest = max(map(len, names))
    for number, row in enumerate(rows, 1):
        screen.line(StyledText(f"row {number}", "dim"))
        for name, value in zip(names, row, strict=True):
            screen.line(StyledText(f"  {name:<{longest}}  ", "cyan"), value)


def _show_views(reader: StoreReader, *, as_json: bool) -> int:
    screen = Screen()
    views = _views(reader)
    if as_json:
        for view, columns in views.items():
            screen.json({"view": view, "columns": columns})
        return DONE
    screen.table(
        (Column("view"), Column("columns")), [[view, ", ".join(columns)] for view, columns in views.items()]
    )
    return DONE


def _views(reader: StoreReader) -> dict[str, list[str]]:
    """Return the columns of each view: first the documented views, in their order."""
    views: dict[str, list[str]] = {view: [] for view in VIEWS}
    for view, column in reader.query(_VIEW_COLUMNS).rows:
        views.setdefault(str(view), []).append(str(column))
    return {view: columns for view, columns in views.items() if columns}


def _text(value: Any) -> str:
    return printable(str(_plain(value)))


def _plain(value: Any) -> Any:
    """Return a value as text shows it: nothing for NULL, hexadecimal digits for bytes."""
    if value is None:
        return ""
    return value.hex() if isinstance(value, bytes) else value
