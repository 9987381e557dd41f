"""api → actors → flows, actors → store; and nobody imports the package by its name from within."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest
from architecture.sources import LAYERS, ROOT, module, package_modules, test_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from architecture.sources import Module

MAY_IMPORT = {
    "": {"actors", "flows", "store"},
    "api": {"api", "actors", "flows", "store"},
    "actors": {"actors", "flows", "store"},
    "flows": {"flows"},
    "store": {"store"},
}
# Imported by the front door for its effect: a handle knows nothing of the diagrams that a notebook shows.
REGISTERS_ITSELF = "from .api import notebook as _notebook"
TEST_ROOTS = (("tests",), ("tests", "layers"), ("tests", "layers", "actors"), ("tests", "layers", "api"))
OWN_NAMES = {"persistasaurus", *LAYERS}


def imported_layers(source: Module) -> Iterator[tuple[ast.AST, str]]:
    """Tell what each relative import of a module reaches: a layer, or "" for the package's root."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            kept = len(source.folders) - node.level + 1
            if kept < 0:
                yield node, ".." * (node.level - 1)
                continue
            path = [*source.folders[:kept], *(node.module.split(".") if node.module else [])]
            targets = [path[0]] if path else [alias.name for alias in node.names]
            for target in targets:
                yield node, target if target in LAYERS else ""


def crossings(source: Module) -> list[str]:
    """Report imports that point the wrong way."""
    layer = source.folders[0] if source.folders else ""
    return [
        f"{source.at(node)}: {layer or 'the root'} imports {target or 'the root'}"
        for node, target in imported_layers(source)
        if target not in MAY_IMPORT[layer] and not (layer == "" and ast.unparse(node) == REGISTERS_ITSELF)
    ]


def absolute_imports(source: Module, own: set[str]) -> list[str]:
    """Report imports of the package, or of a part of it, by an absolute name."""
    return [
        f"{source.at(node)}: imports {name}"
        for node in ast.walk(source.tree)
        for name in _absolute_names(node)
        if name.partition(".")[0] in own and not _is_test_double(source, name)
    ]


def _absolute_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or ""]
    return []


def _is_test_double(source: Module, name: str) -> bool:
    # Tests find what they share in their own folders: tests/layers/store/doubles.py is store.doubles.
    paths = (ROOT.joinpath(*root, *name.split(".")).with_suffix(".py") for root in TEST_ROOTS)
    return source.folders[:1] == ("tests",) and any(path.is_file() for path in paths)


def relative_imports(source: Module) -> list[str]:
    """Report relative imports, of which there are none in tests: they are no package."""
    nodes = ast.walk(source.tree)
    return [f"{source.at(n)}: a relative import" for n in nodes if isinstance(n, ast.ImportFrom) and n.level]


def more_than_a_front_door(source: Module) -> list[str]:
    """Report whatever is neither a docstring, a relative import, nor `__all__`."""
    return [f"{source.at(node)}: {ast.unparse(node)[:60]}" for node in source.tree.body if not _is_door(node)]


def _is_door(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level == 1 or node.module == "__future__"
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets] == ["__all__"]
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_imports_point_one_way() -> None:
    found = [line for source in package_modules() for line in crossings(source)]

    assert not found, "\n".join(found)


def test_inside_the_package_all_imports_are_relative() -> None:
    found = [line for source in package_modules() for line in absolute_imports(source, OWN_NAMES)]

    assert not found, "\n".join(found)


def test_tests_import_the_package_by_its_name_only() -> None:
    found = [
        line
        for source in test_modules()
        for line in (*absolute_imports(source, set(LAYERS)), *relative_imports(source))
    ]

    assert not found, "\n".join(found)


def test_the_front_door_only_hands_on() -> None:
    assert more_than_a_front_door(package_modules()[0]) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("flows/authoring/step.py", "from ...store import EventStore"),
        ("flows/authoring/step.py", "from ...actors.runtime.environment import Environment"),
        ("flows/examples/hello.py", "from ...actors import FlowSystem"),
        ("flows/authoring/step.py", "def f():\n    from ... import store"),
        ("flows/authoring/step.py", "from ... import FlowSystem"),
        ("store/__init__.py", "from ..flows import Flow"),
        (
            "store/sqlite/store.py",
            "from __future__ import annotations\nif TYPE_CHECKING:\n    from ...actors import x",
        ),
        ("actors/system.py", "from ..api.cli import main"),
        ("actors/system.py", "from .. import Flow"),
        ("__init__.py", "from .api import main"),
        ("flows/authoring/step.py", "from ....elsewhere import x"),
    ],
)
def test_an_import_against_the_arrows_is_reported(path: str, text: str) -> None:
    assert len(crossings(module(path, text))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("flows/authoring/step.py", "from ..errors import FlowStateError"),
        ("flows/examples/hello.py", "from .. import Flow"),
        ("flows/examples/hello.py", "from ..authoring.step import step"),
        ("actors/system.py", "from ..store.contract import EventStore"),
        ("actors/system.py", "from .. import store"),
        ("api/cli/main.py", "from ...actors import FlowSystem"),
        ("__init__.py", "from .flows import flow"),
        ("__init__.py", "from .api import notebook as _notebook"),
    ],
)
def test_an_import_along_the_arrows_is_fine(path: str, text: str) -> None:
    assert crossings(module(path, text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import persistasaurus",
        "from persistasaurus.flows import Flow",
        "import store as s",
        "from flows import x",
    ],
)
def test_an_absolute_import_of_the_package_is_reported(text: str) -> None:
    assert len(absolute_imports(module("actors/system.py", text), OWN_NAMES)) == 1


@pytest.mark.parametrize(
    "text", ["from flows.step import Step", "import actors", "from store import contract"]
)
def test_a_test_that_reaches_into_the_checkout_is_reported(text: str) -> None:
    assert len(absolute_imports(module("tests/x/test_y.py", text), set(LAYERS))) == 1


def test_a_relative_import_in_a_test_is_reported() -> None:
    assert relative_imports(module("tests/x/test_y.py", "from .builders import started")) != []


@pytest.mark.parametrize(
    "text", ["import os", "from os import path", "x = 1", "def f(): ...", "__getattr__ = 1"]
)
def test_code_in_the_front_door_is_reported(text: str) -> None:
    door = module("__init__.py", f'"""Doc."""\nfrom .flows import Flow\n{text}\n__all__ = ["Flow"]')

    assert len(more_than_a_front_door(door)) == 1
