"""Mutants of a module: copies that differ in one place, each of which some test has to notice.

    python tests/mutation/campaign.py persistasaurus.flows.doubt tests/flows

Nothing on disk is changed: a mutant is put in the module's place as it is imported, in a process of its own.
"""

from __future__ import annotations

import ast
import copy
import importlib.abc
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPPOSITES: dict[type, type] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}


def _changed(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield what may stand in a node's place, and what is different then."""
    other = copy.copy(node)
    match other:
        case ast.Compare(ops=[op]) if type(op) in _OPPOSITES:
            other.ops = [_OPPOSITES[type(op)]()]
            yield f"{type(op).__name__} becomes {type(other.ops[0]).__name__}", other
        case ast.BoolOp(op=op) | ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in _OPPOSITES:
            other.op = _OPPOSITES[type(op)]()
            yield f"{type(op).__name__} becomes {type(other.op).__name__}", other
        case ast.If() | ast.While() | ast.IfExp():
            other.test = ast.UnaryOp(ast.Not(), other.test)
            yield "the condition is turned round", other
        case ast.Constant(value=bool() | int() as value):
            other.value = not value if isinstance(value, bool) else value + 1
            yield f"{value!r} becomes {other.value!r}", other
        case ast.Expr(value=ast.Call()):
            yield "the call is left out", ast.Pass()
        case _:
            pass


def _places(tree: ast.AST, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], ast.AST]]:
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.AST):
                where = (*path, (field, index if isinstance(value, list) else None))
                yield where, child
                yield from _places(child, where)


def _put(tree: ast.AST, path: tuple[Any, ...], node: ast.AST) -> None:
    *way, (field, index) = path
    for name, position in way:
        value = getattr(tree, name)
        tree = value if position is None else value[position]
    if index is None:
        setattr(tree, field, node)
    else:
        getattr(tree, field)[index] = node


def mutants(source: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield each mutant of a module, and how it differs."""
    tree = ast.parse(source)
    for path, node in _places(tree):
        for what, other in _changed(node):
            mutant = copy.deepcopy(tree)
            _put(mutant, path, ast.copy_location(other, node))
            yield f"line {getattr(node, 'lineno', 0)}: {what}", ast.fix_missing_locations(mutant)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Has one module imported as its mutant of a number."""

    def __init__(self, name: str, number: int) -> None:
        self._name = name
        self._number = number
        self._path = ""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.origin is not None
        self._path = spec.origin
        return importlib.util.spec_from_loader(fullname, self, origin=spec.origin)

    def exec_module(self, module: Any) -> None:
        _, tree = list(mutants(Path(self._path).read_text(encoding="utf-8")))[self._number]
        module.__file__ = self._path
        exec(compile(tree, self._path, "exec"), module.__dict__)
