"""Bugs of the request poller: requests that are answered too early, forgotten, or stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from persistasaurus.actors.remote import poller
from persistasaurus.actors.remote.poller import FlowQueue, RequestPoller
from persistasaurus.actors.remote.protocol import RemoteResponse, encode
from persistasaurus.flows.errors import StoreUnavailable
from persistasaurus.store.requests import StoredResponse
from simulation.planted.planting import bug, wrap

if TYPE_CHECKING:
    import pytest


@bug
def request_removed_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A request is gone as soon as it is begun, and not when there is a response."""

    def begin(before: Any, self: Any, queue: Any, request: Any) -> None:
        self._store._all.waiting.pop(queue.ids[0], None)
        before(self, queue, request)

    wrap(patch, RequestPoller, "_begin", begin)


@bug
def request_answered_with_a_guess(patch: pytest.MonkeyPatch) -> None:
    """What could not be done now is answered as if it never could."""
    patch.setattr(poller, "_NOT_NOW", ())


@bug
def request_put_off_for_good(patch: pytest.MonkeyPatch) -> None:
    """What was put off is never tried again."""

    def put_off(before: Any, self: Any, now: float, why: object) -> None:
        before(self, now, why)
        if isinstance(why, StoreUnavailable):
            self.not_before = float("inf")

    wrap(patch, FlowQueue, "put_off", put_off)


@bug
def request_answered_before_it_is_done(patch: pytest.MonkeyPatch) -> None:
    """The sender is told that all is well while the request is still on its way."""

    def begin(before: Any, self: Any, queue: Any, request: Any) -> None:
        self._store.respond([StoredResponse(queue.ids[0], encode(RemoteResponse()))])
        before(self, queue, request)

    wrap(patch, RequestPoller, "_begin", begin)


@bug
def response_given_up_when_it_cannot_be_written(patch: pytest.MonkeyPatch) -> None:
    """What somebody keeps locked is not written a second time: nobody ever hears what has become of it."""

    def respond(before: Any, self: Any) -> None:
        before(self)
        self._unwritten.clear()

    wrap(patch, RequestPoller, "_respond", respond)
