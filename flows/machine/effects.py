"""What a flow machine wants done, once what it decided is durable."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from ..events import AnyEvent
    from .pending import StepRun  # noqa: TC004 - nothing reads the annotations of effects at run time


class RunStep(msgspec.Struct, frozen=True):
    """Run an attempt at a step, and tell the machine how it went."""

    run: StepRun
    attempt: int


class RunAlone(msgspec.Struct, frozen=True):
    """Ask for the step's turn among those that are suspected of killing the process."""

    step: int


class Reconcile(msgspec.Struct, frozen=True):
    """Run the step's `reconcile` function, and tell the machine what it found out."""

    run: StepRun


class Warn(msgspec.Struct, frozen=True):
    """Tell whoever runs the system, once."""

    text: str


AnyEffect: TypeAlias = RunStep | RunAlone | Reconcile | Warn


class Decision:
    """What came of one message: input and command events to record, and effects to carry out after that.

    `consumed` and `rejected` are ids of the inbox; `rejected` ones come with the reason. `given_up` are
    keys of signals that are in the history, and that nobody will take after all, with the reasons.
    """

    __slots__ = ("consumed", "effects", "events", "given_up", "rejected")

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.effects: list[AnyEffect] = []
        self.consumed: list[int] = []
        self.rejected: list[tuple[int, str]] = []
        self.given_up: list[tuple[str, str]] = []

    @property
    def has_settled(self) -> bool:
        """Whether it says what becomes of a signal."""
        return bool(self.consumed or self.rejected or self.given_up)

    def merge(self, later: Decision) -> None:
        """Take in what was decided next, to be recorded together."""
        self.events += later.events
        self.effects += later.effects
        self.consumed += later.consumed
        self.rejected += later.rejected
        self.given_up += later.given_up
