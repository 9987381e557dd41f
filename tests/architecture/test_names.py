"""Modules are named after what they hold, and list in order what they offer; a class name means one thing."""

from __future__ import annotations

import ast
import re
from collections import Counter

import pytest
from architecture.sources import Module, module, package_modules, test_modules

SAYS_NOTHING = re.compile(r"(?:^|_)(?:common|helpers?|managers?|misc|utils?|utilities)$")


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


def test_modules_are_named_after_what_they_hold() -> None:
    sources = [*package_modules(), *test_modules()]

    assert [source.path for source in sources if says_nothing(source.path)] == []


def test_what_a_module_offers_is_listed_in_order() -> None:
    found = [line for source in package_modules() for line in unsorted(source)]

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "path", ["flows/utils.py", "tests/helpers.py", "store/common/x.py", "actors/flow_manager.py"]
)
def test_a_name_that_says_nothing_is_reported(path: str) -> None:
    assert says_nothing(path)


@pytest.mark.parametrize(
    "path", ["flows/machine/history.py", "actors/commonly.py", "tests/conftest.py", "__init__.py"]
)
def test_a_name_that_says_something_is_fine(path: str) -> None:
    assert not says_nothing(path)


def test_a_list_out_of_order_is_reported() -> None:
    assert unsorted(module("x.py", '__all__ = ["flow", "Flow"]')) == ["x.py:1: __all__"]
    assert unsorted(module("x.py", '__all__ = ["READY", "Flow", "flow"]')) == []


SHARED = {
    "FlowDecorator": "one definition for mypy, and one for everybody else",
    "FlowFailed": "the event, and the error that tells of it",
}


def names_of_several_classes(sources: list[Module]) -> set[str]:
    """Return the names under which more than one class is defined."""
    nodes = [node for source in sources for node in ast.walk(source.tree)]
    counts = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    return {name for name, count in counts.items() if count > 1}


def test_a_class_name_means_one_thing_throughout_the_package() -> None:
    assert names_of_several_classes(package_modules()) == SHARED.keys()


def test_two_classes_of_one_name_are_reported() -> None:
    sources = [
        module("flows/a.py", "class Batch: ..."),
        module("store/b.py", "def f():\n    class Batch: ..."),
    ]

    assert names_of_several_classes(sources) == {"Batch"}
