"""Files that are void once writing to them has failed."""

from __future__ import annotations

import contextlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def closed(file: IO[bytes]) -> Generator[IO[bytes]]:
    """Close a file at the end of the block, which flushes everything that counts.

    Data left in its buffer could not be written: it would fail once more, and hide the first error.
    """
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            file.close()
