"""What a flow machine wants done once its decision is durable."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from ..events import AnyEvent  # noqa: TC004 - nothing reads the annotations of effects at run time
    from .pending import StepRun  # noqa: TC004 - as above


class RunStep(msgspec.Struct, frozen=True):
    """Run an attempt at a step, and report its outcome to the machine."""

    run: StepRun
    attempt: int


class RunAlone(msgspec.Struct, frozen=True):
    """Request the step's turn among those suspected of killing the process."""

    step: int


class Reconcile(msgspec.Struct, frozen=True):
    """Run the step's `reconcile` function, and report its answer to the machine."""

    run: StepRun


class Warn(msgspec.Struct, frozen=True):
    """Log a warning, once."""

    text: str


AnyEffect: TypeAlias = RunStep | RunAlone | Reconcile | Warn


class Decision(msgspec.Struct, eq=False):
    """The result of one message: input and command events to record, and effects to carry out after that.

    `consumed` and `rejected` are ids of the inbox, `rejected` with the reasons. `given_up` are keys of
    signals in the history that will never be taken, with the reasons.
    """

    events: list[AnyEvent] = msgspec.field(default_factory=list)
    effects: list[AnyEffect] = msgspec.field(default_factory=list)
    consumed: list[int] = msgspec.field(default_factory=list)
    rejected: list[tuple[int, str]] = msgspec.field(default_factory=list)
    given_up: list[tuple[str, str]] = msgspec.field(default_factory=list)

    @property
    def has_settled(self) -> bool:
        """Whether it decides the fate of a signal."""
        return bool(self.consumed or self.rejected or self.given_up)

    def merge(self, later: Decision) -> None:
        """Add a later decision, to be recorded together."""
        self.events += later.events
        self.effects += later.effects
        self.consumed += later.consumed
        self.rejected += later.rejected
        self.given_up += later.given_up
