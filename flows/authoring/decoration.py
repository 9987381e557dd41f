"""Checks of what `@flow`, `@step`, `@signal` and `@query` decorate and are given, made at the definition."""

from __future__ import annotations

import functools
import inspect
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..errors import FlowDefinitionError
from ..values.location import NOWHERE, defined_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_NAME_LENGTH = 200


def check_name(name: str, kind: str) -> None:
    """Raise `FlowDefinitionError` for a name that could not be stored and shown in one line."""
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > _NAME_LENGTH:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FlowDefinitionError(
            f"{name!r} is not a valid name for a {kind}: 1 to {_NAME_LENGTH} printable characters"
        )


def check_options(decorator: str, options: Collection[str], known: tuple[str, ...]) -> None:
    """Raise `FlowDefinitionError` for an unknown option; it names the nearest one and lists all."""
    odd = next((option for option in options if option not in known), None)
    if odd is None:
        return
    from difflib import get_close_matches  # noqa: PLC0415 - only errors pay for the import

    near = get_close_matches(odd, known, 1)
    meant = f"; did you mean {near[0]!r}?" if near else "."
    raise FlowDefinitionError(
        f"@{decorator} has no option {odd!r}{meant} It takes {', '.join(known)}, by name"
    )


def check_function(decorator: str, given: Any) -> None:
    """Raise `FlowDefinitionError` for anything but a function, such as an option given by position."""
    if inspect.isfunction(given):
        return
    said = f"@{decorator} stands over a function"
    if isinstance(given, str):
        said += f", and takes its options by name: write @{decorator}(name={given!r})"
    elif isinstance(given, timedelta):
        said += f", and takes its options by name: write @{decorator}(delay=...) or @{decorator}(timeout=...)"
    elif isinstance(given, (staticmethod, classmethod)):
        kind = "staticmethod" if isinstance(given, staticmethod) else "classmethod"
        said += (
            f": not over a @{kind} ({_named(given)}). Drop the @{kind}, and let the method take `self`; or"
            " move the function out of the class"
        )
    elif isinstance(given, functools.partial):
        said += f", and {given!r} is not one: write a `def` with the arguments filled in"
    elif inspect.isclass(given):
        said += f", and {given.__name__} is a class: put @{decorator} over its method"
    elif callable(given):
        said += f", and {given!r} is not one: write a `def` that calls it"
    else:
        said += f", and takes its options by name: {given!r} is neither"
    raise FlowDefinitionError(said)


def _named(function: Any) -> str:
    place = defined_at(function)
    name = getattr(function, "__qualname__", repr(function))
    return name if place is NOWHERE else f"{name} at {place}"


def check_async(function: Callable[..., Any]) -> None:
    """Raise `FlowDefinitionError` if a flow's body is not `async def`."""
    if inspect.iscoroutinefunction(function):
        return
    said = f"flow {_named(function)} must be `async def`, without `yield`: its body awaits what is durable"
    inner = inspect.unwrap(function)
    if inner is not function and inspect.iscoroutinefunction(inner):
        said += (
            ". It is one, but a decorator under @flow has wrapped it in a plain `def`: make that `async def`"
        )
    raise FlowDefinitionError(said)


def check_reconcile(what: str, parameters: tuple[inspect.Parameter, ...], given: Any) -> None:
    """Raise `FlowDefinitionError` if `reconcile` does not take its step's arguments (with `self`)."""
    if not callable(given) or inspect.iscoroutinefunction(given) or inspect.isclass(given):
        raise FlowDefinitionError(
            f"{what}: reconcile must be a plain function (`def`) of the step's arguments, not {given!r}"
        )
    by_name = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    try:
        signature = inspect.signature(given)
        signature.bind(*[None] * (len(parameters) - len(by_name)), **dict.fromkeys(p.name for p in by_name))
    except TypeError as error:
        raise FlowDefinitionError(
            f"{what}: its reconcile function does not take the step's arguments, with which it is called:"
            f" {error}"
        ) from None
    except ValueError:
        return  # a signature that cannot be read is no reason to refuse it
