"""A flow in notebooks: a table of its events, and its diagram."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING, Any

from ...flows.description import describe
from ...flows.errors import PersistasaurusError
from .diagram import draw, svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...actors.handle import FlowEvent, FlowHandle
    from .diagram import Diagram

_ROWS_MAX = 60


def mime_bundle(handle: FlowHandle[Any]) -> dict[str, str]:
    """Return a table of the flow's events and its diagram, by MIME type. Never raises.

    Payloads and names are escaped.
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
    """Return the events as cells; of very many, the first and the last."""
    rows = [_row(one) for one in history[: _ROWS_MAX // 2]]
    if len(history) > _ROWS_MAX:
        rows.append(("...", f"{len(history) - _ROWS_MAX} more", "", "", ""))
    return rows + [_row(one) for one in history[max(len(history) - _ROWS_MAX // 2, len(rows)) :]]


def _row(one: FlowEvent) -> tuple[str, ...]:
    words = describe(one.event)
    name = words.name or ("" if words.error is None else words.error.type)
    at = one.at.isoformat(sep=" ", timespec="milliseconds")
    return str(one.version), at, words.what, str(words.step or words.sleep or ""), name[:200]


_HEADS = ("", "at", "event", "step", "name")


def _html_table(caption: str, history: Sequence[FlowEvent]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in _HEADS)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in _rows(history)
    )
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def _picture(diagram: Diagram) -> str:
    """Return the diagram as an image, in which nothing can run, or as text if it cannot be rendered."""
    try:
        data = base64.b64encode(svg(diagram.mermaid()).encode()).decode()
    except (ImportError, PersistasaurusError):
        return f"<pre>{escape(diagram.text())}</pre>"
    return f'<img alt="sequence diagram" src="data:image/svg+xml;base64,{data}">'


def _markdown_table(caption: str, history: Sequence[FlowEvent]) -> str:
    rows = [_HEADS, ("---",) * len(_HEADS), *(tuple(map(_cell, row)) for row in _rows(history))]
    return f"{_cell(caption)}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(text: str) -> str:
    """Return text that means nothing in Markdown: special characters are written as numbers."""
    return "".join(c if c.isalnum() or c in " .:_-+" else f"&#{ord(c)};" for c in text)
