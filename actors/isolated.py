"""The life of a worker process, which runs isolated steps one after the other.

Over the pipe go bytes only, each message a few of them, nothing pickled:

    parent  module, qualified name          child  READY, or RAISED
    parent  payload                         child  RETURNED, result, or RAISED
                                            RAISED is followed by type, message and traceback

The pipe is the life line: when it breaks, the parent is gone, and so is the child.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from multiprocessing import current_process, parent_process
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from .seam import start_thread
from .steps_task import traceback_text

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["RAISED", "READY", "RETURNED", "serve"]

READY = b"ready"
RETURNED = b"returned"
RAISED = b"raised"


def serve(pipe: Connection) -> None:
    """Run what the pipe asks for until it is closed at the other end."""
    _stand_alone()
    start_thread(_die_with_parent, "persistasaurus-parent", daemon=True)
    try:
        while True:
            _serve_one(pipe)
    except (EOFError, OSError):
        return


def _stand_alone() -> None:
    """Take no part in the terminal's signals, and let steps have processes of their own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.setpgid(0, 0)
    current_process().daemon = False


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # What the step has started in its own group goes with it.
        os.killpg(0, signal.SIGKILL)


def _serve_one(pipe: Connection) -> None:
    module, name = pipe.recv_bytes().decode(), pipe.recv_bytes().decode()
    try:
        target = _resolve(module, name)
    except BaseException as error:  # noqa: BLE001 - importing runs the user's code
        _send_error(pipe, error)
        return
    pipe.send_bytes(READY)
    payload = pipe.recv_bytes()
    try:
        result = memoryview(target.call_encoded(payload))
    except BaseException as error:  # noqa: BLE001 - a step's SystemExit is that step's error
        _send_error(pipe, error)
        return
    finally:
        _flush()
    pipe.send_bytes(RETURNED)
    pipe.send_bytes(result)


def _resolve(module: str, name: str) -> Any:
    # What the parent calls __main__ was imported here by another name, and is found by both.
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _send_error(pipe: Connection, error: BaseException) -> None:
    pipe.send_bytes(RAISED)
    for text in (type(error).__name__, _message(error), traceback_text(error)):
        pipe.send_bytes(text.encode("utf-8", "backslashreplace"))


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as failure:  # noqa: BLE001 - the exception is the user's, and so is its __str__
        return f"(its message cannot be shown: {type(failure).__qualname__})"


def _flush() -> None:
    """Show what the step has printed now: the process may be killed at any later time."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue
