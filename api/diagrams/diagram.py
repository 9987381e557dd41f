"""Executions as sequence diagrams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .chart import Chart
from .loops import fold
from .mermaid import MermaidWriter
from .roles import Level, Role, roles_of
from .scenario import scenario_of
from .truncation import cut_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .items import Item
    from .timeline import Drawable


class Diagram:
    """A diagram of one execution, to be written in Mermaid's language or for a terminal."""

    def __init__(
        self, roles: Sequence[Role], flow: str | None, items: Sequence[Item], *, values: bool
    ) -> None:
        self._roles = roles
        self._flow = flow
        self._values = values
        self._writer = MermaidWriter(roles, flow, values=values)
        folded = fold(items, values=values)
        self._items = cut_out(folded, [self._size(item) for item in folded])

    def mermaid(self) -> str:
        """Return the text of a Mermaid `sequenceDiagram`. It ends with a newline.

        The same history always gives the same text. No text of a payload or a name means anything in it.
        """
        return "".join(f"{line}\n" for line in (*self._writer.head(), *self._writer.lines(self._items)))

    def text(self, *, width: int = 100, ascii: bool = False) -> str:  # noqa: A002 - what it is
        """Return a chart for a terminal of so many columns; `ascii`: without box characters.

        It ends with a newline. No line is wider, where `width` is 40 or more.
        """
        chart = Chart(self._roles, self._flow, values=self._values, width=width)
        return chart.text(self._items, ascii=ascii)

    def _size(self, item: Item) -> int:
        return sum(len(line) + 1 for line in self._writer.lines([item]))

    def __repr__(self) -> str:
        return f"<Diagram of {self._flow or 'a flow'}>"


def draw(run: Drawable, *, level: Level = "actors", values: bool = False, times: bool = False) -> Diagram:
    """Draw a flow as of its last commit, or a history: what is in its history, and nothing that is not.

    Levels: `api` has the client, the flow and its steps; `actors` has the supervisor and the journal, too;
    `store` has the commits as well. `values`: show arguments, results and messages of errors, which are
    left out otherwise, so that the diagram can be committed. `times`: say when each thing was recorded.

    A restart leaves no event. It is drawn where a step that was under way is attempted again, or a
    shutdown has left one behind; one that interrupted nothing is not seen. Runs of the same become a
    loop, and where the text would be too long for Mermaid it says how much is left out.

    Raises:
        ValueError: there is no such level.
        FlowNotFound: there is no such flow.
        StoreUnavailable: its history cannot be read.
    """
    roles = roles_of(level)
    scenario = scenario_of(run, roles, times=times)
    return Diagram(roles, scenario.flow, scenario.items, values=values)
