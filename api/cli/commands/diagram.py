"""The command `diagram`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from ....actors.runtime.primitives import SystemClock
from ....store.files.atomic_file import AtomicFile
from ...diagrams import LEVELS, draw
from ...diagrams import svg as render
from ..options import FILE, command, flow_argument, force_option, header_of, open_reader
from ..output.exit_codes import DONE
from ..output.outcome import MissingExtra, notify
from ..output.screen import Screen
from ..reports.case import history_of

if TYPE_CHECKING:
    from pathlib import Path

    from ...diagrams import Level

_WIDTH = 100


class Drawn(msgspec.Struct, frozen=True):
    """A diagram, in Mermaid's language."""

    flow_id: str
    level: str
    mermaid: str


@command("diagram", example="persistasaurus diagram order-1 > order.mmd")
@flow_argument
@click.option(
    "--level", type=click.Choice(LEVELS), default="actors", show_default=True, help="The level of detail."
)
@click.option("--text/--mermaid", "as_text", default=None, help="Print text, or Mermaid.")
@click.option("--svg", type=FILE, help="Write an SVG image to this file.")
@force_option
@click.option("--values", is_flag=True, help="Show arguments, results and error messages.")
@click.option("--times", is_flag=True, help="Show the time of each event.")
def diagram(  # noqa: PLR0913 - click gives them by name
    *,
    flow: str,
    level: Level,
    as_text: bool | None,
    svg: Path | None,
    overwrite: bool,
    values: bool,
    times: bool,
    store: Path,
    as_json: bool,
) -> int:
    """Draw a flow's execution as a sequence diagram: as text on a terminal, as Mermaid in a pipe."""
    with open_reader(store) as reader:
        header_of(reader, flow)
        drawn = draw(history_of(reader, flow), level=level, values=values, times=times)
    screen = Screen()
    if svg is not None:
        _write(svg, drawn.mermaid(), store, overwrite=overwrite)
    if as_json:
        screen.json(Drawn(flow, level, drawn.mermaid()))
    elif svg is None:
        is_text = screen.is_terminal if as_text is None else as_text
        screen.raw(drawn.text(width=screen.width or _WIDTH) if is_text else drawn.mermaid())
    return DONE


def _write(path: Path, mermaid: str, store: Path, *, overwrite: bool) -> None:
    try:
        picture = render(mermaid)
    except ImportError as error:
        raise MissingExtra("--svg", "mmdr", "diagram") from error
    draft = AtomicFile(path, store.resolve(), overwrite=overwrite)
    with draft.create(SystemClock().now()):
        draft.path.write_text(picture, encoding="utf-8")
    notify(f"Written to {path}.")
