"""Which signals a flow can ever wait for, as far as its code shows, so that a misspelt one is refused.

The search covers the flow's code and everything it can reach by name: helper functions, the classes of its
values, and what those use in turn. A wait needs `wait_for` or a `@signal` method. The names are known if
every `wait_for` has its name written out. If one does not, or the code uses something opaque (an object, a
table that may change, `getattr`), the flow may wait for any signal. Accepting a name that no flow waits for
is a nuisance; refusing one that a flow does wait for is a loss.
"""

from __future__ import annotations

import builtins
import dis
import enum
import functools
import sys
import types
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, ForwardRef, NewType, Protocol, cast, get_args, get_origin, get_type_hints
from weakref import ReferenceType

from .query import Query
from .request import Request
from .signal import Signal, SignalWait
from .step import Step
from .vocabulary import wait_for

_OURS = __name__.partition(".")[0]
_PYTHON = dis.__file__.removesuffix("dis.py")
_WRITTEN_LIKE_A_USER = (f"{_OURS}.flows.examples", f"{_OURS}.api.cli.demo")
_MOST = 500
"""The search ends after this many functions: a flow that reaches more has reached a whole library."""

# These reach anything, under names that are not in the code.
_LOOPHOLES = frozenset(
    id(getattr(builtins, name))
    for name in (
        *("__import__", "breakpoint", "compile", "eval", "exec"),
        *("getattr", "globals", "locals", "vars"),
    )
)
_LOOPHOLE_MODULES = {
    *("builtins", "ctypes", "gc", "importlib", "inspect", "operator", "pickle", "pkgutil", "runpy", "sys"),
    "types",
}
_LOOPHOLE_ATTRIBUTES = frozenset(
    ("__builtins__", "__code__", "__dict__", "__getattribute__", "__globals__", "__wrapped__", "function")
)
_GLOBAL = frozenset(("LOAD_GLOBAL", "LOAD_NAME"))
_ATTRIBUTE = frozenset(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"))
_NOTHING = frozenset(("CACHE", "EXTENDED_ARG", "KW_NAMES", "NOP"))
_FUNCTIONS = (types.FunctionType, staticmethod, classmethod, property)
_PLAIN = (bool, int, float, complex, str, bytes, range, type(None), type(...), type(NotImplemented))


class _NotKnownError(Exception):
    """The flow may wait for any signal."""


UNKNOWN: Any = object()
"""The type of a wait whose type is not written out."""


class FlowCode(Protocol):
    """The code of a flow: its body, and its class if it has one."""

    @property
    def function(self) -> Any: ...
    @property
    def owner(self) -> type | None: ...


def signal_types(definition: FlowCode) -> dict[str, list[Any]] | None:
    """Return the signals that the flow can ever wait for, with the types in its code; None: it may be any."""
    search = _Search()
    try:
        search.begin(definition)
    except _NotKnownError:
        return None
    return search.types


class _Search:
    """Searches everything that some code can reach."""

    def __init__(self) -> None:
        self.types: dict[str, list[Any]] = {}
        self._seen: dict[int, Any] = {}  # they are kept: an id stays its own
        self._ahead: list[Any] = []
        self._spaces: list[Mapping[str, Any]] = []
        self._attributes: set[str] = set()
        self._looked_through = 0

    def begin(self, definition: FlowCode) -> None:
        self._hints(definition.function)
        self._code_of(definition.function)
        if definition.owner is not None:
            self._class(definition.owner)
        while self._ahead:
            self._visit(self._ahead.pop())

    def _add(self, value: Any) -> None:
        if id(value) not in self._seen:
            self._seen[id(value)] = value
            self._ahead.append(value)

    def _visit(self, value: Any) -> None:  # noqa: C901, PLR0912 - one case for each kind of thing
        if value is wait_for or value is SignalWait or id(value) in _LOOPHOLES:
            raise _NotKnownError(value)
        match value:
            case types.ModuleType():
                self._module(value)
            case types.FunctionType():
                self._function(value)
            case types.MethodType():
                self._add(value.__func__)
                self._add(value.__self__)
            case staticmethod() | classmethod():
                self._add(cast("Any", value).__func__)
            case property():
                self._each((value.fget, value.fset, value.fdel))
            case functools.cached_property():
                self._add(cast("Any", value).func)
            case functools.partial():
                made = cast("functools.partial[Any]", value)
                self._each((made.func, *made.args, *made.keywords.values()))
            case Signal():
                step = cast("Signal[..., Any]", value).step
                self._awaited(step.name, UNKNOWN)
                self._hints(step.function)
            case Step():
                self._hints(cast("Step[..., Any]", value).function)
            case SignalWait():
                self._awaited(cast("SignalWait[Any]", value).name, UNKNOWN)
            case Query():
                pass  # it cannot wait
            case _ if get_origin(value) is not None:
                self._each((get_origin(value), *get_args(value)))
            case type():
                self._class(cast("type[Any]", value))
            case NewType():
                self._add(value.__supertype__)
            case _:
                self._object(value)

    def _awaited(self, name: str, of: Any) -> None:
        self.types.setdefault(name, []).append(of)

    def _each(self, values: Iterable[Any]) -> None:
        for value in values:
            self._add(value)

    # -------------------------------------------------------------------------- modules and classes
    def _module(self, module: types.ModuleType) -> None:
        name = module.__name__
        is_loophole = name.partition(".")[0] in _LOOPHOLE_MODULES
        if is_loophole or (not _is_library(name) and "__getattr__" in vars(module)):
            raise _NotKnownError(module)
        if not _is_library(name):
            self._space(vars(module))

    def _class(self, kind: type[Any]) -> None:
        for base in kind.__mro__:
            if not _is_library(base.__module__):
                self._own(base)
        if not _is_library(type(kind).__module__):
            self._add(type(kind))

    def _own(self, base: type[Any]) -> None:
        """Search a class's own members: those accessed by name, and those called implicitly."""
        for name, part in vars(base).items():
            is_called_unasked = name.startswith("__") and isinstance(part, _FUNCTIONS)
            if is_called_unasked or isinstance(part, Signal):
                self._add(part)
        self._space(vars(base))
        try:
            self._each(get_type_hints(base).values())
        except Exception as error:
            raise _NotKnownError(base) from error

    def _space(self, space: Mapping[str, Any]) -> None:
        """Note a namespace whose attributes code may access."""
        self._spaces.append(space)
        self._each(space[name] for name in self._attributes if name in space)

    def _attribute(self, name: str) -> None:
        """Note that code accesses an attribute, of whatever object."""
        if name in _LOOPHOLE_ATTRIBUTES:
            raise _NotKnownError(name)
        if name not in self._attributes:
            self._attributes.add(name)
            self._each(space[name] for space in self._spaces if name in space)

    # ----------------------------------------------------------------------------------- functions
    def _function(self, function: types.FunctionType) -> None:
        where = function.__globals__.get("__name__", "")
        if _is_ours(where):
            return
        given = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        try:
            given += [cell.cell_contents for cell in function.__closure__ or ()]
        except ValueError as error:  # one is not filled yet
            raise _NotKnownError(function) from error
        if _is_library(where):
            # Only the library itself fills an empty collection that its function keeps.
            self._each(value for value in given if not _is_empty(value))
        else:
            self._each(given)
            self._code_of(function)

    def _code_of(self, function: Any) -> None:
        self._looked_through += 1
        if self._looked_through > _MOST or not isinstance(function, types.FunctionType):
            raise _NotKnownError(function)
        # `begin` passes the flow's body directly.
        if id(function) not in self._seen:
            self._seen[id(function)] = function
            self._function(function)
            return
        self._code(function.__code__, function.__globals__)

    def _hints(self, function: Any) -> None:
        """Search the types that are decoded for the flow's code: arguments, and results of steps."""
        try:
            self._each(get_type_hints(function).values())
        except Exception as error:
            raise _NotKnownError(function) from error

    def _code(self, code: types.CodeType, names: dict[str, Any]) -> None:
        instructions = [i for i in dis.get_instructions(code) if i.opname not in _NOTHING]
        for place, instruction in enumerate(instructions):
            self._instruction(instructions, place, instruction, names)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant, names)

    def _instruction(
        self, all_: list[dis.Instruction], place: int, instruction: dis.Instruction, names: dict[str, Any]
    ) -> None:
        name = instruction.argval
        if instruction.opname in _GLOBAL:
            value = names.get(name, vars(builtins).get(name, _MISSING))
            if value is _MISSING:
                raise _NotKnownError(name)
            if value is wait_for:
                self._awaited(*_given(all_, place, names))
            else:
                self._add(value)
        elif instruction.opname in _ATTRIBUTE:
            if name == wait_for.__name__:
                self._awaited(*_given(all_, place, names))
            else:
                self._attribute(name)
        elif instruction.opname == "MATCH_CLASS":
            wanted: Any = all_[place - 1].argval  # the attributes that a pattern names
            for attribute in cast("tuple[str, ...]", wanted):
                self._attribute(attribute)
        elif instruction.opname == "IMPORT_NAME":
            is_relative = place < 2 or all_[place - 2].argval != 0  # noqa: PLR2004 - the level, and what is wanted
            if is_relative or not _is_harmless(name):
                raise _NotKnownError(name)

    # ------------------------------------------------------------------------------------- objects
    def _object(self, value: Any) -> None:
        kind = cast("type[Any]", type(value))
        if isinstance(value, enum.Enum):
            self._add(kind)
        elif isinstance(value, tuple | frozenset):
            self._each(cast("tuple[Any, ...]", value))
            self._add(kind)
        elif kind is _Cached:
            self._add(value.__wrapped__)
        elif issubclass(kind, Request) or not (
            _is_plain(value) or _is_ours(kind.__module__) or _is_simple(value, kind)
        ):
            raise _NotKnownError(value)


_MISSING = object()
_Cached = type(functools.cache(signal_types))


def _given(instructions: list[dis.Instruction], place: int, names: dict[str, Any]) -> tuple[str, Any]:
    """Return the name and the type in a call of `wait_for`; `UNKNOWN` for a type that is not written out.

    Raises:
        _NotKnownError: the name is computed, or it is not a call.
    """
    behind = instructions[place + 1 : place + 40]
    first, *more = behind[1:] if behind[0].opname == "PUSH_NULL" else behind
    if first.opname != "LOAD_CONST" or not isinstance(first.argval, str):
        raise _NotKnownError(first)
    depth = 1  # of the arguments on the stack: the name is the lowest, as long as nothing else reaches it
    for count, instruction in enumerate(more):
        if instruction.opname == "LOAD_CONST" and isinstance(instruction.argval, tuple):
            continue  # the names of arguments that are given by name
        if instruction.opname in ("PRECALL", "CALL", "CALL_KW") and instruction.arg == depth:
            return first.argval, _type_in(more[:count], names)
        depth += dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
        if depth <= 1:
            break
    raise _NotKnownError(first)


def _type_in(instructions: list[dis.Instruction], names: dict[str, Any]) -> Any:
    """Return the type that instructions build from names: `int`, `list[Item]`, `int | None`."""
    stack: list[Any] = [Any]
    try:
        for instruction in instructions:
            _step_on(stack, instruction, names)
    except Exception:  # noqa: BLE001 - it is no type, or not made as types are
        return UNKNOWN
    return stack[-1]


def _step_on(stack: list[Any], instruction: dis.Instruction, names: dict[str, Any]) -> None:
    name, given = instruction.opname, instruction.argval
    if name in _GLOBAL:
        stack.append(names[given] if given in names else vars(builtins)[given])
    elif name in _ATTRIBUTE:
        stack.append(vars(stack.pop())[given])
    elif name == "LOAD_CONST":
        if not isinstance(given, tuple):
            stack.append(given)
    elif name == "BUILD_TUPLE":
        parts = [stack.pop() for _ in range(given)]
        stack.append(tuple(reversed(parts)))
    elif name == "BINARY_SUBSCR" or instruction.argrepr == "[]":
        of = stack.pop()
        stack.append(stack.pop()[of])
    elif instruction.argrepr == "|":
        other = stack.pop()
        stack.append(stack.pop() | other)
    else:
        raise _NotKnownError(instruction)


def _is_ours(module: object) -> bool:
    name = str(module)
    return name.partition(".")[0] == _OURS and not name.startswith(_WRITTEN_LIKE_A_USER)


def _is_library(module: object) -> bool:
    """Return whether a module is the standard library's or ours: it calls only what it was given."""
    return _is_of_python(str(module).partition(".")[0]) or _is_ours(module)


def _is_of_python(name: str) -> bool:
    """Return whether a module is the standard library's, and not a user's with the same name."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return name in sys.stdlib_module_names and (file is None or file.startswith(_PYTHON))


def _is_harmless(module: str) -> bool:
    return _is_library(module) and module.partition(".")[0] not in {*_LOOPHOLE_MODULES, _OURS}


def _is_plain(value: Any) -> bool:
    """Return whether it is data, which leads nowhere; an empty table may be filled with anything later."""
    if isinstance(value, dict):
        table = cast("dict[Any, Any]", value)
        return bool(table) and all(map(_is_plain, (*table.keys(), *table.values())))
    if isinstance(value, list | set):
        members = cast("list[Any]", value)
        return bool(members) and all(map(_is_plain, members))
    return isinstance(value, _PLAIN)


def _is_empty(value: Any) -> bool:
    return isinstance(value, dict | list | set) and not value


def _is_simple(value: Any, kind: type[Any]) -> bool:
    """Return whether it is of the standard library, and does not keep what it was given."""
    if isinstance(value, Iterable | ContextVar | ForwardRef | ReferenceType | types.SimpleNamespace):
        return False
    if kind.__name__ == "_local":  # of a thread: it may hold anything
        return False
    is_builtin = isinstance(value, types.BuiltinFunctionType | types.WrapperDescriptorType)
    is_slot = isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType)
    if is_builtin or is_slot or isinstance(value, types.MethodDescriptorType):
        return True
    return _is_library(kind.__module__) and not callable(value)
