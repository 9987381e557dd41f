"""Command lines that are shown to be typed next. Ids in them were chosen by others."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["option", "proposed"]


def proposed(verb: str, *operands: str, store: str | Path, **options: str) -> str:
    """Return a command line that means what it says, to any shell, whatever its words are."""
    more = [word for name, value in options.items() for word in (f"--{name}", value)]
    if not any(word.startswith("-") for word in (*operands, *options.values(), str(store))):
        return shlex.join(["persistasaurus", verb, *operands, *more, "--store", str(store)])
    # What looks like an option is told from one by a place behind all of them, or by an equals sign.
    options_ = [f"--{name}={value}" for name, value in options.items()]
    return shlex.join(["persistasaurus", verb, *options_, f"--store={store}", "--", *operands])


def option(name: str, value: str) -> str:
    """Return an option with its value, to be put behind the command that was typed."""
    return shlex.join([f"{name}={value}"] if value.startswith("-") else [name, value])
