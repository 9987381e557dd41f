"""The life of a worker process, which runs isolated steps one after the other.

Over the pipe go bytes only, each message a few of them, nothing pickled:

    parent  module, qualified name          child  READY, or RAISED
    parent  payload                         child  RETURNED, result, or RAISED
                                            RAISED is followed by type, message, traceback, line,
                                            the names of its classes, one a line, and
                                            FINAL when it is not to be tried again

The pipe is the life line: when it breaks, the parent is gone, and so is the child.
"""

from __future__ import annotations

import os
import signal
import sys
from contextvars import Context
from importlib import import_module
from multiprocessing import current_process, parent_process
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from ...flows.machine.failure import line_of
from ...flows.values.ancestry import ancestry_of
from ..runtime.primitives import start_thread
from .forked_child import StepProcess
from .task import RemoteStepError, message_text, traceback_text

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["FINAL", "RAISED", "READY", "RETURNED", "find", "remote_error", "serve"]

READY = b"ready"
RETURNED = b"returned"
RAISED = b"raised"
FINAL = b"final"


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
        target = find(module, name)
    except BaseException as error:  # noqa: BLE001 - importing runs the user's code
        _send_error(pipe, error, is_final=False)
        return
    pipe.send_bytes(READY)
    payload = pipe.recv_bytes()
    try:
        with StepProcess():
            result = memoryview(Context().run(target.call_encoded, payload, find))
    except BaseException as error:  # noqa: BLE001 - a step's SystemExit is that step's error
        _send_error(pipe, error, is_final=_is_final(target, error))
        return
    finally:
        _flush()
    pipe.send_bytes(RETURNED)
    pipe.send_bytes(result)


def find(module: str, name: str) -> Any:
    """Find what a module has under a qualified name, and import it for that."""
    # What the parent calls __main__ was imported here by another name, and is found by both.
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _is_final(target: Any, error: BaseException) -> bool:
    try:
        return bool(target.is_final(error))
    except Exception:  # noqa: BLE001 - it asks classes of the user's whether the error is one of theirs
        return False


def _send_error(pipe: Connection, error: BaseException, *, is_final: bool) -> None:
    told = remote_error(error, is_final=is_final)
    pipe.send_bytes(RAISED)
    for text in (told.type_name, told.message, told.traceback, told.line, "\n".join(told.ancestry)):
        pipe.send_bytes(text.encode("utf-8", "backslashreplace"))
    pipe.send_bytes(FINAL * told.is_final)


_NOT_THERE = (
    "An isolated step runs in a process of its own, which has imported the program only: what is made"
    ' under `if __name__ == "__main__"`, such as a FlowSystem, is not there. A step that uses the system runs'
    " without isolated=True"
)


def remote_error(error: BaseException, *, is_final: bool) -> RemoteStepError:
    """Return what the parent raises for an error in here."""
    kind = type(error)
    if kind is NameError:
        error.add_note(_NOT_THERE)
    return RemoteStepError(
        kind.__name__,
        message_text(error),
        traceback_text(error),
        is_final=is_final,
        line=line_of(error),
        ancestry=ancestry_of(kind),
    )


def _flush() -> None:
    """Show what the step has printed now: the process may be killed at any later time."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue
