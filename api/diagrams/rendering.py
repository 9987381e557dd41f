"""Diagrams as pictures, with the extra `diagram`."""

from __future__ import annotations

from typing import Any

from ...flows.errors import PersistasaurusError

_NO_RENDERER = "drawing SVG takes another package. Install it with: pip install 'persistasaurus[diagram]'"


def svg(mermaid: str) -> str:
    """Render Mermaid's text as SVG, without a browser and without a network.

    Raises:
        ImportError: the extra `diagram` is not installed.
        PersistasaurusError: the text is not a diagram that can be rendered.
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
