"""What `.ci/run` looks for in a wheel: the whole package, and nothing but the package."""

from __future__ import annotations

import runpy

import pytest
from architecture.sources import ROOT

problems = runpy.run_path(str(ROOT / ".ci" / "check_wheel.py"))["problems"]

FILES = [
    "__init__.py",
    "py.typed",
    "docs/conf.py",
    "docs/errors.md",
    "docs/index.md",
    "flows/authoring/step.py",
    "api/pytest_plugin/__init__.py",
    "store/sqlite/schema_1.sql",
    "tests/test_x.py",
    "README.md",
]
WHEEL = [
    "persistasaurus/__init__.py",
    "persistasaurus/docs/errors.md",
    "persistasaurus/py.typed",
    "persistasaurus/flows/authoring/step.py",
    "persistasaurus/store/sqlite/schema_1.sql",
    "persistasaurus_pytest/__init__.py",
    "persistasaurus-0.1.0.dist-info/METADATA",
    "persistasaurus-0.1.0.dist-info/entry_points.txt",
    "persistasaurus-0.1.0.dist-info/licenses/LICENSE",
]


def test_a_wheel_with_the_whole_package_is_fine() -> None:
    assert problems(WHEEL, FILES) == []
    assert problems(WHEEL, [f"./{name}" for name in FILES]) == []


@pytest.mark.parametrize("name", WHEEL)
def test_whatever_is_missing_is_reported(name: str) -> None:
    wheel = [other for other in WHEEL if other != name]

    assert problems(wheel, FILES) == [f"lacks {name.partition('.dist-info/')[2] or name}"]


@pytest.mark.parametrize("name", ["persistasaurus/tests/test_x.py", "tests/test_x.py", "store/errors.py"])
def test_whatever_does_not_belong_there_is_reported(name: str) -> None:
    assert problems([*WHEEL, name], FILES) == [f"has {name}"]


@pytest.mark.parametrize("name", ["docs/errors.md", "py.typed", "store/sqlite/schema_1.sql"])
def test_what_users_need_must_be_there_even_if_the_repository_forgot_it(name: str) -> None:
    wheel = [other for other in WHEEL if other != f"persistasaurus/{name}"]
    files = [other for other in FILES if other != name]

    assert problems(wheel, files) == [f"lacks persistasaurus/{name}"]
