"""The process that the crash demo kills: one run of a sign-up, in lockstep with its parent.

    python -m persistasaurus.api.cli.demo.crash_child STORE FLOW DELAY

It reports whatever happens as a line of JSON, and waits for a line in return. So the parent can kill it at
the exact moment it chooses, and sees every effect that is real.
"""

from __future__ import annotations

import inspect
import os
import sys
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import msgspec

from ....actors import FlowSystem
from ....actors.handle import from_microseconds
from ....actors.runtime.primitives import Event, Lock, SystemClock
from ....flows import current_step, events, signal, step
from ....flows.examples import SignupFlow
from ..output.lines import Lines
from .watched_store import WatchedStore

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has happened: one of opened, recorded, began, printed, did, ended."""

    moment: str
    event: msgspec.Raw = msgspec.Raw(b"null")
    step: int = 0
    name: str = ""
    text: str = ""


class Wire:
    def __init__(self, answers: IO[bytes], reports: IO[bytes]) -> None:
        self._answers = answers
        self._reports = reports
        self._lock = Lock()

    def report(self, report: Report) -> None:
        """Report, and wait for permission to continue. Without a parent, this process has no purpose."""
        with self._lock:
            try:
                self._reports.write(msgspec.json.encode(report) + b"\n")
                self._reports.flush()
                answer = self._answers.readline()
            except OSError:
                answer = b""
            if not answer:
                os._exit(1)

    def report_event(self, moment: str, event: events.AnyEvent) -> None:
        self.report(Report(moment, event=msgspec.Raw(events.encode(event))))


def watched_signup(wire: Wire, delay: timedelta) -> type[SignupFlow]:
    """Return a sign-up whose steps report before and after they act."""

    def watched(function: Callable[..., T]) -> Callable[..., T]:
        @wraps(function)
        def run(*args: Any) -> T:
            context = current_step()
            wire.report(Report("began", step=context.step, name=context.name))
            result = function(*args)
            wire.report(Report("did", step=context.step, name=context.name))
            return result

        return run

    class WatchedSignup(SignupFlow):
        create_user_record = step(name="create_user_record")(
            watched(inspect.unwrap(SignupFlow.create_user_record))
        )
        send_welcome_email = step(name="send_welcome_email", delay=delay)(
            watched(inspect.unwrap(SignupFlow.send_welcome_email))
        )
        confirm_email_address = signal(name="confirm_email_address")(
            watched(SignupFlow.confirm_email_address.step.function)
        )
        finalize_signup = step(name="finalize_signup")(watched(inspect.unwrap(SignupFlow.finalize_signup)))

    return WatchedSignup


class Incarnation:
    def __init__(self, wire: Wire, flow_id: str) -> None:
        self._wire = wire
        self._flow_id = flow_id
        self._is_awaiting = Event()
        self._is_confirmed = False

    def run(self, path: Path, delay: timedelta) -> None:
        """Open the store, continue the flow, and confirm the address when the flow waits for that."""
        store = WatchedStore.at(path)
        for event in store.history(self._flow_id):
            self._hear(event)
            self._wire.report_event("opened", event)
        store.on_event = self._recorded
        flow = watched_signup(self._wire, delay)
        with FlowSystem(store=store, flows=[flow]) as system:
            handle = system.start(flow.sign_up, "Ada", "ada@example.com", flow_id=self._flow_id)
            self._is_awaiting.wait()
            if not self._is_confirmed:
                handle.signal(flow.confirm_email_address, from_microseconds(SystemClock().now()))
            self._wire.report(Report("ended", text=str(handle.result())))

    def _recorded(self, _: str, event: events.AnyEvent) -> None:
        self._wire.report_event("recorded", event)
        self._hear(event)

    def _hear(self, event: events.AnyEvent) -> None:
        if isinstance(event, events.SignalReceived):
            self._is_confirmed = True
        elif isinstance(event, events.SignalAwaited):
            self._is_awaiting.set()


def main(store: str, flow_id: str, delay_s: str) -> None:
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    wire = Wire(sys.stdin.buffer, reports)
    sys.stdout = Lines(lambda line: wire.report(Report("printed", text=line)))
    Incarnation(wire, flow_id).run(Path(store), timedelta(seconds=float(delay_s)))


if __name__ == "__main__":
    main(*sys.argv[1:])
