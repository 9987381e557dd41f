"""The command as a whole: help, versions, exit codes, and what it says when it cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from cli.terminal import COMMAND, run
from click.testing import CliRunner
from persistasaurus.api.cli.program import COMMANDS, persistasaurus
from persistasaurus.store import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from cli.conftest import Ask

WORDS = [[], *([name] for name in COMMANDS), ["demo", "crash"]]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_each_command_tells_what_it_does_and_its_exit_codes(words: list[str]) -> None:
    told = CliRunner().invoke(persistasaurus, [*words, "--help"])

    assert told.exit_code == 0
    assert "Exit codes" in told.output


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"completion", "demo", "error"}))
def test_each_command_works_on_a_store_for_programs_too_and_has_an_example(name: str) -> None:
    told = CliRunner().invoke(persistasaurus, [name, "--help"]).output

    assert "--store" in told
    assert "PERSISTASAURUS_STORE" in told
    assert "--json" in told
    assert f"Example: persistasaurus {name} " in told


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_where_the_table_says(name: str) -> None:
    assert COMMANDS[name].load(name).name == name


def test_telling_of_all_commands_loads_none_of_them() -> None:
    program = (
        "import sys; from click.testing import CliRunner\n"
        "from persistasaurus.api.cli.program import COMMANDS, persistasaurus\n"
        "assert CliRunner().invoke(persistasaurus, ['--help']).exit_code == 0\n"
        "modules = [f'persistasaurus.api.cli.commands.{entry.module}' for entry in COMMANDS.values()]\n"
        "print(*(module for module in modules if module in sys.modules))\n"
        "print(*({'litestar', 'uvicorn', 'asyncio', 'subprocess'} & sys.modules.keys()))"
    )

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert told.stdout.split() == []


def test_the_version_is_that_of_the_package() -> None:
    told = CliRunner().invoke(persistasaurus, ["--version"])

    assert version("persistasaurus") in told.output


@pytest.mark.parametrize("words", [["nonsense"], ["demo", "nonsense"], ["demo", "crash", "--nonsense"]])
def test_wrong_usage_is_exit_code_2(words: list[str]) -> None:
    assert CliRunner().invoke(persistasaurus, words).exit_code == 2


def test_a_file_that_is_no_store_is_exit_code_3_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_text("Dear Ada")

    told = CliRunner().invoke(persistasaurus, ["demo", "crash", "--store", str(path)])

    assert told.exit_code == 3
    assert "not an SQLite database" in told.output
    assert path.read_text() == "Dear Ada"


def test_a_store_that_somebody_owns_is_exit_code_3_and_the_owner_is_named(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    store = SqliteStore.open(path, now=lambda: 0)
    try:
        told = run("demo", "crash", "--store", path)
    finally:
        store.close()

    assert told.returncode == 3
    assert f"process {os.getpid()}" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("missing", ["click", "rich", "rich_click"])
def test_without_the_extra_it_tells_in_one_line_what_to_install(missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from persistasaurus.api.cli.main import main; main()"
    )

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert f"needs {missing}: pip install 'persistasaurus[cli]'" in told.stderr


def test_another_module_that_is_missing_is_no_matter_of_the_extra() -> None:
    program = (
        "import sys; sys.modules['msgspec'] = None; from persistasaurus.api.cli.main import main; main()"
    )

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert told.returncode == 1
    assert "pip install" not in told.stderr


def test_nobody_reading_the_output_is_no_traceback(temporary: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    command = [*COMMAND, "demo", "crash"]
    told = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writer)

    assert told.returncode == 141
    assert told.stderr == ""
    assert list(temporary.iterdir()) == []


def test_without_any_output_at_all_it_works_all_the_same(store: Path) -> None:
    command = " ".join([*COMMAND, "list", "--store", str(store), ">&-", "2>&-"])

    told = subprocess.run(["/bin/sh", "-c", command], check=False, timeout=60)

    assert told.returncode == 0


def test_letters_that_the_output_does_not_have_are_written_out(store: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}

    command = [*COMMAND, "events", "sum-1", "--store", str(store)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)

    assert told.returncode == 0
    assert "\\u2192 5" in told.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_lists_each_option_once(name: str) -> None:
    told = CliRunner().invoke(persistasaurus, [name, "--help"]).stdout

    rows = [line.strip("│* ").split() for line in told.splitlines() if line.startswith("│")]
    listed = [word for row in rows if row[0].startswith("--") for word in row[0].split(",")]
    assert "--help" in listed
    assert sorted(set(listed)) == sorted(listed), told


@pytest.mark.parametrize("name", ["signal", "pause", "resume", "retry"])
def test_help_says_how_to_wait_and_how_not_to(name: str) -> None:
    told = CliRunner().invoke(persistasaurus, [name, "--help"]).stdout

    assert told.count("--wait") == 1
    assert told.count("--no-wait") == 1


def test_a_misspelt_command_is_told_what_it_may_have_been(ask: Ask) -> None:
    told = ask("lits")
    assert told.exit_code == 2
    assert "Did you mean 'list'?" in " ".join(told.stderr.replace("│", " ").split())
    assert "Did you mean" not in ask("xyzzy").stderr
