"""No two modules import each other, directly or by way of others; nor do the rooms of a layer.

An import for type checkers counts, and so does one inside a function: whoever reads one of the modules has
to read the other.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from architecture.sources import module, package_modules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from architecture.sources import Module

    Graph = Mapping[str, set[str]]

# Arrows between rooms that are to be cut. Without them there are no circles.
KNOWN_ARROWS = {("api.links", "api.http")}


def name_of(source: Module) -> str:
    return source.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports_of(source: Module, names: Iterable[str]) -> Iterator[str]:
    """Yield the modules that a module imports relatively, wherever in it."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            folders = source.folders[: len(source.folders) - node.level + 1]
            origin = ".".join([*folders, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                part = f"{origin}.{alias.name}" if origin else alias.name
                yield part if part in names else origin


def graph_of(sources: Iterable[Module]) -> Graph:
    """Return which modules each module imports."""
    by_name = {name_of(source): source for source in sources}
    return {
        name: {found for found in imports_of(source, by_name) if found in by_name and found != name}
        for name, source in by_name.items()
    }


def rooms_of(graph: Graph) -> Graph:
    """Return which rooms each room imports. What lies beside the rooms of a layer belongs to none."""
    rooms: dict[str, set[str]] = {}
    for name, imported in graph.items():
        if (room := room_of(name)) is not None:
            found = rooms.setdefault(room, set())
            found |= {other for other in map(room_of, imported) if other not in (None, room)}
    return rooms


def room_of(name: str) -> str | None:
    layer, _, rest = name.partition(".")
    room, _, inside = rest.partition(".")
    return f"{layer}.{room}" if inside else None


def without(graph: Graph, arrows: set[tuple[str, str]]) -> Graph:
    return {
        name: {other for other in imported if (name, other) not in arrows} for name, imported in graph.items()
    }


def reached_from(graph: Graph, start: str) -> set[str]:
    """Return all that a module imports, directly or by way of others."""
    reached: set[str] = set()
    ahead = list(graph.get(start, ()))
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead += graph.get(name, ())
    return reached


def arrows_in_circles(graph: Graph) -> list[tuple[str, str]]:
    """Return the imports that lead, sooner or later, back to where they came from."""
    reached = {name: reached_from(graph, name) for name in graph}
    return sorted(
        (name, other) for name, found in graph.items() for other in found if name in reached.get(other, ())
    )


def shown(arrows: list[tuple[str, str]]) -> str:
    return "\n".join(f"{importing} -> {imported}" for importing, imported in arrows)


def test_no_two_modules_import_each_other_directly_or_by_way_of_others() -> None:
    circular = arrows_in_circles(graph_of(package_modules()))

    assert not circular, shown(circular)


def test_no_two_rooms_of_a_layer_import_each_other() -> None:
    circular = arrows_in_circles(without(rooms_of(graph_of(package_modules())), KNOWN_ARROWS))

    assert not circular, shown(circular)


def test_each_known_arrow_is_still_there_and_part_of_a_circle() -> None:
    stale = KNOWN_ARROWS - set(arrows_in_circles(rooms_of(graph_of(package_modules()))))

    assert not stale, f"cut already, so take them out of the list:\n{shown(sorted(stale))}"


def test_imports_for_type_checkers_and_inside_functions_close_a_circle() -> None:
    sources = [
        module("flows/a.py", "from .b import B"),
        module("flows/b.py", "if TYPE_CHECKING:\n    from .values import c"),
        module("flows/values/c.py", "def f():\n    from .. import a"),
        module("flows/values/__init__.py", ""),
        module("flows/d.py", "from . import a"),
    ]

    assert arrows_in_circles(graph_of(sources)) == [
        ("flows.a", "flows.b"),
        ("flows.b", "flows.values.c"),
        ("flows.values.c", "flows.a"),
    ]


def test_rooms_whose_modules_form_no_circle_may_form_one() -> None:
    sources = [
        module("store/files/a.py", "from ..sqlite.b import B"),
        module("store/sqlite/b.py", "from ..errors import E"),
        module("store/sqlite/c.py", "from ..files.d import D"),
        module("store/files/d.py", "from ..errors import E"),
        module("store/errors.py", "from .files.d import D"),
    ]
    graph = graph_of(sources)

    assert arrows_in_circles(graph) == [("store.errors", "store.files.d"), ("store.files.d", "store.errors")]
    assert arrows_in_circles(rooms_of(graph)) == [
        ("store.files", "store.sqlite"),
        ("store.sqlite", "store.files"),
    ]
