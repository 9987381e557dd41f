"""A post office for each test, closed at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from links.people import Post

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def post() -> Iterator[Post]:
    post = Post()
    post.open()
    yield post
    post.close()
