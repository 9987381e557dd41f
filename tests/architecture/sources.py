"""The sources that the architecture tests read, and how they read them."""

from __future__ import annotations

import ast
import fnmatch
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("actors", "api", "flows", "store")
PLUGIN = ROOT / "api" / "pytest_plugin"
"""A package of its own, which pytest imports in each of its runs: it imports ours by its name, late."""


class Module(NamedTuple):
    """A module: its path from the repository's root, its text, and what Python makes of it."""

    path: str
    text: str
    tree: ast.Module

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(self.path.split("/")[:-1])

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


def module(path: str, text: str) -> Module:
    return Module(path, text, ast.parse(text, path))


def package_modules() -> list[Module]:
    """Return every module of the package."""
    paths = [ROOT / "__init__.py", *(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))]
    return [_read(path) for path in sorted(paths) if PLUGIN not in path.parents]


def test_modules() -> list[Module]:
    """Return every module of the tests."""
    return [_read(path) for path in sorted((ROOT / "tests").rglob("*.py"))]


test_modules.__test__ = False  # type: ignore[attr-defined] # pytest would take it for a test


@cache
def _read(path: Path) -> Module:
    return module(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


def forget() -> None:
    """Let go of what was read."""
    _read.cache_clear()


def tracked_files() -> list[str]:
    """Return what git keeps; where git cannot tell, everything that it is not told to ignore."""
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        command = [git, "-C", str(ROOT), "ls-files", "-z", "--cached"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return [path for path in answer.stdout.split("\0") if path and (ROOT / path).is_file()]
    return sorted(_walk(ROOT))


def _walk(root: Path) -> Iterator[str]:
    patterns = [line.strip("/") for line in (root / ".gitignore").read_text(encoding="utf-8").splitlines()]
    ignored = [".git", *patterns]
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not _matches(name, ignored)]
        for name in files:
            if not _matches(name, ignored):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def is_type_checking(node: ast.AST) -> bool:
    """Tell `if TYPE_CHECKING:`, whose imports never happen."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what is executed: neither `if TYPE_CHECKING:` bodies nor annotations."""
    yield node
    if is_type_checking(node):
        children: list[ast.AST] = list(node.orelse)  # type: ignore[attr-defined]
    else:
        children = [child for child in ast.iter_child_nodes(node) if not _is_annotation(node, child)]
    for child in children:
        yield from walk_at_run_time(child)


def _is_annotation(parent: ast.AST, child: ast.AST) -> bool:
    return child is getattr(parent, "annotation", None) or child is getattr(parent, "returns", None)


class Names:
    """What the names of a module stand for, aliases seen through: `t` is `time.time`."""

    def __init__(self, module: Module) -> None:
        self._aliases: dict[str, str] = {}
        for node in walk_at_run_time(module.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.partition(".")[0]
                    self._aliases[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    self._aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def dotted(self, node: ast.AST) -> str | None:
        """Return the full name of what an expression names, or None when it was not imported."""
        if isinstance(node, ast.Name):
            return self._aliases.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return None if base is None else f"{base}.{node.attr}"
        return None
