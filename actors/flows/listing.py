"""Listing flows: headers, those of actors that are no flows left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...flows.errors import FlowNotFound
from ...store import StoreError
from ..persistence.persistent_actor import ACTOR_STATUS
from .admission import is_text, outside_error

if TYPE_CHECKING:
    from ...store import EventReader, Header

__all__ = ["STATUSES", "flows_of"]

STATUSES = ("running", "waiting", "paused", "parked", "completed", "failed")
"""What the header of a flow may say."""


def flows_of(
    store: EventReader,
    *,
    type: str | None,  # noqa: A002 - the field's name
    status: str | None,
    after: str | None,
    limit: int,
) -> list[Header]:
    """Return up to `limit` headers in the order in which the flows were started, after `after`.

    Raises:
        FlowNotFound: there is no flow `after`.
        StoreUnavailable: they cannot be read.
    """
    if after is not None and not is_text(after):
        raise FlowNotFound(after)
    found: list[Header] = []
    if not all(is_text(name) for name in (type, status) if name is not None):
        return found
    try:
        while len(found) < limit:
            page = store.headers(type=type, status=status, after=after, limit=limit)
            found += [header for header in page if header.status != ACTOR_STATUS]
            if len(page) < limit:
                break
            after = page[-1].stream
    except StoreError as error:
        raise outside_error(after or "", error) from error
    return found[:limit]
