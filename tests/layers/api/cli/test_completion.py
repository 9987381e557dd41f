"""Shell completion: scripts that shells accept, and what they propose."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cli.shop import SumFlow
from cli.terminal import COMMAND
from click.shell_completion import ShellComplete
from persistasaurus import FlowSystem
from persistasaurus.api.cli.program import COMMANDS, persistasaurus
from persistasaurus.store import Durability

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Ask


def proposed(*words: str, incomplete: str = "") -> list[str]:
    completion = ShellComplete(persistasaurus, {}, "persistasaurus", "_PERSISTASAURUS_COMPLETE")
    return [item.value for item in completion.get_completions(list(words), incomplete)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(ask: Ask, shell: str) -> None:
    told = ask("completion", shell)

    assert told.exit_code == 0
    assert "_PERSISTASAURUS_COMPLETE" in told.stdout
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=told.stdout, text=True, check=True, timeout=30)


def test_commands_and_options_are_proposed() -> None:
    assert proposed() == list(COMMANDS)
    assert proposed(incomplete="ex") == ["explain", "export"]
    assert "--status" in proposed("list", incomplete="--s")


@pytest.mark.usefixtures("ask")
def test_flows_and_types_of_the_store_are_proposed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proposed("show", incomplete="confirm") == ["confirm-ada", "confirm-bob"]
    assert proposed("list", "--type", incomplete="s") == ["sum"]
    monkeypatch.delenv("PERSISTASAURUS_STORE")
    assert proposed("show", "--store", str(store), incomplete="sum-1") == ["sum-1"]


def test_where_there_is_no_store_nothing_is_proposed_and_nothing_said(tmp_path: Path) -> None:
    variables = {
        "_PERSISTASAURUS_COMPLETE": "bash_complete",
        "COMP_WORDS": "persistasaurus show ",
        "COMP_CWORD": "2",
    }

    told = subprocess.run(
        COMMAND,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | variables,
        timeout=60,
    )

    assert (told.returncode, told.stdout.strip(), told.stderr) == (0, "", "")
    assert list(tmp_path.glob("*.db*")) == []


def test_of_many_flows_the_newest_are_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "many.db"
    monkeypatch.setenv("PERSISTASAURUS_STORE", str(path))
    with FlowSystem(path, flows=[SumFlow], durability=Durability.MAY_LOSE_LAST_COMMITS) as system:
        handles = [system.start(SumFlow.add, 1, flow_id=f"order-{n:04}") for n in range(2100)]
        handles[-1].result(60)

    assert proposed("show", incomplete="order-209") == [f"order-{n}" for n in range(2090, 2100)]
    assert proposed("show", incomplete="order-0000") == ["order-0000"]
    assert "order-2099" in proposed("show")
    assert len(proposed("show")) == 50
    assert proposed("show", incomplete="order-209'") == []
    assert proposed("show", incomplete="\udcff") == []
    assert proposed("list", "--type", incomplete="su") == ["sum"]
