"""A test waits for what it needs to have happened, for as long as that takes, and not for a while."""

from __future__ import annotations

import ast
import re

import pytest
from architecture.sources import Module, Names, module, test_modules

# Modules that sleep -> why. Nothing else is excused.
ALLOWED = {
    "tests/layers/flows/test_impure_bodies.py": "bodies that sleep, and are warned of, are what is tested",
    "tests/attacks/mutation/judging.py": (
        "a fork that has to be killed in time can only be looked at now and then"
    ),
    "tests/promises/steps/promised.py": "a step that blocks a thread is what is tested",
}
PROGRAM = re.compile(r"\btime\.sleep\(|from time import [^\n]*\bsleep\b")


def sleeps(source: Module) -> list[int]:
    """Report the lines on which a module sleeps, or writes a program that does."""
    if "sleep" not in source.text:
        return []
    names = Names(source)
    lines: set[int] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            lines |= {node.lineno for alias in node.names if alias.name in ("sleep", "*")}
        elif isinstance(node, ast.Attribute) and names.dotted(node) == "time.sleep":
            lines.add(node.lineno)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
            lines |= {node.lineno for _ in PROGRAM.findall(node.value)}
    return sorted(lines)


def test_no_test_sleeps() -> None:
    found = {source.path: lines for source in test_modules() if (lines := sleeps(source))}
    found.pop("tests/architecture/test_waiting.py")

    assert {path: lines for path, lines in found.items() if path not in ALLOWED} == {}
    assert sorted(ALLOWED.keys() - found) == [], "they need no excuse"


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1)",
        "import time as t\nt.sleep(1)",
        "import time\nnap = time.sleep",
        "from time import sleep",
        "from time import monotonic, sleep as nap",
        "def f():\n    import time\n    time.sleep(1)",
        'PROGRAM = """\nimport time\ntime.sleep(3)\n"""',
        'PROGRAM = """\nfrom time import sleep\nsleep(3)\n"""',
    ],
)
def test_whoever_sleeps_is_reported(text: str) -> None:
    assert sleeps(module("tests/x.py", text)) != []


@pytest.mark.parametrize(
    "text",
    [
        "from persistasaurus import sleep\nsleep(1)",
        "import time\ntime.monotonic()",
        "from time import monotonic",
        '"""\nNobody may sleep here.\n"""',
    ],
)
def test_who_waits_otherwise_is_not(text: str) -> None:
    assert sleeps(module("tests/x.py", text)) == []
