"""Taking a store over from an owner who is still there."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from persistasaurus.store.files import file_locks
from persistasaurus.store.files.location import FileLocation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def locks_that_do_not_hold(path: Path) -> Iterator[None]:
    """Have whoever opens the store meanwhile see no lock of its owner: as where a filesystem forgets them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_locks, "_locked", lambda *_: True)
        patch.setattr(file_locks, "_owned", set())
        FileLocation.resolve(path).lock_path.unlink()
        yield
