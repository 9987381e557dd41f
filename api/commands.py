"""The command line: what can be typed, and what the exit codes mean."""

from __future__ import annotations

import sys
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import click
from rich_click import RichCommand, RichGroup

from ..flows.errors import PersistasaurusError
from ..store import StoreError
from .place import Place

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["persistasaurus"]

P = ParamSpec("P")

_INTERRUPTED = 130
CODES = """Exit codes: 0, it came to its end. 1, it did not, and the message says why. 2, wrong usage, or the
extra `cli` is missing. 3, the store cannot be used. 4, --no-wait, and the flow waits for its
confirmation. 130, Ctrl-C."""
_STORE = click.Path(dir_okay=False, path_type=Path)


class Unusable(click.ClickException):
    """The store cannot be used."""

    exit_code = 3


def telling_errors(command: Callable[P, int]) -> Callable[P, None]:
    """Have a command's errors told in one line, and its result made the exit code."""

    @wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except StoreError as error:
            raise Unusable(str(error)) from error
        except PersistasaurusError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            code = _INTERRUPTED
        sys.exit(code)

    return told


store_option = click.option(
    "--store", type=_STORE, help="The file to keep flows in; without it, one in a temporary folder."
)


@click.group(cls=RichGroup, epilog=CODES)
@click.version_option(package_name="persistasaurus")
def persistasaurus() -> None:
    """Durable flows for Python, in your process, in one SQLite file."""


@persistasaurus.group(cls=RichGroup, epilog=CODES)
def demo() -> None:
    """See flows run, wait, and survive."""


@demo.command(cls=RichCommand, epilog=CODES)
@store_option
@telling_errors
def hello(store: Path | None) -> int:
    """Run five steps, and show what is on record of them.

    On a store that was used before the answer comes from the log, and no step is run.
    """
    from .hello import run  # noqa: PLC0415 - each command loads what it needs

    with Place(store) as place:
        return run(place)


@demo.command(cls=RichCommand, epilog=CODES)
@click.option(
    "--delay",
    type=click.FloatRange(0, 3600),
    default=10.0,
    show_default=True,
    help="Seconds until the e-mail goes out.",
)
@click.option("--flow-id", default="signup-ada", show_default=True, help="Which sign-up it is.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the confirmation; exit code 4.")
@store_option
@telling_errors
def signup(store: Path | None, delay: float, flow_id: str, no_wait: bool) -> int:  # noqa: FBT001 - click's
    """Sign somebody up: a record, an e-mail after a while, and the confirmation of a person.

    Press Enter to confirm, or do it from another terminal: `persistasaurus demo confirm`. Ctrl-C
    leaves the sign-up as it is; the same command with the same `--store` goes on where it stopped.
    """
    from .signup import run  # noqa: PLC0415

    with Place(store) as place:
        return run(place, timedelta(seconds=delay), flow_id, wait=not no_wait)


@demo.command(cls=RichCommand, epilog=CODES)
@click.argument("flow")
@click.option("--store", type=_STORE, required=True, help="The sign-up's store.")
@telling_errors
def confirm(flow: str, store: Path) -> int:
    """Confirm the e-mail address of the sign-up FLOW, from another terminal.

    A running `demo signup` is asked to do it, since it alone may write to its store. When no
    process has the store open, the confirmation is put on record, and taken at the next run.
    """
    from .confirmation import run  # noqa: PLC0415

    return run(flow, store)


@demo.command(cls=RichCommand, epilog=CODES)
@store_option
@telling_errors
def crash(store: Path | None) -> int:
    """Run a sign-up in a process that is killed again and again, and see it come to its end."""
    from .crash import run  # noqa: PLC0415

    with Place(store) as place:
        return run(place)
