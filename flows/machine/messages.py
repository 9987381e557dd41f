"""Messages to a flow machine: something has happened outside that it is to record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    from ..events import Failure  # noqa: TC004 - nothing reads the annotations of messages at run time


class Timestamp(msgspec.Struct, frozen=True, gc=False):
    """An instant, on two clocks: the calendar (microseconds, UTC), and a monotonic one.

    `elapsed` counts seconds from any point within this run of the process.
    """

    wall: int
    elapsed: float
    jumps: tuple[tuple[int, int], ...] = ()
    """The jumps of the calendar in this run: from which instant on, and by how many microseconds."""
    uptime: float = 0.0
    """For how many seconds this run of the process has lasted, at least."""


class StartRequested(msgspec.Struct, frozen=True):
    """A new flow begins. `args` are encoded already; `seed` feeds its random numbers."""

    args: bytes
    seed: int


class StepSucceeded(msgspec.Struct, frozen=True, gc=False):
    """An attempt has returned. `data` is the encoded result, `value` its decoded form."""

    step: int
    attempt: int
    data: bytes
    value: Any


class StepErrored(msgspec.Struct, frozen=True):
    """An attempt has raised. `error` is set if it was raised in this process.

    `is_final`: a retry would not help, or would do harm, since the effect has happened.
    """

    step: int
    attempt: int
    failure: Failure
    error: BaseException | None = None
    is_final: bool = False


class AttemptLost(msgspec.Struct, frozen=True, gc=False):
    """An attempt will have no outcome, though the process lives on: its progress is unknown."""

    step: int
    attempt: int


class MayRunAlone(msgspec.Struct, frozen=True):
    """A step suspected of killing the process may run now: no other suspect does."""

    step: int


class Reconciled(msgspec.Struct, frozen=True):
    """A `reconcile` function has an answer. `data` is the result, or None: the step is to run again."""

    step: int
    data: bytes | None


class ReconcileFailed(msgspec.Struct, frozen=True):
    """A `reconcile` function has no answer."""

    step: int
    failure: Failure


class SignalArrived(msgspec.Struct, frozen=True):
    """A signal is in the inbox, under `id`. Repeating the message is harmless."""

    id: int
    name: str
    key: str
    data: bytes


class Tick(msgspec.Struct, frozen=True):
    """Time has passed. Sending it too early is harmless."""


class Interrupt(msgspec.Struct, frozen=True):
    """An orderly shutdown stops waiting for the running steps.

    `not_begun` are the attempts (step, attempt) that were recorded and never got to run.
    """

    not_begun: frozenset[tuple[int, int]] = frozenset()


class PauseRequested(msgspec.Struct, frozen=True):
    """Start nothing more until the flow is resumed.

    `request` is the id under which another process left the request. It is recorded even if the flow is
    paused already, so that the request is known if it comes again.
    """

    by: str = ""
    why: str = ""
    request: str = ""


class ResumeRequested(msgspec.Struct, frozen=True):
    """Continue a paused flow. `request` is as in `PauseRequested`."""

    by: str = ""
    why: str = ""
    request: str = ""


Message: TypeAlias = (
    StartRequested
    | StepSucceeded
    | StepErrored
    | AttemptLost
    | MayRunAlone
    | Reconciled
    | ReconcileFailed
    | SignalArrived
    | Tick
    | Interrupt
    | PauseRequested
    | ResumeRequested
)
