"""How a command ends: its exit code, and an error in one line."""

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

P = ParamSpec("P")


class MissingExtra(Exception):
    """What the user asked for needs a package that is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}: pip install 'persistasaurus[{extra}]'")


_NOT_THE_STORES = (ImportConflict, NotAnExport, NotWritten, QueryFailed, QueryInterrupted)
"""Errors of the store's that do not mean that it cannot be used."""


def reporting_errors(command: Callable[P, int]) -> Callable[P, None]:
    """Make a command's result its exit code, and report its errors in one line."""

    @wraps(command)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
            sys.stdout.flush()
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BrokenPipeError:
            give_up_output(sys.stdout)
            code = UNREAD
        except MissingExtra as error:
            code = _report_error(USAGE, error)
        except (PersistasaurusError, OSError, *_NOT_THE_STORES) as error:
            code = _report_error(FAILED, error)
        except StoreError as error:
            code = _report_error(UNUSABLE, error)
        sys.exit(code)

    return reporting


def notify(message: str) -> None:
    """Tell people something beside the output, on the standard error."""
    with suppress(OSError):  # there is no reader
        click.echo(printable_lines(message), err=True)


def give_up_output(output: TextIO) -> None:
    """Discard further output: its reader has gone."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output.fileno())
        os.close(nowhere)


def _report_error(code: int, error: Exception) -> int:
    message = str(error)
    if isinstance(error, FlowNotFound):
        message += "; `persistasaurus list` shows the existing flows"
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, PersistasaurusError | StoreError):
        message += f" [{error.code}]"
    notify(f"persistasaurus: {message}")
    return code
