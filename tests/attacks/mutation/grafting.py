"""Has tests judge mutants of functions, which are put into a module that is imported already.

All tests are collected once; each mutant then has a fork of that process, in which the code of one function
is another. Mutants of what is evaluated when a module is imported begin from nothing: see `judging`.
"""

from __future__ import annotations

import ast
import gc
import multiprocessing
import os
import types
from collections import defaultdict
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mutation.judging import alone, fall_silent, outcome, run_pytest
from mutation.mutants import mutants, mutated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from multiprocessing.queues import SimpleQueue

    import pytest
    from mutation.mutants import Mutant

_UNFIT = 99

Place = tuple[str, str, int]
"""A function's file, its qualified name, and its first line."""


class Graft(NamedTuple):
    """A mutant of a function, and the tests that are to notice it."""

    key: int
    path: str
    number: int | None
    """None: the module as it is, which has to survive."""
    tests: Sequence[str]
    limit_s: float


_parsed = cache(ast.parse)


def function_of(source: str, mutant: Mutant) -> tuple[str, int] | None:
    """Return the qualified name of the outermost function that a mutant is in, and its first line; or None.

    What stands between its parentheses is evaluated when the module is imported.
    """
    node: Any = _parsed(source)
    names: list[str] = []
    for field, index in mutant.where:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            return (".".join(names), first) if field == "body" else None
        node = getattr(node, field) if index is None else getattr(node, field)[index]
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
    return None


def judged(
    grafts: Sequence[Graft], tests: Sequence[str], processes: int
) -> Iterator[tuple[int, bool | None]]:
    """Yield the key of each mutant, and whether it survives; None: it cannot be put in."""
    context = multiprocessing.get_context("spawn")
    work, results = context.SimpleQueue(), context.SimpleQueue()
    judges = [context.Process(target=_judge, args=(tests, work, results)) for _ in range(processes)]
    for judge in judges:
        judge.start()
    # Each is given the next one when it has answered: a pipe holds only so much.
    waiting = iter(grafts)
    for graft in islice(waiting, processes):
        work.put(graft)
    for _ in grafts:
        yield results.get()
        work.put(next(waiting, None))
    for judge in judges:
        work.put(None)
        judge.join()


def _judge(tests: Sequence[str], work: SimpleQueue[Any], results: SimpleQueue[Any]) -> None:
    fall_silent()
    with alone() as place:
        run_pytest([f"--basetemp={place}/t", *tests], _Judge(work, results))


class _Judge:
    """A plugin of pytest that runs some of the tests again and again, each time in a fork."""

    def __init__(self, work: SimpleQueue[Any], results: SimpleQueue[Any]) -> None:
        self._work = work
        self._results = results

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        functions = _functions()
        gc.collect()
        gc.freeze()
        for graft in iter(self._work.get, None):
            chosen = [items[name] for name in graft.tests if name in items]
            self._results.put((graft.key, _survives(session, graft, chosen, functions)))
        return True


def _functions() -> dict[Place, list[types.FunctionType]]:
    found: dict[Place, list[types.FunctionType]] = defaultdict(list)
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType):
            code = thing.__code__
            found[code.co_filename, code.co_qualname, code.co_firstlineno].append(thing)
    return found


def _survives(
    session: pytest.Session,
    graft: Graft,
    items: list[pytest.Item],
    functions: dict[Place, list[types.FunctionType]],
) -> bool | None:
    child = os.fork()
    if child == 0:
        code = _UNFIT
        try:
            os.setpgid(0, 0)
            _graft(graft, functions)
            code = 1
            code = _run(session, items)
        finally:
            os._exit(code)
    code = outcome(child, graft.limit_s)
    return None if code == _UNFIT else code == 0


def _graft(graft: Graft, functions: dict[Place, list[types.FunctionType]]) -> None:
    if graft.number is None:
        return
    source = Path(graft.path).read_text(encoding="utf-8")
    mutant = mutants(source)[graft.number]
    place = function_of(source, mutant)
    assert place is not None, "it is in no function"
    code = compile(mutated(source, mutant), graft.path, "exec", dont_inherit=True)
    (new,) = (c for c in _codes(code) if (c.co_qualname, c.co_firstlineno) == place)
    old = functions[(graft.path, *place)]
    assert old, "it is not imported"
    for function in old:
        function.__code__ = new


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _run(session: pytest.Session, items: Iterable[pytest.Item]) -> int:
    for item, after in pairwise([*items, None]):
        assert item is not None
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if session.testsfailed:
            return 1
    return 0
