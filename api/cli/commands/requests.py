"""The commands `signal`, `pause`, `resume` and `retry`: requests to the engine that owns the store."""

from __future__ import annotations

import getpass
import os
import sys
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ....actors.handle import to_microseconds
from ....actors.remote.client import RemoteClient
from ....flows.errors import PersistasaurusError, SignalRejected
from ..options import check_exists, command, flow_argument, open_reader
from ..output.exit_codes import DONE
from ..output.quantities import local_time
from ..output.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ....actors.remote.client import PendingRequest

_WAIT_S = 2.0
_SIZE_MAX = 16 * 1024 * 1024
_DONE = {
    "signal": "Taken: the signal is on record",
    "pause": "Paused",
    "resume": "Resumed: the flow continues",
    "retry": "The flow runs on",
}


class Reaction(msgspec.Struct, frozen=True):
    """What became of a request. `state`: `taken` by the engine, or `recorded` for it, durably.

    For a signal that was taken, `at` is when it first arrived; `duplicate`: it had arrived before.
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


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


_by_option = click.option(
    "--by", default=_login_name, show_default="the login name", help="Who asks; recorded."
)
_why_option = click.option("--why", default="", help="The reason; recorded.")
_wait_option = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    default=_WAIT_S,
    show_default=True,
    help="Seconds to wait for the engine's answer, when one has the store open.",
)
_no_wait_option = click.option("--no-wait", is_flag=True, help="Do not wait for an answer.")


def _wait_options(function: Callable[..., int]) -> Callable[..., int]:
    @wraps(function)
    def waiting(*, wait_s: float, no_wait: bool, **options: Any) -> int:
        return function(wait_s=0.0 if no_wait else wait_s, **options)

    return _wait_option(_no_wait_option(waiting))


@command(
    "signal", example="persistasaurus signal signup-ada confirm_email_address '\"2026-05-17T00:00:00Z\"'"
)
@flow_argument
@click.argument("name")
@click.argument("payload", metavar="[JSON]", default="{}", type=_Bytes())
@click.option("--id", "signal_id", help="A signal with the same id is recorded only once.")
@_wait_options
def signal(  # noqa: PLR0913 - click gives them by name
    *, flow: str, name: str, payload: bytes, signal_id: str | None, wait_s: float, store: Path, as_json: bool
) -> int:
    """Send a signal to a flow. It is durable when this command returns; the flow takes it when it awaits it.

    JSON is an object of the signal's arguments, or the value of its only argument; `-` reads it from
    standard input. If no process has the store open, the signal is recorded, and delivered at the next
    start.
    """
    with _opened(store) as client:
        pending = client.signal(flow, name, _read(payload), signal_id=signal_id, by=_login_name())
        return _report("signal", pending, wait_s, store, as_json=as_json)


def _request(name: str, *, example: str) -> Callable[[Callable[..., int]], click.Command]:
    """Make a command of a function that makes a request about one flow."""

    def declared(function: Callable[..., int]) -> click.Command:
        for option in (_wait_options, _why_option, _by_option, flow_argument):
            function = option(function)
        return command(name, example=example)(function)

    return declared


@_request("pause", example='persistasaurus pause order-1 --why "the bank is closed"')
def pause(*, flow: str, by: str, why: str, wait_s: float, store: Path, as_json: bool) -> int:  # noqa: PLR0913 - click's
    """Pause a flow: it starts no more steps until it is resumed. Running steps finish and are recorded."""
    with _opened(store) as client:
        return _report("pause", client.pause(flow, by=by, why=why), wait_s, store, as_json=as_json)


@_request("resume", example="persistasaurus resume order-1")
def resume(*, flow: str, by: str, why: str, wait_s: float, store: Path, as_json: bool) -> int:  # noqa: PLR0913 - click's
    """Resume a paused flow. Everything that arrived in the meantime takes effect."""
    with _opened(store) as client:
        return _report("resume", client.resume(flow, by=by, why=why), wait_s, store, as_json=as_json)


@_request("retry", example='persistasaurus retry order-1 --why "the bank is back"')
def retry(*, flow: str, by: str, why: str, wait_s: float, store: Path, as_json: bool) -> int:  # noqa: PLR0913 - click's
    """Continue a failed or parked flow from where it stopped. Completed steps are not repeated."""
    with _opened(store) as client:
        return _report("retry", client.retry(flow, by=by, why=why), wait_s, store, as_json=as_json)


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


def _read(payload: bytes) -> bytes:
    if payload != b"-":
        return payload
    data = sys.stdin.buffer.read(_SIZE_MAX + 1)
    if len(data) > _SIZE_MAX:
        raise SignalRejected(f"more than {_SIZE_MAX:,} bytes on the standard input; nothing was written")
    return data


def _report(request: str, pending: PendingRequest, wait_s: float, store: Path, *, as_json: bool) -> int:
    """Wait for the engine's answer, and report what it means.

    Raises:
        PersistasaurusError: the engine has refused the request.
    """
    response = pending.wait(wait_s)
    receipt = None if response is None else response.result(pending.flow_id)
    screen = Screen()
    if as_json:
        state = "recorded" if response is None else "taken"
        at, duplicate = (None, None) if receipt is None else (receipt.at, receipt.duplicate)
        screen.json(Reaction(pending.flow_id, request, state, pending.signal_id, at, duplicate))
    elif response is None:
        screen.line(f"On record. {_when_taken(store, wait_s)}")
    elif receipt is not None and receipt.duplicate:
        screen.line(
            f"Taken before, at {local_time(to_microseconds(receipt.at))}: the same id is the same signal."
        )
    else:
        screen.line(f"{_DONE[request]}.")
    return DONE


def _when_taken(store: Path, wait_s: float) -> str:
    with open_reader(store) as reader:
        owner = reader.owner()
    if owner is None:
        return "No process has the store open: it is taken at the next start."
    waited = f" has not answered within {wait_s:g} s; it" if wait_s else ""
    return f"Process {owner.pid}{waited} takes it when it comes to it."
