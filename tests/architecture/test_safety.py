"""Nothing that was stored or sent is ever run: no pickle, no eval, no SQL put together from strings."""

from __future__ import annotations

import ast

import pytest
from architecture.sources import Module, Names, module, package_modules, walk_at_run_time

MODULES = {
    "_pickle",
    "cloudpickle",
    "code",
    "codeop",
    "ctypes",
    "dill",
    "imp",
    "marshal",
    "pickle",
    "runpy",
    "shelve",
    "yaml",
}
NAMES = {
    "importlib.__import__",
    "importlib.import_module",
    "importlib.util.spec_from_file_location",
    "os.popen",
    "os.system",
    "pkgutil.resolve_name",
    "pydoc.locate",
}
BUILTINS = {"__import__", "compile", "eval", "exec"}

# (module, name) -> why. Nothing else is excused.
ALLOWED = {
    ("actors/steps/worker.py", "importlib.import_module"): (
        "a worker process imports the step that its own parent names, from the user's code and not from data"
    ),
    ("api/cli/flow_modules.py", "importlib.import_module"): (
        "`run MODULE` imports what the user has typed, and nothing else"
    ),
    ("api/cli/program.py", "importlib.import_module"): (
        "a command's module is loaded when it is used, by a name that stands in a table"
    ),
}


def dangers(source: Module) -> list[tuple[int, str]]:
    """Report, by line and full name, what turns data into code."""
    names = Names(source)
    found: set[tuple[int, str]] = set()
    for node in walk_at_run_time(source.tree):
        if isinstance(node, ast.Import):
            found |= {(node.lineno, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {(node.lineno, f"{node.module}.{alias.name}") for alias in node.names}
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            found.add((node.lineno, node.id))
        elif isinstance(node, ast.Name | ast.Attribute):
            found.add((node.lineno, names.dotted(node) or ""))
    return sorted((line, name) for line, name in found if _is_dangerous(name))


def _is_dangerous(name: str) -> bool:
    return name.removeprefix("builtins.") in NAMES | BUILTINS or name.partition(".")[0] in MODULES


def unexcused(sources: list[Module]) -> list[str]:
    """Report what is dangerous and not excused, and every excuse that nothing needs."""
    found = [(source.path, line, name) for source in sources for line, name in dangers(source)]
    stale = sorted(ALLOWED.keys() - {(path, name) for path, _, name in found})
    return [f"{path}:{line}: {name}" for path, line, name in found if (path, name) not in ALLOWED] + [
        f"{path}: needs no excuse for {name}" for path, name in stale
    ]


def composed_sql(source: Module) -> list[str]:
    """Report statements that are put together where they are executed."""
    return [
        f"{source.at(call)}: {ast.unparse(call)[:70]}"
        for scope in ast.walk(source.tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module)
        for call in _calls(scope)
        if _is_execution(call) and any(_is_composed(part) for part in _statement(call, scope))
    ]


def _calls(scope: ast.AST) -> list[ast.Call]:
    """Return the calls of one scope, those of the functions in it left out."""
    calls: list[ast.Call] = []
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.Call):
            calls.append(child)
        calls += _calls(child)
    return calls


def _is_execution(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in {"execute", "executemany"} and bool(call.args)


def _statement(call: ast.Call, scope: ast.AST) -> list[ast.expr]:
    """Return the statement, and what its name was given in the same function."""
    statement = call.args[0]
    if not isinstance(statement, ast.Name) or isinstance(scope, ast.Module):
        return [statement]
    given = [
        node.value
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign | ast.AugAssign)
        and statement.id in [ast.unparse(t) for t in getattr(node, "targets", None) or [node.target]]  # type: ignore[union-attr]
    ]
    return [statement, *given]


def _is_composed(expression: ast.expr) -> bool:
    return any(
        isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod))
        or (isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"format", "join", "replace"})
        for node in ast.walk(expression)
    )


def test_nothing_turns_data_into_code() -> None:
    found = unexcused(package_modules())

    assert not found, "\n".join(found)


def test_no_statement_is_put_together_where_it_is_executed() -> None:
    found = [line for source in package_modules() for line in composed_sql(source)]

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "from marshal import loads as decode",
        "def f():\n    import yaml",
        "eval('1')",
        "run = exec",
        "import builtins\nbuiltins.eval('1')",
        "compile('1', '', 'eval')",
        "__import__('os')",
        "import importlib\nimportlib.import_module('os')",
        "from importlib import import_module as load\nload('os')",
        "import os\nos.system('ls')",
    ],
)
def test_what_turns_data_into_code_is_reported(text: str) -> None:
    assert dangers(module("store/x.py", text)) != []


@pytest.mark.parametrize(
    "text", ["import re\nre.compile('x')", "from importlib import resources", "self.eval()", "code = 1"]
)
def test_what_only_sounds_dangerous_is_fine(text: str) -> None:
    assert dangers(module("store/x.py", text)) == []


def test_an_excuse_holds_for_its_module_only() -> None:
    text = "from importlib import import_module"

    excused = unexcused([module("actors/steps/worker.py", text)])

    assert [line for line in excused if "no excuse" not in line] == []
    assert "store/x.py:1: importlib.import_module" in unexcused([module("store/x.py", text)])


@pytest.mark.parametrize(
    "text",
    [
        "db.execute(f'SELECT {x}')",
        "db.execute('SELECT %s' % x)",
        "db.execute('SELECT ' + x)",
        "db.execute('SELECT {}'.format(x))",
        "db.executemany(f'INSERT INTO t VALUES ({marks})', rows)",
        "def f(self):\n    return self.db.execute(f'SELECT {x}').fetchall()",
        "def f():\n    sql = f'SELECT {x}'\n    db.execute(sql)",
        "def f():\n    sql = 'SELECT 1'\n    sql += x\n    db.execute(sql + y)",
        "execute = db.execute\nexecute(f'SELECT {x}')",
        "db.execute(' AND '.join(parts))",
    ],
)
def test_a_statement_that_is_put_together_is_reported(text: str) -> None:
    assert len(composed_sql(module("store/x.py", text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "db.execute('SELECT ?', (f'{x}',))",
        "db.execute(_STATEMENT, (1 + 2,))",
        "_A = 'SELECT 1'\n_B = _A + ' LIMIT 1'\ndb.execute(_B)",
        "def f():\n    raise Error(f'{x}')",
    ],
)
def test_a_constant_statement_is_fine(text: str) -> None:
    assert composed_sql(module("store/x.py", text)) == []
