"""Stores to look at, and commands that do not outlive their test."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from cli import shop
from cli.terminal import Running
from click.testing import CliRunner
from persistasaurus import FlowSystem
from persistasaurus.api.cli.program import persistasaurus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

    Ask = Callable[..., Result]

FLOWS = [
    shop.OrderFlow,
    shop.ConfirmFlow,
    shop.FailingFlow,
    shop.RetryingFlow,
    shop.SlowFlow,
    shop.SumFlow,
]


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


@pytest.fixture(name="filled", scope="session")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with flows in it; nobody has it open. It is copied, and never used."""
    path = tmp_path_factory.mktemp("filled") / "flows.db"
    with FlowSystem(path, flows=FLOWS) as system:
        system.start(shop.OrderFlow.fulfil, "a book", flow_id="order-1")
        system.start(shop.ConfirmFlow.ask, "ada", flow_id="confirm-ada")
        bob = system.start(shop.ConfirmFlow.ask, "bob", flow_id="confirm-bob")
        bob.pause(by="ops", why="bob is on holiday")
        system.start(shop.FailingFlow.fail, shop.NASTY, flow_id="failing-1")
        system.start(shop.RetryingFlow.go, flow_id="retrying-1")
        for n in range(3):
            assert system.run(shop.SumFlow.add, n, flow_id=f"sum-{n}") == 2 * n + 3
    return path


@pytest.fixture(name="store")
def _store(filled: Path, tmp_path: Path) -> Path:
    """Lend a store of one's own: order-1, confirm-ada, confirm-bob, failing-1, retrying-1, and three sums."""
    return shutil.copy(filled, tmp_path / "flows.db")


@pytest.fixture
def ask(store: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command on the store, in this process."""
    monkeypatch.setenv("PERSISTASAURUS_STORE", str(store))

    def ask(*words: str | Path, **more: object) -> Result:
        return CliRunner().invoke(persistasaurus, [str(word) for word in words], **more)

    return ask


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no message broken in two, and no time of another place."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture(name="temporary", autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have temporary folders made where they can be looked for."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder
