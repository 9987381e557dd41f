"""What tests of diagrams share: flows that are driven by hand, worlds on disk, and Mermaid itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from diagrams import reference as references
from scenario.fixtures import signups, world

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["reference", "signups", "world"]

# `stories` of the flow machine's tests: a `flows` package would be mistaken for the one at the root.
sys.path.append(str(Path(__file__).parents[2] / "flows"))


@pytest.fixture(scope="session")
def reference(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[references.Reference]:
    cache = getattr(request.config, "cache", None)
    folder = tmp_path_factory.mktemp("mermaid") if cache is None else Path(cache.mkdir("mermaid"))
    process = references.started(folder)
    yield process
    process.close()
