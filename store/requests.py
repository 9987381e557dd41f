"""What processes that do not own a store have asked of its owner: the contract of the place where it is kept.

A request is a row. Its sender writes it and goes its way, or comes back for the response, which the owner
writes into the same row. Whoever has fetched the response removes the row. A request counts by its id: the
same again is the same request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from .errors import StoreError, StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "RequestStore",
    "RequestsDamaged",
    "RequestsFull",
    "StoredRefusal",
    "StoredRequest",
    "StoredResponse",
]


class RequestsFull(StoreError):
    """Too many requests wait for the store's owner; nothing was written."""

    code = "requests-full"


class RequestsDamaged(StoreUnusable):
    """What the requests are kept in cannot be read, and reading it again would not help: `set_aside` it."""

    code = "requests-damaged"


class StoredRequest(NamedTuple):
    """A request that waits for its response."""

    id: str
    data: bytes


class StoredResponse(NamedTuple):
    """What a request has come to. `refusal`: why it can never be done; empty, when it was done."""

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
    """Where requests wait. One object is for one thread; there may be many, in many processes.

    All methods raise `StoreHalted` when it is in use by somebody who does not let go of it, or cannot be
    reached now; `StoreFull` when the disk is full; and `StoreUnusable` when it must not be used.
    """

    def add(self, request_id: str, data: bytes) -> None:
        """Leave a request. Durable when this returns; behind all that was left before, by anybody.

        Raises:
            RecordTooLarge, RequestsFull: nothing was written.
            CommitUnknown: it may be there, or not. Adding it again is safe.
        """
        ...

    def take_response(self, request_id: str) -> bytes | None:
        """Return the response to a request, and forget both; None: there is none (yet)."""
        ...

    def pending_count(self) -> int:
        """Return how many requests wait for a response."""
        ...

    def refusals(self) -> list[StoredRefusal]:
        """Return what was refused and not told to its sender, in the order in which it was left."""
        ...

    def arrived(self) -> list[StoredRequest]:
        """Return the next few that wait, in order, each of them once; none: there is nothing new.

        For the owner alone. After the requests have been replaced or set aside, all that wait come again.
        """
        ...

    def read(self, request_id: str) -> bytes | None:
        """Return a request that waits; None: it is gone."""
        ...

    def respond(self, responses: Sequence[StoredResponse]) -> None:
        """Answer requests, durably, all or none of them. For the owner alone.

        A request has one response: the first.
        """
        ...

    def sweep(self) -> None:
        """Remove responses nobody has come back for in an hour, and all but the newest refusals."""
        ...

    def set_aside(self) -> str:
        """Keep a copy of what cannot be read, begin anew, and say where the copy is. For the owner alone."""
        ...

    def close(self) -> None:
        """Let go of it. What is there stays."""
        ...
