"""Bugs of the intake: orders of other processes that are answered too early, forgotten, or stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from persistasaurus.actors.remote import poller as intake
from persistasaurus.actors.remote.poller import Intake, Lane
from persistasaurus.actors.remote.protocol import Answered, encode
from persistasaurus.flows.errors import StoreUnavailable
from simulation.planted.planting import bug, wrap

if TYPE_CHECKING:
    import pytest


@bug
def order_removed_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """An order leaves the spool as soon as it is begun, and not when it is answered."""

    def begin(before: Any, self: Any, lane: Any, order: Any, data: bytes) -> None:
        self._spool.new.pop(lane.names[0], None)
        before(self, lane, order, data)

    wrap(patch, Intake, "_begin", begin)


@bug
def order_answered_with_a_guess(patch: pytest.MonkeyPatch) -> None:
    """What could not be done now is answered as if it never could."""
    patch.setattr(intake, "_NOT_NOW", ())


@bug
def order_put_off_for_good(patch: pytest.MonkeyPatch) -> None:
    """What was put off is never tried again."""

    def put_off(before: Any, self: Any, now: float, why: object) -> None:
        before(self, now, why)
        if isinstance(why, StoreUnavailable):
            self.not_before = float("inf")

    wrap(patch, Lane, "put_off", put_off)


@bug
def order_answered_before_it_is_done(patch: pytest.MonkeyPatch) -> None:
    """The sender is told that all is well while the order is still on its way."""

    def begin(before: Any, self: Any, lane: Any, order: Any, data: bytes) -> None:
        self._spool.answers[lane.names[0]] = encode(Answered())
        before(self, lane, order, data)

    wrap(patch, Intake, "_begin", begin)
