"""How pages are read and run: samples of blocks, good and bad."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from documentation import pages
from documentation.pages import Block, blocks_of, failures, inconsistencies, is_setup, matches

if TYPE_CHECKING:
    from pathlib import Path


def sample(text: str, folder: Path, ci: str = "") -> list[str]:
    """Do what a page shows. Its fences are written with quotes."""
    folder.mkdir(exist_ok=True)
    return failures("page.md", blocks_of(text.replace("'''", "```")), folder, ci)


def test_blocks_are_found_with_their_lines() -> None:
    text = "# A\n```python\n# no heading\nx = 1\n```\n### a\n```console\n$ ls\n```\n## B\n~~~text\n```\n~~~\n"

    assert blocks_of(text) == [
        Block("python", "# no heading\nx = 1", 3),
        Block("console", "$ ls", 8),
        Block("text", "```", 12),
    ]


@pytest.mark.parametrize(
    "text", ["```python\nx = 1\n", "```python title=x\n```\n", "- list\n  ```python\n  ```\n"]
)
def test_a_fence_that_cannot_be_read_is_reported(text: str) -> None:
    with pytest.raises(ValueError, match="line"):
        blocks_of(text)


def test_a_block_of_an_unknown_kind_is_reported(tmp_path: Path) -> None:
    said = sample(
        "'''ruby\nputs 1\n'''\n'''\nwhatever\n'''\n'''text\nfine\n'''\n'''{toctree}\nx\n'''\n", tmp_path
    )

    assert said == ["line 2: a block of ruby", "line 5: a block of no language"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT data FROM record", []),
        ("SELECT data FROM record WHERE 1 = 2", ["line 2: the query finds nothing"]),
    ],
)
def test_queries_are_asked_of_a_store(query: str, said: list[str], tmp_path: Path) -> None:
    assert sample(f"'''sql\n{query}\n'''\n", tmp_path) == said


def test_a_query_that_cannot_be_asked_is_reported(tmp_path: Path) -> None:
    [said] = sample("'''sql\nSELECT x FROM nowhere\n'''\n", tmp_path)

    assert said.startswith("line 2: ")
    assert "nowhere" in said


def test_commands_for_a_shell_need_no_prompt(tmp_path: Path) -> None:
    assert sample("'''sh\nA=1\n\ntest $A = 1\n'''\n", tmp_path) == []
    assert "exited with 1" in sample("'''sh\ntrue\nfalse\n'''\n", tmp_path / "b")[0]


def test_files_and_commands_of_a_section_share_a_directory(tmp_path: Path) -> None:
    text = """
# Demo
'''python
# demo.py
print("hello", "world")
'''
'''console
$ NAME=demo
$ python $NAME.py
hello world
$ .venv/bin/python -c "import persistasaurus"
$ ls *.py
demo.py
'''
"""
    assert sample(text, tmp_path) == []


def test_blocks_of_python_share_their_names_and_run_in_their_place(tmp_path: Path) -> None:
    text = """
# A
'''python
x = 1
open("seen", "w").close()
'''
'''console
$ ls seen
seen
$ echo y = 2 > other.py
'''
## B
'''python
from other import y
assert (x, y) == (1, 2)
'''
"""
    assert sample(text, tmp_path) == []


def test_a_block_that_fails_is_reported_with_its_line_of_the_page_and_the_next_one_is_run(
    tmp_path: Path,
) -> None:
    text = "Text\n\n'''python\nx = 1\nassert x == 2\n'''\n'''python\nassert x == 1\n'''\n"

    [said] = sample(text, tmp_path)

    assert said.startswith("line 4: failed")
    assert 'page.md", line 5' in said


def test_python_that_cannot_be_run_again_in_the_same_folder_is_reported(tmp_path: Path) -> None:
    [said] = sample("'''python\nimport os\nos.mkdir('made')\n'''\n", tmp_path)

    assert said.startswith("the second time, line 2: failed")


def test_a_block_that_ends_the_interpreter_is_reported(tmp_path: Path) -> None:
    [said] = sample("'''python\nimport os; print(4711, flush=True); os._exit(0)\n'''\n", tmp_path)

    assert said == "line 2: ended the process:\n4711\n"


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("$ echo one\ntwo", "`echo one` printed:\none\n\nand not:\ntwo"),
        ("$ exit_code_of_no_program", "exited with 127"),
        ("$ false", "exited with 1"),
        ("$ true # exits with 1", "exited with 0"),
        ("$ exit 3\n$ echo on", "did not get there"),
        ("$ python missing.py", "exited with 2"),
        ("$ timeout -s KILL 0.2 sh -c 'echo b; sleep 9'\na", "printed:\nb"),
    ],
)
def test_a_command_that_does_something_else_is_reported(block: str, said: str, tmp_path: Path) -> None:
    found = sample(f"'''console\n{block}\n'''\n", tmp_path)

    assert said in found[0]


@pytest.mark.parametrize(
    "block",
    [
        "$ echo one; echo two\none\n...",
        "$ echo id-4711\nid-...",
        "$ false # exits with 1",
        "$ python -c '\n> print(1)'\n1",
        "$ python -c 'import os; os.kill(os.getpid(), 9)'\nKilled",
        "$ timeout -s KILL 0.2 sleep 9",
        "$ timeout -s KILL 0.2 sh -c 'echo a; sleep 9'\na",
        "$ sleep 9 & kill $!\n$ export A=1\n$ echo $A\n1",
    ],
)
def test_a_command_that_does_what_is_shown_is_fine(block: str, tmp_path: Path) -> None:
    assert sample(f"'''console\n{block}\n'''\n", tmp_path) == []


def test_what_takes_too_long_is_reported_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "TIMEOUT_S", 0.2)

    [console] = sample("'''console\n$ sleep 60\n'''\n", tmp_path / "a")
    [python] = sample("'''python\nwhile True: pass\n'''\n", tmp_path / "b")

    assert "did not get there" in console
    assert "took too long" in python


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\n", "a\n", True),
        ("a\n", "a \n\n", True),
        ("a\n", "b\n", False),
        ("a\n", "a\nb\n", False),
        ("a...\n", "abc\n", True),
        ("a...c\n", "a\nc\n", False),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nd\n", True),
        ("a\n...\nd\n", "a\nb\n", False),
        ("a.b\n", "axb\n", False),
    ],
)
def test_an_ellipsis_stands_for_anything_and_nothing_else_does(shown: str, printed: str, same: bool) -> None:  # noqa: FBT001
    assert matches(shown, printed) is same


@pytest.mark.parametrize(
    ("command", "setup"),
    [
        ("python -m venv .venv && .venv/bin/pip install '.[dev]' && .venv/bin/pytest", True),
        ("python3 -m venv .venv", True),
        ("pip install persistasaurus", True),
        ("git clone https://example.org/x.git", True),
        (".venv/bin/ruff check", True),
        ("python -m pip install x", True),
        ("python signup.py", False),
        (".venv/bin/python signup.py", False),
        ("persistasaurus demo", False),
        ("pytest -q test_signup.py", False),
    ],
)
def test_commands_for_a_new_machine_are_recognised(command: str, setup: bool) -> None:  # noqa: FBT001
    assert is_setup(command) is setup


def test_commands_for_a_new_machine_must_be_what_ci_runs(tmp_path: Path) -> None:
    text = "'''console\n$ python -m venv .venv && .venv/bin/pytest\n'''\n"

    assert sample(text, tmp_path / "a", ci="python -m venv .venv && \\\n  .venv/bin/pytest") == []
    assert "is not what .ci/run runs" in sample(text, tmp_path / "b", ci="pytest")[0]


@pytest.mark.parametrize(
    "command", ["pip install 'persistasaurus[cli]'", "pip install persistasaurus", "pip install -e '.[dev]'"]
)
def test_installing_the_project_is_fine(command: str) -> None:
    assert inconsistencies(command, "") == []


@pytest.mark.parametrize(
    "command", ["pip install 'persistasaurus[http3]'", "pip install persistosaurus", "pip install -r x"]
)
def test_installing_something_that_does_not_exist_is_reported(command: str) -> None:
    assert inconsistencies(command, "") != []
