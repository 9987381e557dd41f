"""Requests from other processes to a store's owner: the contract of where they are kept.

A request is a row. Its sender writes it, and may come back for the response, which the owner writes into the
same row. Fetching the response removes the row. Two requests with the same id are the same request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from .errors import StoreError, StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Sequence


class RequestsFull(StoreError):
    """Too many requests wait for the store's owner; nothing was written."""

    code = "requests-full"


class RequestsDamaged(StoreUnusable):
    """The requests cannot be read, and reading them again would not help: `set_aside` them."""

    code = "requests-damaged"


class StoredRequest(NamedTuple):
    """A request that waits for its response."""

    id: str
    data: bytes


class StoredResponse(NamedTuple):
    """The outcome of a request. `refusal` says why it can never be done; empty if it was done."""

    id: str
    data: bytes
    refusal: str = ""


class StoredRefusal(NamedTuple):
    """A request that can never be done, and whose sender has not fetched the response.

    `at`: when it was refused, in microseconds since the epoch, UTC. `data` is the request.
    """

    id: str
    at: int
    data: bytes
    reason: str


class RequestStore(Protocol):
    """Where requests wait. An object serves one thread; there may be many, in many processes.

    All methods raise `StoreHalted` if it is locked for too long or cannot be reached now, `StoreFull` if the
    disk is full, and `StoreUnusable` if it must not be used.
    """

    def add(self, request_id: str, data: bytes) -> None:
        """Add a request, after all earlier ones of any sender. Durable on return.

        Raises:
            RecordTooLarge, RequestsFull: nothing was written.
            CommitUnknown: it may be there, or not. Adding it again is safe.
        """
        ...

    def take_response(self, request_id: str) -> bytes | None:
        """Return the response to a request, and delete both; None if there is none (yet)."""
        ...

    def pending_count(self) -> int:
        """Return how many requests wait for a response."""
        ...

    def refusals(self) -> list[StoredRefusal]:
        """Return the refusals that their senders have not fetched, oldest first."""
        ...

    def arrived(self) -> list[StoredRequest]:
        """Return the next few waiting requests, in order, each once; empty if there are no new ones.

        For the owner alone. After the requests have been replaced or set aside, all waiting ones come again.
        """
        ...

    def read(self, request_id: str) -> bytes | None:
        """Return a waiting request; None if it is gone."""
        ...

    def respond(self, responses: Sequence[StoredResponse]) -> None:
        """Answer requests, durably, all or none of them. For the owner alone.

        A request has one response: the first.
        """
        ...

    def sweep(self) -> None:
        """Remove responses not fetched within an hour, and all but the newest refusals."""
        ...

    def set_aside(self) -> str:
        """Keep a copy of unreadable requests, begin anew, and return the copy's path. For the owner alone."""
        ...

    def close(self) -> None: ...
