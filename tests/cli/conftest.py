"""Commands that do not outlive their test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli.terminal import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def begin() -> Iterator[Callable[..., Running]]:
    """Begin a command without waiting for its end."""
    begun: list[Running] = []

    def begin(*words: str | Path, on_terminal: bool = False) -> Running:
        begun.append(Running(*words, on_terminal=on_terminal))
        return begun[-1]

    yield begin
    for running in begun:
        running.close()


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no message broken in two."""
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture(name="temporary", autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have temporary folders made where they can be looked for."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder
