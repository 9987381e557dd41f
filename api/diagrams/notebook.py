"""Diagrams of flows: drawn, rendered, shown in notebooks, and held against a specification."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...actors.handle import FlowHandle
from ...flows import events
from ...flows.errors import PersistasaurusError
from . import draw, mismatch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from ...actors.handle import FlowEvent
    from . import Diagram, Level
    from .history import History

__all__ = ["assert_matches_diagram", "diagram_of", "mime_bundle", "svg"]

_ROWS_MAX = 60
_NO_RENDERER = "drawing SVG takes another package. Install it with: pip install 'persistasaurus[diagram]'"


def diagram_of(
    run: FlowHandle[Any] | History, *, level: Level = "actors", values: bool = False, times: bool = False
) -> Diagram:
    """Draw a flow, as of its last commit, or a history; see `persistasaurus.api.diagrams.draw`.

    Raises:
        ValueError: there is no such level.
        FlowNotFound: there is no such flow.
        StoreUnavailable: its history cannot be read.
    """
    return draw(_history(run), level=level, values=values, times=times)


def svg(mermaid: str) -> str:
    """Render Mermaid's text as SVG, without a browser and without a network.

    Raises:
        ImportError: the extra `diagram` is not installed.
        PersistasaurusError: it is not a diagram that can be rendered.
    """
    try:
        import mmdr  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImportError(_NO_RENDERER) from error
    try:
        rendered: Any = mmdr.render(mermaid)  # pyright: ignore[reportUnknownMemberType] - its stubs
        return str(rendered.svg())
    except Exception as error:
        raise PersistasaurusError(f"the diagram cannot be rendered: {error}") from error
    except BaseException as error:  # a panic of the renderer is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise PersistasaurusError(f"the renderer has failed: {error}") from None


def assert_matches_diagram(
    run: FlowHandle[Any] | History, path: str | PathLike[str], *, partial: bool = False
) -> None:
    """Assert that a recorded execution is a path through a Mermaid `sequenceDiagram`, to its last line.

    The participants are `Client`, `Supervisor`, `Journal`, `Store`, `Step`, and one more, which is the
    flow and has to have its name. What goes on between others than those that take part is not looked at,
    so a diagram may be as coarse or as fine as is wanted:

    - `Client->>Supervisor: start`, `Supervisor->>SignupFlow: start`, and without a supervisor
      `Client->>SignupFlow: start`; likewise `pause`, `resume` and `retry`. The answers are
      `SignupFlow-->>Client: accepted`, `paused`, `resumed` and `repaired`.
    - `Client->>Journal: signal confirm`, `Journal-->>Client: receipt`, and then
      `Supervisor->>SignupFlow: signal confirm`; without a journal the client tells the flow, and the flow
      gives the receipt.
    - `SignupFlow->>Journal: record step started: send_mail`, for each event: flow started, completed, failed;
      step started, scheduled, attempted, completed, failed, interrupted; signal NAME awaited, received;
      sleep set, over; paused, resumed, parked, repaired. What was decided together is recorded together, and
      then comes one `Journal-->>SignupFlow: durable`; before it, if there is a store,
      `Journal->>Store: commit` and `Store-->>Journal: committed`.
    - `SignupFlow->>Step: send_mail`, `Step-->>SignupFlow: returns`, `Step-->>SignupFlow: raises ValueError`.
    - `SignupFlow-->>Supervisor: result`, `Supervisor-->>Client: result`, or `fails with ValueError`.

    Details may be said or left out: the number (`step 1: send_mail`, `record step 1 started`), arguments
    (`send_mail(user_id)` or `send_mail(user_id=7)`), values (`returns 7`, `result 7`), attempts
    (`send_mail (attempt 2)`). `...` stands for anything. As `draw` writes it, it is always right.

    Notes over the flow are looked at when they begin with `waits 10 s before step`, `waits for signal
    NAME`, `wait before step ... is over`, `sleeps`, `sleep ... is over`, `signal NAME has come early`,
    `keeps signal`, `parked`, `what the code did since`, `shutdown`, `the process died` or `the system was
    closed`. A note that was recorded may be left out; one that is written must have been recorded. All
    other notes, messages to oneself, `activate`, `rect`, `title` and comments say nothing. A diagram that
    begins with a note that is looked at begins there: what was recorded before is not compared.

    `alt` is one of its branches, or, without `else`, none; `opt` is there or not; `par` is any
    interleaving. `loop 5 times`, `loop 2 to 4 times` and `loop at least once` mean that; any other loop is
    any number of times.

    A diagram that says nothing of restarts (no `recover`, none of the last three notes) holds whether or not
    there were any: attempts in doubt and interruptions are then not looked at. `Journal-->>SignupFlow:
    recorded result` is a replay, which leaves no event: a branch with it is never the one that was recorded.

    `partial`: the run need not have come to the diagram's end. Otherwise the run has to be through, be that
    the flow's end or a wait.

    Raises:
        AssertionError: it is not such a path; the message shows the lines that were expected, and what was
            recorded instead.
        DiagramError: the diagram cannot be read as a specification; the message names the line.
        OSError: the file cannot be read.
    """
    __tracebackhide__ = True
    difference = mismatch(Path(path).read_text(encoding="utf-8"), _history(run), partial=partial)
    if difference is not None:
        raise AssertionError(f"the run does not follow {Path(path).name}. {difference}")


def _history(run: FlowHandle[Any] | History) -> History:
    return run.events() if isinstance(run, FlowHandle) else run


# --------------------------------------------------------------------------------------- notebooks
def mime_bundle(handle: FlowHandle[Any]) -> dict[str, str]:
    """Return a flow as notebooks show it: a table of its events, and its diagram. Never raises.

    No text of a payload or a name means anything in it.
    """
    plain = repr(handle)
    try:
        status, history = handle.status, handle.events()
        diagram = draw(history)
        caption = f"{handle.id}: {status}"
        return {
            "text/plain": f"{plain} {status}\n{diagram.text()}",
            "text/html": f"{_html_table(caption, history)}{_picture(diagram)}",
            "text/markdown": f"{_markdown_table(caption, history)}\n```mermaid\n{diagram.mermaid()}```\n",
        }
    except Exception as error:  # noqa: BLE001 - what is only to be shown must not fail
        return {"text/plain": f"{plain} ({type(error).__name__})"}


def _rows(history: Sequence[FlowEvent]) -> list[tuple[str, ...]]:
    """Return the events as cells; of very many the first and the last."""
    rows = [_row(one) for one in history[: _ROWS_MAX // 2]]
    if len(history) > _ROWS_MAX:
        rows.append(("...", f"{len(history) - _ROWS_MAX} more", "", "", ""))
    return rows + [_row(one) for one in history[max(len(history) - _ROWS_MAX // 2, len(rows)) :]]


def _row(one: FlowEvent) -> tuple[str, ...]:
    event = one.event
    number = getattr(event, "step", None) or getattr(event, "timer", None) or ""
    name = getattr(event, "name", "") or getattr(event, "flow", "") or getattr(event, "reason", "")
    at = one.at.isoformat(sep=" ", timespec="milliseconds")
    return str(one.version), at, events.kind(event), str(number), str(name)[:200]


_HEADS = ("", "at", "event", "step", "name")


def _html_table(caption: str, history: Sequence[FlowEvent]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in _HEADS)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in _rows(history)
    )
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def _picture(diagram: Diagram) -> str:
    """Return the diagram as an image, in which nothing can run; as text where it cannot be rendered."""
    try:
        data = base64.b64encode(svg(diagram.mermaid()).encode()).decode()
    except (ImportError, PersistasaurusError):
        return f"<pre>{escape(diagram.text())}</pre>"
    return f'<img alt="sequence diagram" src="data:image/svg+xml;base64,{data}">'


def _markdown_table(caption: str, history: Sequence[FlowEvent]) -> str:
    rows = [_HEADS, ("---",) * len(_HEADS), *(tuple(map(_cell, row)) for row in _rows(history))]
    return f"{_cell(caption)}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(text: str) -> str:
    """Return text that means nothing in Markdown: what could, as numbers of characters."""
    return "".join(c if c.isalnum() or c in " .:_-+" else f"&#{ord(c)};" for c in text)
