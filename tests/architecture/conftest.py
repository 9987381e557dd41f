"""Lets go of the sources that a module has read: their trees are millions of objects, which slow down
every collection of garbage in tests that come later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from architecture import sources

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    sources.forget()
