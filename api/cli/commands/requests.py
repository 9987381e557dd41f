"""The commands `signal`, `pause`, `resume` and `retry`: what is asked of the engine that has the store."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import click
import msgspec

from ....actors.remote.client import RemoteClient
from ....flows.errors import PersistasaurusError, SignalRejected
from ..options import (
    by_option,
    check_exists,
    command,
    flow_argument,
    json_option,
    login_name,
    open_reader,
    store_option,
    why_option,
)
from ..output.exit_codes import DONE
from ..output.outcome import telling_errors
from ..output.screen import Screen
from ..output.times import instant, local_time

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ....actors.remote.client import PendingRequest

__all__ = ["pause", "resume", "retry", "signal"]

F = TypeVar("F", bound="Callable[..., Any]")
P = ParamSpec("P")

_PATIENCE_S = 2.0
_SIZE_MAX = 16 * 1024 * 1024
_DONE = {
    "signal": "Taken: the signal is on record",
    "pause": "Paused",
    "resume": "Resumed: the flow continues",
    "retry": "The flow runs on",
}


class Reaction(msgspec.Struct, frozen=True):
    """What became of a request. `state`: `taken` by the engine; or `recorded`: it is durable, and will be.

    Of a signal that was taken, `at` says when it first came, and `duplicate` whether that was before.
    """

    flow_id: str
    request: str
    state: str
    signal_id: str | None = None
    at: datetime | None = None
    duplicate: bool | None = None


class _Bytes(click.ParamType[bytes]):
    """An argument as it was typed, which need not be text."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        del param, ctx
        return value if isinstance(value, bytes) else os.fsencode(value)


def wait_options(function: F) -> F:
    """Let a command wait for the engine's answer, or not."""
    patience = click.option(
        "--wait",
        "patience",
        type=click.FloatRange(0, 3600),
        default=_PATIENCE_S,
        show_default=True,
        help="Seconds to wait for the engine's answer, when one has the store open.",
    )
    none = click.option("--no-wait", "is_hurried", is_flag=True, help="Do not wait for an answer.")

    @wraps(function)
    def waiting(*args: Any, patience: float, is_hurried: bool, **kwargs: Any) -> Any:
        return function(*args, patience=0.0 if is_hurried else patience, **kwargs)

    return cast("F", patience(none(waiting)))


@command(
    "signal", example="persistasaurus signal signup-ada confirm_email_address '\"2026-05-17T00:00:00Z\"'"
)
@flow_argument
@click.argument("name")
@click.argument("payload", metavar="[JSON]", default="{}", type=_Bytes())
@click.option("--id", "signal_id", help="A signal with the same id is recorded only once.")
@wait_options
@store_option
@json_option
@telling_errors
def signal(  # noqa: PLR0913 - click gives them by name
    *,
    flow: str,
    name: str,
    payload: bytes,
    signal_id: str | None,
    patience: float,
    store: Path,
    as_json: bool,
) -> int:
    """Send a signal to a flow. It is durable when this command returns; the flow takes it when it awaits it.

    JSON is an object of the signal's arguments, or the value of its only argument; `-` reads it from
    standard input. If no process has the store open, the signal is recorded, and delivered at the next
    start.
    """
    with _opened(store) as client:
        pending = client.signal(flow, name, _given(payload), signal_id=signal_id, by=login_name())
        return _tell("signal", pending, patience, store, as_json=as_json)


def asking(request: Callable[P, int]) -> Callable[P, None]:
    """Give a request what all requests about one flow take, and have its errors told."""
    asked = telling_errors(request)
    for option in (json_option, store_option, wait_options, why_option, by_option, flow_argument):
        asked = option(asked)
    return asked


@command("pause", example='persistasaurus pause order-1 --why "the bank is closed"')
@asking
def pause(*, flow: str, by: str, why: str, patience: float, store: Path, as_json: bool) -> int:  # noqa: PLR0913 - click's
    """Pause a flow: it starts no more steps until it is resumed. Running steps finish and are recorded."""
    with _opened(store) as client:
        return _tell("pause", client.pause(flow, by=by, why=why), patience, store, as_json=as_json)


@command("resume", example="persistasaurus resume order-1")
@asking
def resume(*, flow: str, by: str, why: str, patience: float, store: Path, as_json: bool) -> int:  # noqa: PLR0913 - click's
    """Resume a paused flow; it takes up everything that has happened meanwhile."""
    with _opened(store) as client:
        return _tell("resume", client.resume(flow, by=by, why=why), patience, store, as_json=as_json)


@command("retry", example='persistasaurus retry order-1 --why "the bank is back"')
@asking
def retry(*, flow: str, by: str, why: str, patience: float, store: Path, as_json: bool) -> int:  # noqa: PLR0913 - click's
    """Continue a failed or parked flow from where it stopped. Completed steps are not repeated."""
    with _opened(store) as client:
        return _tell("retry", client.retry(flow, by=by, why=why), patience, store, as_json=as_json)


@contextmanager
def _opened(store: Path) -> Generator[RemoteClient]:
    check_exists(store)
    with RemoteClient(store) as client:
        try:
            yield client
        except PersistasaurusError:
            raise
        except ValueError as error:  # an id or a name that cannot be stored
            raise PersistasaurusError(str(error)) from error


def _given(payload: bytes) -> bytes:
    if payload != b"-":
        return payload
    data = sys.stdin.buffer.read(_SIZE_MAX + 1)
    if len(data) > _SIZE_MAX:
        raise SignalRejected(f"more than {_SIZE_MAX:,} bytes on the standard input; nothing was written")
    return data


def _tell(request: str, pending: PendingRequest, patience: float, store: Path, *, as_json: bool) -> int:
    """Wait for the engine's answer, and tell what it means.

    Raises:
        PersistasaurusError: the engine has refused the request.
    """
    response = pending.wait(patience)
    receipt = None if response is None else response.result(pending.flow_id)
    screen = Screen()
    if as_json:
        screen.json(
            Reaction(
                pending.flow_id,
                request,
                "recorded" if response is None else "taken",
                pending.signal_id,
                None if receipt is None else receipt.at,
                None if receipt is None else receipt.duplicate,
            )
        )
    elif response is None:
        screen.line(f"On record. {_when_taken(store, patience)}")
    elif receipt is not None and receipt.duplicate:
        screen.line(f"Taken before, at {local_time(instant(receipt.at))}: the same id is the same signal.")
    else:
        screen.line(f"{_DONE[request]}.")
    return DONE


def _when_taken(store: Path, patience: float) -> str:
    with open_reader(store) as reader:
        owner = reader.owner()
    if owner is None:
        return "No process has the store open: it is taken at the next start."
    waited = f" has not answered within {patience:g} s; it" if patience else ""
    return f"Process {owner.pid}{waited} takes it when it comes to it."
