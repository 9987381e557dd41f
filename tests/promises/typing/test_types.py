"""mypy and pyright see each mistake in a program that uses the installed package, and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import persistasaurus
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = Path(__file__).with_name("use.py").read_text(encoding="utf-8")
MARK = re.compile(r"# error: \S")
BIN = Path(sys.executable).parent

# Line numbers, with what the checker said about each.
Errors = dict[int, list[str]]


@pytest.fixture(name="site")
def _site(tmp_path: Path) -> Path:
    """Return a folder from which checkers resolve the package that the tests run against."""
    package = Path(persistasaurus.__file__).resolve().parent
    if package.name == "persistasaurus":
        return package.parent
    # An editable install is found by a hook, which checkers cannot follow; a link they can.
    site = tmp_path / "site"
    site.mkdir()
    (site / "persistasaurus").symlink_to(package, target_is_directory=True)
    return site


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "program"
    folder.mkdir()
    return folder


def mypy(folder: Path, site: Path) -> Errors:
    """Run `mypy --strict` over `use.py`."""
    own = {} if "site-packages" in site.parts else {"MYPYPATH": str(site)}
    options = ["--strict", "--follow-imports=silent", "--output=json", "--cache-dir=cache"]
    python = ["--python-executable", sys.executable]
    output = _run([str(BIN / "mypy"), *options, *python, "use.py"], folder, own)
    errors: Errors = {}
    for found in map(json.loads, output.splitlines()):
        if found["severity"] == "error":
            assert found["file"] == "use.py", found
            errors.setdefault(found["line"], []).append(found["message"].partition("\n")[0])
    return errors


def pyright(folder: Path, site: Path) -> Errors:
    """Run pyright, in strict mode, over `use.py`."""
    settings = {"typeCheckingMode": "strict", "include": ["use.py"], "extraPaths": [str(site)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    # Without this it asks the registry whether there is a newer one.
    own = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    command = [str(BIN / "pyright"), "--outputjson", "--pythonpath", sys.executable]
    report = json.loads(_run(command, folder, own))
    assert report["summary"]["filesAnalyzed"] == 1
    errors: Errors = {}
    for found in report["generalDiagnostics"]:
        errors.setdefault(found["range"]["start"]["line"] + 1, []).append(found["message"].partition("\n")[0])
    return errors


def _run(command: list[str], folder: Path, own: dict[str, str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "MYPYPATH"} | own
    answer = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    # 0: no errors; 1: errors; all else: it could not check.
    assert answer.returncode in {0, 1}, answer.stdout + answer.stderr
    return answer.stdout


def disagreement(program: str, errors: Errors) -> str:
    """Tell marked lines that no error was found in, and errors in lines that are not marked."""
    lines = program.splitlines()
    marked = {number for number, line in enumerate(lines, 1) if MARK.search(line)}
    missed = [
        f"use.py:{number}: no error in: {lines[number - 1].strip()}" for number in marked - errors.keys()
    ]
    extra = [f"use.py:{number}: {text}" for number in errors.keys() - marked for text in errors[number]]
    return "\n".join(sorted(missed + extra))


CHECKERS = pytest.mark.parametrize("check", [mypy, pyright])


@CHECKERS
def test_each_seeded_mistake_is_found_and_nothing_else(
    check: Callable[[Path, Path], Errors], folder: Path, site: Path
) -> None:
    (folder / "use.py").write_text(PROGRAM, encoding="utf-8")

    said = disagreement(PROGRAM, check(folder, site))

    assert not said, said


@CHECKERS
def test_a_mistake_that_is_not_marked_and_a_mark_without_mistake_are_reported(
    check: Callable[[Path, Path], Errors], folder: Path, site: Path
) -> None:
    program = (
        "from persistasaurus import sleep\nsleep([])\nsleep(1)  # error: none\nsleep([])  # error: a list\n"
    )
    (folder / "use.py").write_text(program, encoding="utf-8")

    said = disagreement(program, check(folder, site)).splitlines()

    assert said[-1] == "use.py:3: no error in: sleep(1)  # error: none"
    assert {line.partition(": ")[0] for line in said} == {"use.py:2", "use.py:3"}
