"""One incarnation of a process that runs a flow, and kills itself right before or right after a commit.

    python child.py ORDER      ORDER is JSON, see `Order`.

Says on its last line, as JSON, how the flow has ended; a killed one says nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import persistasaurus as p
from persistasaurus.actors.runtime.primitives import Event, SystemClock
from persistasaurus.flows.examples import HelloWorldFlow, SignupFlow
from persistasaurus.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DELAY = timedelta(milliseconds=20)
HELLO, SIGNUP = "hello", "signup"


class DyingStore:
    """A store whose process dies right before (`-n`) or right after (`n`) the n-th commit; 0: never."""

    def __init__(self, store: SqliteStore, dies_at: int) -> None:
        self._store = store
        self._dies_at = dies_at
        self._commits = 0
        self.is_awaiting = Event()

    def commit(self, writes: Any) -> Any:
        self._commits += 1
        if self._dies_at == -self._commits:
            os.kill(os.getpid(), signal.SIGKILL)
        outcomes = self._store.commit(writes)
        if self._dies_at == self._commits:
            os.kill(os.getpid(), signal.SIGKILL)
        if any(record.kind == "signal_awaited" for w in writes for record in getattr(w, "records", ())):
            self.is_awaiting.set()
        return outcomes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Notes:
    """A file that survives the process: what steps did to the world, and what clients were told."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def add(self, line: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{line}\n".encode())
        os.fsync(descriptor)
        os.close(descriptor)

    def __contains__(self, line: str) -> bool:
        return self._path.exists() and line in self._path.read_text().splitlines()


def noting(notes: Notes, function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a step leave a trace in the world before it does what it does."""

    @wraps(function)
    def noted(*args: Any) -> Any:
        notes.add(f"step {p.current_step().step}")
        return function(*args)

    return noted


def flows(notes: Notes) -> tuple[type[HelloWorldFlow], type[SignupFlow]]:
    class Hello(HelloWorldFlow):
        say = p.step(name="say")(noting(notes, HelloWorldFlow.say.function))

    class Signup(SignupFlow):
        create_user_record = p.step(name="create_user_record")(
            noting(notes, SignupFlow.create_user_record.function)
        )
        send_welcome_email = p.step(name="send_welcome_email", delay=DELAY)(
            noting(notes, SignupFlow.send_welcome_email.function)
        )
        confirm_email_address = p.signal(noting(notes, SignupFlow.confirm_email_address.step.function))
        finalize_signup = p.step(name="finalize_signup")(noting(notes, SignupFlow.finalize_signup.function))

    return Hello, Signup


def start(system: p.FlowSystem, flow: Any, flow_id: str, notes: Notes, *args: str) -> Any:
    """Start a flow, and never again once that was confirmed."""
    if "started" in notes:
        return system.flow(flow_id)
    handle = system.start(flow, *args, flow_id=flow_id)
    notes.add("started")
    return handle


def confirm(handle: Any, store: DyingStore, client: str, notes: Notes) -> None:
    """Confirm a sign-up.

    The eager client does so at once, the patient one when the flow waits for it, and both again in
    each incarnation. The trusting one is as patient, and does not do it again when it was told that
    the confirmation is safe.
    """
    if client == "trusting" and "confirmed" in notes:
        return
    if client != "eager" and not any(r.kind == "signal_awaited" for r in store.read(handle.id)):
        store.is_awaiting.wait()
    handle.signal("confirm_email_address", NOON, signal_id="mail-1")
    notes.add("confirmed")


def run(order: dict[str, Any]) -> Any:
    notes = Notes(order["notes"])
    hello, signup = flows(notes)
    store = DyingStore(SqliteStore.open(order["store"], now=SystemClock().now), order["dies_at"])
    limits = p.Limits(poison_after=order.get("poison_after", 3))
    with p.FlowSystem(store=store, flows=[hello, signup], limits=limits) as system:
        if order["flow"] == HELLO:
            return start(system, hello.say_hello, HELLO, notes).result()
        handle = start(system, signup.sign_up, SIGNUP, notes, "ada", "ada@example.com")
        confirm(handle, store, order["client"], notes)
        return handle.result()


if __name__ == "__main__":
    try:
        said = {"result": run(json.loads(sys.argv[1]))}
    except p.FlowParked as error:
        said = {"parked": str(error)}
    print(json.dumps(said))  # noqa: T201 - to whoever started it
