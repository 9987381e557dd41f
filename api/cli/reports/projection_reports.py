"""How the projections of a store stand, as their files show it: an engine is not needed."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from ....store import StoreError
from ....store.sqlite.projection_file import read_projection
from ....store.sqlite.projection_place import projection_name, projections_beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

UNREADABLE = "unreadable"


class ProjectionReport(NamedTuple):
    """One projection. Without a position, its file cannot be read, and `reason` says why."""

    name: str
    file: Path
    status: str
    reason: str
    origin: str = ""
    position: int | None = None
    lag: int | None = None
    at: int | None = None


def projection_reports(store: Path, end: int, files: Iterable[Path] = ()) -> Iterator[ProjectionReport]:
    """Report on the projections beside a store, and on those in `files`; `end` is the store's position."""
    for file in chain(projections_beside(store), files):
        try:
            found = read_projection(file)
        except StoreError as error:
            yield ProjectionReport(projection_name(store, file), file, UNREADABLE, str(error))
            continue
        lag = max(0, end - found.position)
        yield ProjectionReport(
            found.name, file, found.status, found.reason, found.origin, found.position, lag, found.at
        )
