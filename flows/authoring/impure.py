"""Warnings, at a flow's definition, of calls in its body that a replay would repeat or answer differently.

The search covers the body's code and the plain methods and functions that it calls, for well-known names
of the standard library. It misses what code reaches in other ways; tests with `always_replay` find that.
"""

from __future__ import annotations

import dis
import sys
import warnings
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import NotDurableWarning
from ..values.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator


class Impurity(NamedTuple):
    """A call in a flow's code: of what, where, and what to write instead."""

    called: str
    location: Location
    module: str
    instead: str


_NOW = "persistasaurus.now(), which is the same in each replay"
_RANDOM = "persistasaurus.random(), which is the same in each replay"
_UUID = "persistasaurus.uuid4(), which is the same in each replay"
_SLEEP = "`await persistasaurus.sleep(...)`, which holds no thread"
_STEP = "a step that does it: a recorded step is not run again"
_ANSWER = "a @signal, which the flow awaits"
_INSTEAD = {
    **dict.fromkeys(("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"), _NOW),
    **dict.fromkeys(("datetime.date.today", "time.time", "time.time_ns", "time.monotonic"), _NOW),
    **dict.fromkeys(("time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns"), _NOW),
    "time.sleep": _SLEEP,
    **dict.fromkeys(("uuid.uuid1", "uuid.uuid4", "uuid.uuid7"), _UUID),
    **dict.fromkeys(("os.urandom", "os.getrandom"), _RANDOM),
    "builtins.input": _ANSWER,
    **dict.fromkeys(("builtins.open", "io.open", "os.open", "os.listdir", "os.scandir"), _STEP),
    **dict.fromkeys(("os.remove", "os.unlink", "os.rename", "os.replace", "os.mkdir", "os.makedirs"), _STEP),
    **dict.fromkeys(("os.system", "os.popen", "sqlite3.connect", "urllib.request.urlopen"), _STEP),
    **dict.fromkeys(("socket.socket", "socket.create_connection", "socket.create_server"), _STEP),
    **dict.fromkeys(("http.client.HTTPConnection", "http.client.HTTPSConnection"), _STEP),
    **dict.fromkeys(("threading.Thread", "threading.Timer", "multiprocessing.Process"), _STEP),
    **dict.fromkeys(("concurrent.futures.ThreadPoolExecutor",), _STEP),
    **dict.fromkeys(("concurrent.futures.ProcessPoolExecutor",), _STEP),
    **{f"subprocess.{name}": _STEP for name in ("Popen", "call", "check_call", "check_output", "run")},
    **{
        f"{package}.{name}": _STEP
        for package in ("httpx", "requests")
        for name in ("delete", "get", "head", "patch", "post", "put", "request")
    },
}
_WHOLE = {"random": _RANDOM, "secrets": _RANDOM}
"""Modules whose functions are all impure."""
_FINE = frozenset(("random.Random", "secrets.compare_digest"))
"""The same in each replay if the arguments are."""
_SKIPPED = frozenset(("CACHE", "EXTENDED_ARG", "KW_NAMES", "NOP", "PRECALL", "RESUME"))
_GLOBALS = frozenset(("LOAD_GLOBAL", "LOAD_NAME"))
_ATTRIBUTES = frozenset(("LOAD_ATTR", "LOAD_METHOD"))
_STORES = frozenset(("STORE_FAST", "STORE_DEREF"))


def warn_of(what: str, function: Any, owner: type | None) -> None:
    """Warn of each impure call in a flow's code, at its line."""
    for found in impurities(function, owner):
        warnings.warn_explicit(
            f"{what} calls {found.called}() at {found.location}, in its body, which runs again in each"
            f" replay: write {found.instead}. Where it does no harm, silence this with"
            ' warnings.filterwarnings("ignore", category=persistasaurus.NotDurableWarning)',
            NotDurableWarning,
            found.location.file,
            found.location.line,
            found.module,
        )


def impurities(function: Any, owner: type | None) -> Iterator[Impurity]:
    """Yield the impure calls in a flow's body and `__init__`, and in what they call by name."""
    names = _known_names()
    ahead = [function, getattr(owner, "__init__", None)]
    seen: set[int] = set()
    while ahead:
        part = ahead.pop(0)
        if not isinstance(part, FunctionType) or id(part) in seen:
            continue
        seen.add(id(part))
        for called, line in _Reader(part.__globals__, names).calls(part.__code__, {}):
            if isinstance(called, FunctionType):
                ahead += [called] * (called.__module__ == part.__module__)
            elif called.startswith("self."):
                ahead.append(_part(owner, called[5:]))
            elif (instead := _instead(called)) is not None:
                location = Location(part.__code__.co_filename, line)
                yield Impurity(called.removeprefix("builtins."), location, part.__module__, instead)


def _part(owner: type | None, name: str) -> Any:
    bases: tuple[type, ...] = () if owner is None else owner.__mro__
    return next((vars(base)[name] for base in bases if name in vars(base)), None)


def _instead(called: str) -> str | None:
    module, _, rest = called.partition(".")
    whole = None if called in _FINE or "." in rest else _WHOLE.get(module)
    return whole or _INSTEAD.get(called)


def _known_names() -> dict[int, str]:
    """Return the full names of functions that may have been imported from their module, by id."""
    names = {f"{module}.{name}" for module in _WHOLE for name in dir(sys.modules.get(module))}
    found: dict[int, str] = {}
    for full in (*names, *_INSTEAD):
        module, _, name = full.rpartition(".")
        part = getattr(sys.modules.get(module), name, None)
        if callable(part) and not name.startswith("_"):
            found.setdefault(id(part), full)
    return found


class _Reader:
    """Reads which functions code calls, or their full names, such as `time.time`."""

    def __init__(self, spaces: dict[str, Any], names: dict[int, str]) -> None:
        self._globals = spaces
        self._names = names

    def calls(self, code: CodeType, imported: dict[str, str]) -> Iterator[tuple[FunctionType | str, int]]:
        """Yield the calls with their lines; `imported` are the imports of the enclosing code."""
        instructions = [i for i in dis.get_instructions(code) if i.opname not in _SKIPPED]
        known = dict(imported)
        for place, instruction in enumerate(instructions):
            if instruction.opname == "IMPORT_NAME":
                known.update(_imported(instructions, place))
            elif instruction.opname in _GLOBALS or instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF")):
                called = self._called(instructions, place, known)
                if called is not None:
                    positions = instruction.positions
                    yield called, (positions and positions.lineno) or code.co_firstlineno
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from self.calls(constant, known)

    def _called(
        self, instructions: list[dis.Instruction], place: int, known: dict[str, str]
    ) -> FunctionType | str | None:
        """Return what is loaded at a place, with its attributes, if it is called there."""
        first = instructions[place]
        loaded = self._loaded(first, known)
        if loaded is None:
            return None
        last = place
        while isinstance(loaded, str) and instructions[last + 1].opname in _ATTRIBUTES:
            last += 1
            loaded = f"{loaded}.{instructions[last].argval}"
        is_called = (
            (place > 0 and instructions[place - 1].opname == "PUSH_NULL")
            or instructions[last].opname == "LOAD_METHOD"
            or "NULL" in first.argrepr + instructions[last].argrepr
            or instructions[last + 1].opname == "PUSH_NULL"
        )
        return loaded if is_called else None

    def _loaded(self, instruction: dis.Instruction, known: dict[str, str]) -> FunctionType | str | None:
        name = instruction.argval
        if instruction.opname not in _GLOBALS:
            return "self" if name == "self" else known.get(name)
        if name not in self._globals:
            return f"builtins.{name}"
        value = self._globals[name]
        if isinstance(value, ModuleType):
            return value.__name__
        if isinstance(value, FunctionType) and id(value) not in self._names:
            return value
        if isinstance(value, type) and id(value) not in self._names:
            return f"{value.__module__}.{value.__qualname__}"
        return self._names.get(id(value))


def _imported(instructions: list[dis.Instruction], place: int) -> Iterator[tuple[str, str]]:
    """Yield the names that an import binds, with their full names."""
    module, wanted = instructions[place].argval, instructions[place - 1].argval
    part = None
    for instruction in instructions[place + 1 :]:  # pragma: no branch - a return ends all code
        if instruction.opname == "IMPORT_FROM":
            part = instruction.argval
        elif instruction.opname in _STORES:
            if wanted:
                yield instruction.argval, f"{module}.{part}"
            else:
                yield instruction.argval, module if part else module.partition(".")[0]
            if not wanted:
                return
        elif wanted or instruction.opname not in ("POP_TOP", "SWAP"):
            return
