"""Command lines that are proposed to the user. The ids in them were chosen by others."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def proposed(verb: str, *operands: str, store: str | Path, **options: str) -> str:
    """Return a command line that any shell reads as these words, whatever they contain."""
    more = [word for name, value in options.items() for word in (f"--{name}", value)]
    if not any(word.startswith("-") for word in (*operands, *options.values(), str(store))):
        return shlex.join(["persistasaurus", verb, *operands, *more, "--store", str(store)])
    # An operand that looks like an option stands after `--`, and such a value after an equals sign.
    options_ = [f"--{name}={value}" for name, value in options.items()]
    return shlex.join(["persistasaurus", verb, *options_, f"--store={store}", "--", *operands])


def option(name: str, value: str) -> str:
    """Return an option with its value, to be added to the command that was typed."""
    return shlex.join([f"{name}={value}"] if value.startswith("-") else [name, value])
