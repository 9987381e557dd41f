"""Makes notebooks show a flow's handle with a diagram.

The package imports this module for its effect, so it imports nothing that draws until a notebook asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..actors.handle import register_notebook_view

if TYPE_CHECKING:
    from ..actors.handle import FlowHandle


def show(handle: FlowHandle[Any]) -> dict[str, str]:
    """Return a table of the flow's events, and its diagram, by MIME type. Never raises."""
    from .diagrams.notebook import mime_bundle  # noqa: PLC0415 - only notebooks need it

    return mime_bundle(handle)


register_notebook_view(show)
