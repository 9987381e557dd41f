"""Mutants of a module: copies that differ in one place, each of which some test has to notice.

Nothing on disk is changed: a mutant is put in the module's place as it is imported, in a process of its own.
What the engine tells its log is no promise, so calls of the logger are left as they are; and so are whatever
is there for type checkers only, as `frozen` and `assert_never`, the `strict` of a `zip`, which asserts what
cannot be otherwise, and the `gc` of a struct, which saves the collector some work.
"""

from __future__ import annotations

import ast
import copy
import importlib.abc
import importlib.util
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

Where = tuple[tuple[str, "int | None"], ...]

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
_NOT_RUN = ("annotation", "returns", "decorator_list")


class Mutant(NamedTuple):
    """One place of a module, and what stands there instead."""

    line: int
    what: str
    text: str
    """The line as it is written, which tells the place also when lines have moved."""
    where: Where
    node: ast.AST

    @property
    def name(self) -> str:
        """What it is known by, whatever the number of its line."""
        return f"{self.text}  # {self.what}"


def mutants(source: str) -> list[Mutant]:
    """Return each mutant of a module."""
    lines = source.splitlines()
    seen: Counter[str] = Counter()
    found: list[Mutant] = []
    for where, node in _places(ast.parse(source)):
        line = getattr(node, "lineno", 1)
        for what, other in _changed(node):
            text = lines[line - 1].strip()
            seen[f"{text} {what}"] += 1
            times = seen[f"{text} {what}"]
            told = what if times == 1 else f"{what}, at place {times}"
            found.append(Mutant(line, told, text, where, ast.copy_location(other, node)))
    return found


def mutated(source: str, mutant: Mutant) -> ast.Module:
    """Return a module with one place changed."""
    tree = ast.parse(source)
    _put(tree, mutant.where, mutant.node)
    return ast.fix_missing_locations(tree)


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


def _places(tree: ast.AST, path: Where = ()) -> Iterator[tuple[Where, ast.AST]]:
    for field, value in ast.iter_fields(tree):
        if field in _NOT_RUN:
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST) and not _is_left_alone(child):
                where = (*path, (field, index if isinstance(value, list) else None))
                yield where, child
                yield from _places(child, where)


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="logger")))):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id="assert_never"))):
            return True
        case ast.keyword(arg="strict" | "frozen" | "gc"):
            return True
        case _:
            return False


def _put(tree: ast.AST, path: Where, node: ast.AST) -> None:
    *way, (field, index) = path
    for name, position in way:
        value = getattr(tree, name)
        tree = value if position is None else value[position]
    if index is None:
        setattr(tree, field, node)
    else:
        getattr(tree, field)[index] = node


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Has one module imported as a mutant, None: as it is; put first into `sys.meta_path`."""

    def __init__(self, name: str, path: str, number: int | None) -> None:
        self._name = name
        self._path = path
        self._number = number

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=self._path)

    def exec_module(self, module: Any) -> None:
        with open(self._path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib may be what is mutated
            source = file.read()
        module.__file__ = self._path
        tree = ast.parse(source) if self._number is None else mutated(source, mutants(source)[self._number])
        exec(compile(tree, self._path, "exec"), module.__dict__)
