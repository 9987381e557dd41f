"""Executions as sequence diagrams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...flows.errors import PersistasaurusError
from .chart import Chart
from .items import Level, Role, roles_of
from .loops import fold
from .mermaid import MermaidWriter
from .scenario import scenario_of
from .truncation import cut_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .items import Item
    from .timeline import Drawable


class Diagram:
    """A diagram of one execution, to be written as Mermaid or for a terminal."""

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

        The same history always gives the same text. Payloads and names are escaped.
        """
        return "".join(f"{line}\n" for line in (*self._writer.head(), *self._writer.lines(self._items)))

    def text(self, *, width: int = 100, ascii: bool = False) -> str:  # noqa: A002 - what it is
        """Return a chart for a terminal of `width` columns; `ascii`: without box characters.

        It ends with a newline. No line is wider, if `width` is 40 or more.
        """
        chart = Chart(self._roles, self._flow, values=self._values, width=width)
        return chart.text(self._items, ascii=ascii)

    def _size(self, item: Item) -> int:
        return sum(len(line) + 1 for line in self._writer.lines([item]))

    def __repr__(self) -> str:
        return f"<Diagram of {self._flow or 'a flow'}>"


def draw(run: Drawable, *, level: Level = "actors", values: bool = False, times: bool = False) -> Diagram:
    """Draw a flow as of its last commit, or a history.

    Levels: `api` has the client, the flow and its steps; `actors` adds the supervisor and the journal;
    `store` adds the commits. `values`: show arguments, results and messages of errors, which are omitted
    otherwise, so that the diagram can be committed. `times`: show when each thing was recorded.

    A restart leaves no event. It is drawn where a step that was running is attempted again, or a shutdown has
    interrupted one; a restart that interrupted nothing is not shown. Repetitions become a loop. A diagram
    that would be too long for Mermaid is shortened, and says by how much.

    Raises:
        ValueError: there is no such level.
        FlowNotFound: there is no such flow.
        StoreUnavailable: its history cannot be read.
    """
    roles = roles_of(level)
    scenario = scenario_of(run, roles, times=times)
    return Diagram(roles, scenario.flow, scenario.items, values=values)


def svg(mermaid: str) -> str:
    """Render Mermaid's text as SVG, without a browser and without a network.

    Raises:
        ImportError: the extra `diagram` is not installed.
        PersistasaurusError: the text is not a diagram that can be rendered.
    """
    try:
        import mmdr  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(
            "drawing SVG takes another package. Install it with: pip install 'persistasaurus[diagram]'"
        ) from error
    try:
        rendered: Any = mmdr.render(mermaid)  # pyright: ignore[reportUnknownMemberType] - its stubs
        return str(rendered.svg())
    except Exception as error:
        raise PersistasaurusError(f"the diagram cannot be rendered: {error}") from error
    except BaseException as error:  # a panic of the renderer is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise PersistasaurusError(f"the renderer has failed: {error}") from None
