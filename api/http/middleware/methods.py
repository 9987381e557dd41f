"""Which methods a path allows: what `Allow` says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from litestar.routes import HTTPRoute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litestar import Litestar

__all__ = ["AllowedMethods"]

_PARAMETER: Final = re.compile(r"\\\{\w+\\\}")


class AllowedMethods:
    """The methods of an application's paths. The framework itself knows those of the last handler only."""

    def __init__(self, app: Litestar) -> None:
        self._of = [
            entry for route in app.routes if isinstance(route, HTTPRoute) for entry in _entries(route)
        ]

    def __call__(self, path: str) -> str:
        """List the methods of a path."""
        found = {method for pattern, methods in self._of if pattern.fullmatch(path) for method in methods}
        return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())))


def _entries(route: HTTPRoute) -> Iterator[tuple[re.Pattern[str], set[str]]]:
    pattern = re.compile(_PARAMETER.sub("[^/]+", re.escape(route.path_format)))
    for handler in route.route_handlers:
        yield pattern, {str(method) for method in handler.http_methods}
