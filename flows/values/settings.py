"""Checks of settings (numbers, times and rules) where they are given."""

from __future__ import annotations

from datetime import timedelta
from math import isfinite
from typing import Any


def check_count(what: str, option: str, value: Any, *, least: int = 1, most: int | None = None) -> None:
    """Refuse a setting that is not a whole number within its bounds.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it is less than `least`, or more than `most`.
    """
    bounds = f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
    if type(value) is not int:
        raise TypeError(f"{what}({option}={value!r}): give a whole number, {bounds}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{what}({option}={value!r}): give {bounds}")


def check_seconds(what: str, option: str, value: Any, *, least: float = 0.0) -> None:
    """Refuse a setting that is not a finite number (of seconds) of `least` or more.

    Raises:
        TypeError: it is not a number.
        ValueError: it is less, or not finite.
    """
    _check_number(what, option, value, f"give a number, {least:g} or more")
    if not isfinite(value) or value < least:
        raise ValueError(f"{what}({option}={value!r}): give a finite number, {least:g} or more")


def check_timeout(what: str, value: Any) -> None:
    """Refuse a timeout that is neither a finite number of seconds nor None. Negative ones count as 0.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not finite.
    """
    if value is None:
        return
    _check_number(what, "timeout", value, "give seconds, or None to wait for as long as it takes")
    if not isfinite(value):
        raise ValueError(f"{what}(timeout={value!r}): give None to wait for as long as it takes")


def _check_number(what: str, option: str, value: Any, instead: str) -> None:
    if isinstance(value, timedelta):
        raise TypeError(f"{what}({option}={value!r}): give seconds, {option}={value.total_seconds():g}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what}({option}={value!r}): {instead}")


def check_type(what: str, option: str, value: Any, kind: type) -> None:
    """Raise a `TypeError` that says what to write, if a setting has another type."""
    if not isinstance(value, kind):
        name = kind.__name__
        instead = f"{option}={name}()" if value is kind else f"{option}={name}(...)"
        raise TypeError(f"{what}({option}={value!r}): give a {name}: {instead}")
