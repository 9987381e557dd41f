"""Progress of long work, shown on standard error, and only to people."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .screen import error_console

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@contextmanager
def progress(what: str) -> Generator[Callable[[int, int], object]]:
    """Show how far the work in the block is. It yields a function of what is done, and of the total."""
    console = error_console()
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    from rich import progress as bars  # noqa: PLC0415 - loaded only for people

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            shown.update(task, completed=done, total=max(total, 1))

        yield report
