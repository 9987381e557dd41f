"""Small functions, small files, and modules that are named after what they hold."""

from __future__ import annotations

import ast
import re
from statistics import median
from typing import TYPE_CHECKING

import pytest
from architecture.sources import Module, module, package_modules, test_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

FUNCTION_LINES_MEDIAN = 10
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 450
SAYS_NOTHING = re.compile(r"(?:^|_)(?:common|helpers?|managers?|misc|utils?|utilities)$")


def functions(source: Module) -> Iterator[tuple[str, int]]:
    """Tell how long each function is, its docstring and decorators aside; overloads do not count."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_overload(node):
            yield f"{source.at(node)}: {node.name}", _lines(node)


def _is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def too_long(source: Module) -> list[str]:
    """Report functions and files over the limit."""
    found = [f"{where}: {lines} lines" for where, lines in functions(source) if lines > FUNCTION_LINES_MAX]
    lines = len(source.text.splitlines())
    return [*found, f"{source.path}: {lines} lines"] if lines > FILE_LINES_MAX else found


def says_nothing(path: str) -> bool:
    """Tell whether a path has a folder or module in it whose name says nothing."""
    return any(SAYS_NOTHING.search(part.removesuffix(".py")) for part in path.split("/"))


def unsorted(source: Module) -> list[str]:
    """Report an `__all__` that is not sorted: CONSTANTS, Classes, then functions."""
    for node in source.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            return [f"{source.at(node)}: __all__"] if names != sorted(names, key=_place) else []
    return []


def _place(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def test_the_usual_function_is_short() -> None:
    lines = [lines for source in package_modules() for _, lines in functions(source)]

    assert median(lines) < FUNCTION_LINES_MEDIAN


def test_no_function_and_no_file_is_too_long() -> None:
    found = [line for source in package_modules() for line in too_long(source)]

    assert not found, "\n".join(found)


def test_modules_are_named_after_what_they_hold() -> None:
    sources = [*package_modules(), *test_modules()]

    assert [source.path for source in sources if says_nothing(source.path)] == []


def test_what_a_module_offers_is_listed_in_order() -> None:
    found = [line for source in package_modules() for line in unsorted(source)]

    assert not found, "\n".join(found)


def test_a_function_that_is_too_long_is_reported() -> None:
    body = "    x = 1\n" * FUNCTION_LINES_MAX

    assert too_long(module("flows/x.py", f"def f():\n{body}")) == ["flows/x.py:1: f: 61 lines"]
    assert too_long(module("flows/x.py", f"class C:\n  async def f():\n{body}")) == [
        "flows/x.py:2: f: 61 lines"
    ]


def test_a_docstring_and_decorators_make_no_function_long() -> None:
    text = 'def f():\n    """One.\n' + "\n" * FUNCTION_LINES_MAX + '    """\n    return 1\n'

    assert list(functions(module("flows/x.py", text))) == [("flows/x.py:1: f", 2)]
    assert list(functions(module("flows/x.py", "@overload\ndef f(): ..."))) == []


def test_a_file_that_is_too_long_is_reported() -> None:
    assert too_long(module("flows/x.py", "x = 1\n" * FILE_LINES_MAX)) == []
    assert too_long(module("flows/x.py", "x = 1\n" * (FILE_LINES_MAX + 1))) == ["flows/x.py: 451 lines"]


@pytest.mark.parametrize(
    "path", ["flows/utils.py", "tests/helpers.py", "store/common/x.py", "actors/flow_manager.py"]
)
def test_a_name_that_says_nothing_is_reported(path: str) -> None:
    assert says_nothing(path)


@pytest.mark.parametrize(
    "path", ["flows/history.py", "actors/commonly.py", "tests/conftest.py", "__init__.py"]
)
def test_a_name_that_says_something_is_fine(path: str) -> None:
    assert not says_nothing(path)


def test_a_list_out_of_order_is_reported() -> None:
    assert unsorted(module("x.py", '__all__ = ["flow", "Flow"]')) == ["x.py:1: __all__"]
    assert unsorted(module("x.py", '__all__ = ["READY", "Flow", "flow"]')) == []
