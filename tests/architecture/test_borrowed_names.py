"""What we use of other packages without their promise: as little as possible, and all of it listed here.

A name that begins with an underscore may be gone in any release. When one is, the test names it and the
version that broke it.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import importlib.util
import inspect
import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from architecture.sources import Module, module, package_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = "persistasaurus"
BORROWED = {
    # The pool of threads that actors share runs Pykka's own receive loop.
    "pykka": {
        "pykka._envelope",
        "pykka.messages._ActorStop",
        "Actor._actor_loop_running",
        "Actor._actor_loop_setup",
        "Actor._actor_loop_teardown",
        "Actor._actor_ref",
        "Actor._create_actor_inbox",
        "Actor._create_future",
        "Actor._handle_failure",
        "Actor._handle_receive",
        "Actor._start_actor_loop",
        "Actor._stop",
        "Future._get_hook",
    },
    # The testing kit runs a test once more for each crash.
    "pytest": {"_pytest.runner", "._report_sections", "._setupstate"},
    # Documented, in spite of their names.
    "python": {"._current_frames", "._exit", "._get_running_loop", "._getframe"},
    # A protocol with deadlines stands in front of it, and knows nothing of its inside.
    "uvicorn": {
        "uvicorn.protocols.http.h11_impl",
    },
}
"""By package, each name that may be used; with a dot in front, one that some object is asked for."""
DOCUMENTED_AT_THE_TOP = {"uvicorn"}
"""All that they document is in their first module: what is below is private, whatever it is called."""
NOT_MEMBERS = {"_abc_impl", "_is_protocol"}
"""What the interpreter keeps in classes."""


def imported(source: Module) -> Iterator[str]:
    """Report private modules of other packages, and private names in them, that a module imports."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            package, _, below = node.module.partition(".")
            if _is_private(node.module) or (below and package in DOCUMENTED_AT_THE_TOP):
                yield node.module
            else:
                yield from (f"{node.module}.{name.name}" for name in node.names if _is_private(name.name))
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if _is_private(name.name))


def inherited(cls: type, source: str) -> Iterator[str]:
    """Report private members of other packages' classes that one of ours overrides or uses."""
    used = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"self", "super()"}
    }
    for base in cls.__mro__[1:]:
        package = base.__module__.partition(".")[0]
        if package != OURS and package not in sys.stdlib_module_names:
            for name in {*vars(base), *getattr(base, "__annotations__", {})} - NOT_MEMBERS:
                if _is_private(name) and (name in vars(cls) or name in used):
                    yield f"{base.__name__}.{name}"


def asked_for(sources: list[Module]) -> set[str]:
    """Report private attributes that are used somewhere, and are made nowhere in these modules."""
    made: set[str] = set()
    used: set[str] = set()
    for node in (node for source in sources for node in ast.walk(source.tree)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                made.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                made.add(name)
            case ast.Constant(value=str(name)):  # __slots__, setattr
                made.add(name)
            case ast.Attribute(attr=name):
                used.add(name)
            case _:
                pass
    return {f".{name}" for name in used - made if _is_private(name)}


def _is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


def _classes() -> Iterator[tuple[type, str]]:
    for source in package_modules():
        name = f"{OURS}.{source.path.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__")
        text = source.text
        for cls in vars(importlib.import_module(name)).values():
            if inspect.isclass(cls) and cls.__module__ == name:
                yield cls, text


def _borrowed() -> set[str]:
    sources = package_modules()
    found = {name for source in sources for name in imported(source)}
    members = {name for cls, text in _classes() for name in inherited(cls, text)}
    known = {f".{name.rpartition('.')[2]}" for name in members}
    return found | members | (asked_for(sources) - known)


def test_only_these_names_are_used_without_their_owners_promise() -> None:
    listed = {name for names in BORROWED.values() for name in names}

    assert _borrowed() == listed


@pytest.mark.parametrize(("package", "name"), [(p, n) for p in BORROWED for n in sorted(BORROWED[p])])
def test_what_is_used_without_a_promise_is_still_there(package: str, name: str) -> None:
    assert _exists(package, name), f"{package} {_version(package)} has no {name} any more"


def _version(package: str) -> str:
    return sys.version if package == "python" else version(package)


def _an_object_has(name: str) -> bool:
    owners = (os, asyncio, sys, pytest.Item, pytest.Session)
    return any(hasattr(owner, name) or name in _source(owner) for owner in owners)


def _source(owner: object) -> str:
    return inspect.getsource(owner) if inspect.isclass(owner) else ""


def _exists(package: str, name: str) -> bool:
    if name.startswith("."):
        return _an_object_has(name[1:])
    owner, _, last = name.rpartition(".")
    if owner == package or owner.startswith((f"{package}.", "_")):
        module = importlib.import_module(owner)
        return hasattr(module, last) or importlib.util.find_spec(name) is not None
    cls = getattr(importlib.import_module(package), owner)
    return hasattr(cls, last) or last in vars(cls).get("__annotations__", {})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("from pykka._envelope import Envelope", ["pykka._envelope"]),
        ("from pykka.messages import _ActorStop, ProxyCall", ["pykka.messages._ActorStop"]),
        ("import pykka._ref", ["pykka._ref"]),
        ("from uvicorn import Config", []),
        ("from uvicorn.config import Config", ["uvicorn.config"]),
        ("from . import _mine\nfrom ._mine import _x\nfrom pykka import Actor\nimport pykka", []),
        ("from __future__ import annotations", []),
    ],
)
def test_a_private_import_is_reported(text: str, names: list[str]) -> None:
    assert list(imported(module("actors/x.py", text))) == names


def test_a_private_member_that_is_overridden_or_used_is_reported() -> None:
    class Theirs:
        _hook = None
        _unused = None
        public = None

    Theirs.__module__ = "theirs"
    ours = type("Ours", (Theirs,), {"_own": 1, "public": 2})

    assert list(inherited(ours, "x._hook")) == []
    assert list(inherited(ours, "x._hook\nself._hook()")) == ["Theirs._hook"]
    assert list(inherited(type("Ours", (Theirs,), {"_hook": 1}), "x = 1")) == ["Theirs._hook"]


def test_a_private_attribute_that_nobody_here_makes_is_reported() -> None:
    ours = module("a.py", "class A:\n    __slots__ = ('_b',)\n    def _c(self): self._d = self._b\n")
    theirs = module("b.py", "ref._d, ref._c(), ref._weak(), ref.__dict__")

    assert asked_for([ours]) == set()
    assert asked_for([ours, theirs]) == {"._weak"}
