"""How a command ends: its exit code, and an error told in one line."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

import click

from ....flows.errors import FlowNotFound, PersistasaurusError
from ....store import StoreError
from ....store.errors import ImportConflict, NotAnExport, NotWritten, QueryFailed, QueryInterrupted
from .exit_codes import FAILED, INTERRUPTED, UNREAD, UNUSABLE, USAGE
from .printable import printable_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

__all__ = ["MissingExtra", "give_up_output", "tell", "telling_errors"]

P = ParamSpec("P")


class MissingExtra(Exception):
    """What the user asked for needs a package that is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}: pip install 'persistasaurus[{extra}]'")


_NOT_THE_STORES = (ImportConflict, NotAnExport, NotWritten, QueryFailed, QueryInterrupted)
"""Errors of the store's that do not mean that it cannot be used."""

_SAYS_ALL = (PersistasaurusError.code, StoreError.code)


def telling_errors(command: Callable[P, int]) -> Callable[P, None]:
    """Have a command's errors told in one line, and its result made the exit code."""

    @wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
            sys.stdout.flush()
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BrokenPipeError:
            give_up_output(sys.stdout)
            code = UNREAD
        except MissingExtra as error:
            code = _tell_error(USAGE, error)
        except (PersistasaurusError, OSError, *_NOT_THE_STORES) as error:
            code = _tell_error(FAILED, error)
        except StoreError as error:
            code = _tell_error(UNUSABLE, error)
        sys.exit(code)

    return told


def tell(message: str) -> None:
    """Tell people something beside the output, on the standard error."""
    with suppress(OSError):  # nobody listens
        click.echo(printable_lines(message), err=True)


def give_up_output(output: TextIO) -> None:
    """Have what is still to be written go nowhere: its reader is gone."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output.fileno())
        os.close(nowhere)


def _tell_error(code: int, error: Exception) -> int:
    message = str(error)
    if isinstance(error, FlowNotFound):
        message += "; `persistasaurus list` shows those that there are"
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, PersistasaurusError | StoreError) and error.code not in _SAYS_ALL:
        message += f" [{error.code}]"
    tell(f"persistasaurus: {message}")
    return code
