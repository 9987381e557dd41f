"""How far long work is: told on the standard error, and only to people."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .screen import error_console

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["progress"]


@contextmanager
def progress(what: str) -> Generator[Callable[[int, int], object]]:
    """Show how far the work in the block is; what it yields is told what is done, and the total."""
    console = error_console()
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    from rich import progress as bars  # noqa: PLC0415 - nobody else pays for it

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(what, total=None)

        def told(done: int, total: int) -> None:
            shown.update(task, completed=done, total=max(total, 1))

        yield told
