"""The flows of the modules that a user names: imported and checked."""

from __future__ import annotations

import inspect
import sys
import traceback
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ...flows import Flow, FlowDefinition, Registry
from ...flows.authoring.flow import definitions_of
from ...flows.errors import FlowDefinitionError, PersistasaurusError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import ModuleType

FlowSource: TypeAlias = "type[Flow] | FlowDefinition[..., Any]"

_OURS = str(Path(__file__).resolve().parent)


class ModuleUnusable(PersistasaurusError):
    """The named module yields no flows. The message says why, and what to do."""

    code = "module-unusable"


def flows_of(names: Iterable[str]) -> list[FlowSource]:
    """Return the flows of modules: MODULE for all that it defines, MODULE:NAME for a single one.

    A module is a dotted name, looked up in the current directory first, or the path of a .py file.

    Raises:
        ModuleUnusable: there is no such module, it has no such flow, or it cannot be imported.
        FlowDefinitionError: a flow's definition cannot work, or two flows have one name.
    """
    found: list[FlowSource] = []
    for name in names:
        module_name, _, chosen = name.partition(":")
        module = _imported(module_name)
        found += [_chosen(module, chosen)] if chosen else _defined(module)
    unique = list(dict.fromkeys(found))
    try:
        Registry(tuple(unique))
    except FlowDefinitionError as error:
        if "two flows are named" not in str(error):
            raise
        raise FlowDefinitionError(f"{error}; or choose one: MODULE:NAME") from error
    return unique


# ------------------------------------------------------------------------------------- the import
def _imported(name: str) -> ModuleType:
    if name.endswith(".py") or "/" in name:
        return _imported_file(Path(name))
    if not all(part.isidentifier() for part in name.split(".")):
        raise ModuleUnusable(
            f"{name!r} names no module: give a dotted name, or the path of a .py file, and :NAME for one flow"
        )
    if "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with _blaming_the_module(name):
        return import_module(name)


def _imported_file(path: Path) -> ModuleType:
    resolved = path.resolve()
    if not resolved.is_file():
        raise ModuleUnusable(f"there is no file {path}")
    if resolved.suffix != ".py" or not resolved.stem.isidentifier():
        raise ModuleUnusable(f"{path} cannot be imported: its name must be that of a module, like order.py")
    # By its folder and its name, so that processes that run isolated steps find it in the same way.
    sys.path.insert(0, str(resolved.parent))
    with _blaming_the_module(resolved.stem):
        module = import_module(resolved.stem)
    if module.__file__ is None or Path(module.__file__).resolve() != resolved:
        there = f"from {module.__file__}" if module.__file__ else "into Python itself"
        raise ModuleUnusable(
            f"{path} cannot be imported: a module {resolved.stem!r} already exists, {there}: rename yours"
        )
    return module


@contextmanager
def _blaming_the_module(name: str) -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise ModuleUnusable(
                f"there is no module {missing!r}, neither in {Path.cwd()} nor where Python looks for modules"
            ) from None
        raise ModuleUnusable(_account(name, error)) from None
    except (KeyboardInterrupt, ModuleUnusable):
        raise
    except SystemExit:
        raise ModuleUnusable(
            f"{name} ends the process when it is imported: put what it does into"
            " `if __name__ == '__main__':`, and only define flows outside of it"
        ) from None
    except BaseException as error:  # noqa: BLE001 - the user's own code
        raise ModuleUnusable(_account(name, error)) from None


def _account(name: str, error: BaseException) -> str:
    """Describe what went wrong in the user's code, without our frames and those of the import."""
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    return f"{name} cannot be imported:\n\n{''.join(lines).rstrip()}"


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib")) or filename.endswith("importlib/__init__.py")


# --------------------------------------------------------------------------------------- choosing
def _chosen(module: ModuleType, name: str) -> FlowSource:
    missing = object()
    found = getattr(module, name, missing)
    if found is missing:
        raise ModuleUnusable(f"module {module.__name__!r} has no {name!r}; {_offer(module)}")
    if not _is_flow(found):
        raise ModuleUnusable(f"{module.__name__}:{name} is not a flow; {_offer(module)}")
    return cast("FlowSource", found)


def _defined(module: ModuleType) -> list[FlowSource]:
    """Return the flows that a module defines or lists in its `__all__`, not those that it merely imports."""
    listed: Iterable[str] = getattr(module, "__all__", ())
    found = [
        value
        for name, value in vars(module).items()
        if _is_flow(value) and (name in listed or _home(value) == module.__name__)
    ]
    if not found:
        raise ModuleUnusable(f"there are no flows in module {module.__name__!r}: {_offer(module)}")
    return list(dict.fromkeys(found))


def _offer(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if _is_flow(value)]
    if names:
        return f"it has {', '.join(names)}: name one, {module.__name__}:{names[0]}"
    return "a flow is a class derived from Flow with a method made by @flow, or a function made by @flow"


def _is_flow(value: object) -> bool:
    if inspect.isclass(value) and issubclass(value, Flow):
        try:
            return bool(definitions_of(value))
        except FlowDefinitionError:
            return False
    return isinstance(value, FlowDefinition)


def _home(value: Any) -> str:
    return value.function.__module__ if isinstance(value, FlowDefinition) else value.__module__
