"""`persistasaurus demo hello`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.terminal import run
from click.testing import CliRunner
from persistasaurus.api.cli.program import persistasaurus

if TYPE_CHECKING:
    from pathlib import Path

LINES = [*(f"Hello, World ({count})" for count in range(5)), "Sum: 10"]


def test_it_shows_the_lines_and_the_record(temporary: Path) -> None:
    told = CliRunner().invoke(persistasaurus, ["demo", "hello"])

    assert told.exit_code == 0
    lines = told.output.splitlines()
    assert [line for line in lines if line in LINES] == LINES
    assert sum("step completed" in line for line in lines) == 5
    assert "Result: 10" in lines
    assert list(temporary.iterdir()) == []


def test_on_the_same_store_again_nothing_is_run(tmp_path: Path) -> None:
    path = str(tmp_path / "flows.db")
    first = CliRunner().invoke(persistasaurus, ["demo", "hello", "--store", path])

    again = CliRunner().invoke(persistasaurus, ["demo", "hello", "--store", path])

    assert first.exit_code == again.exit_code == 0
    assert LINES[0] not in again.output
    assert "no step was run" in again.output
    assert "Result: 10" in again.output


def test_in_a_pipe_it_is_plain_text() -> None:
    told = run("demo", "hello")

    assert told.returncode == 0
    assert "\x1b" not in told.stdout
    assert told.stderr == ""


def test_a_path_is_not_taken_for_markup(tmp_path: Path) -> None:
    told = CliRunner().invoke(persistasaurus, ["demo", "hello", "--store", str(tmp_path / "[red]a.db")])

    assert told.exit_code == 0
    assert "[red]a.db" in told.output
