"""What is tested is what is installed, and importing it costs little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import persistasaurus
import pytest
from architecture.sources import ROOT

# What a program that runs a flow or two should not pay for.
HEAVY = {
    "_pytest",
    "asyncio",
    "click",
    "concurrent",
    "ctypes",
    "email",
    "http",
    "hypothesis",
    "jinja2",
    "litestar",
    "multiprocessing",
    "numpy",
    "pdb",
    "pydantic",
    "pydoc",
    "pytest",
    "rich",
    "rich_click",
    "sqlite3",
    "ssl",
    "subprocess",
    "unittest",
    "uvicorn",
    "xml",
}
_PROGRAM = """
import json, sys
before = set(sys.modules)
import {name}
print(json.dumps(sorted({{module.partition(".")[0] for module in set(sys.modules) - before}})))
"""


def loaded_by(name: str) -> set[str]:
    """Tell which top-level modules an import adds to a fresh interpreter."""
    command = [sys.executable, "-I", "-c", _PROGRAM.format(name=name)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(answer.stdout))


def heavy_in(name: str) -> list[str]:
    """Report what an import loads and should not."""
    return sorted(loaded_by(name) & HEAVY)


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert "persistasaurus" in loaded_by("persistasaurus")
    assert heavy_in("persistasaurus") == []


@pytest.mark.parametrize("module", ["asyncio", "multiprocessing", "concurrent.futures", "ssl", "sqlite3"])
def test_something_heavy_is_reported(module: str) -> None:
    assert module.partition(".")[0] in heavy_in(module)


@pytest.mark.skipif("CI_WHEEL" not in os.environ, reason="only .ci/run tests a wheel")
def test_the_wheel_is_tested_and_not_the_checkout() -> None:
    package = Path(persistasaurus.__file__).resolve().parent

    assert package.is_relative_to(Path(sysconfig.get_path("purelib")).resolve())
    assert package != ROOT


def test_the_checkout_is_imported_by_no_other_name() -> None:
    door = ROOT / "__init__.py"

    # By name: a file that is found under two names is two packages.
    found = [name for name, module in sys.modules.items() if getattr(module, "__file__", None) == str(door)]

    assert found in ([], ["persistasaurus"])
