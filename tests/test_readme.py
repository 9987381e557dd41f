"""The README does what it shows: every block of it is run, or checked against what CI runs.

How blocks are read, within a section (which begins with a heading of level 1 or 2, and has a fresh
directory of its own):

- `python` that begins with a comment like `# signup.py` is written to that file.
- Other `python` of a section is one program, which is run where its last block stands.
- `console`: lines that begin with `$ ` are run, in one shell, and what follows each is compared with
  what it prints. `...` stands for anything within a line, and on a line of its own for any lines.
  A command must exit with 0, unless it ends in a comment like `# exits with 1`, or speaks of KILL.
- `sh`: as `console`, each line a command, and nothing is shown of what it prints.
- Commands that set up a machine are not run here; they must be what `.ci/run` runs.
- `sql` is asked of a store in which a flow has run, and must find something.
- `text`, `toml` and `mermaid` are for looking at. Anything else is an error.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import apsw
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CI = ROOT / ".ci" / "run"

FENCE = re.compile(r"^(?P<ticks>`{3,}|~{3,})\s*(?P<language>[\w+-]*)\s*$")
HEADING = re.compile(r"^#{1,2} +(?P<title>.+?) *#*$")
FILE_NAME = re.compile(r"^# (?P<name>[\w-]+(?:/[\w-]+)*\.py)\b")
EXIT = re.compile(r"# exits with (?P<code>\d+)$")
KILLED = re.compile(r"^.*: line \d+: +\d+ (Killed|Terminated)\b.*$", re.MULTILINE)
SHOWN_ONLY = {"mermaid", "text", "toml"}
TIMEOUT_S = 60
LATE = 124
MARK = "\x1f"

# A store for `sql` to ask.
_STORE = """
from persistasaurus import Flow, FlowSystem, flow, step

class HelloFlow(Flow):
    @flow
    async def hello(self) -> str:
        return await self.say()

    @step
    def say(self) -> str:
        return "hello"

with FlowSystem("store.db", flows=[HelloFlow]) as system:
    system.run(HelloFlow.hello)
"""


class Block(NamedTuple):
    """A fenced block, and the line of the README that its first line is on."""

    language: str
    text: str
    line: int


class Section(NamedTuple):
    """What is under one heading, subsections included."""

    title: str
    blocks: list[Block]


class Command(NamedTuple):
    """A command of a `console` block, and what is shown under it."""

    text: str
    shown: str
    line: int

    @property
    def code(self) -> int:
        stated = EXIT.search(self.text)
        return int(stated["code"]) if stated else 0


# ------------------------------------------------------------------------------------------- reading
def sections(markdown: str) -> list[Section]:
    """Split a text into sections, and those into blocks."""
    found = [Section("", [])]
    opened: tuple[str, str, int] | None = None
    lines: list[str] = []
    for number, line in enumerate(markdown.splitlines(), 1):
        fence = FENCE.match(line)
        if opened is not None:
            if line.rstrip() == opened[0]:
                found[-1].blocks.append(Block(opened[1], "\n".join(lines), opened[2]))
                opened = None
            else:
                lines.append(line)
        elif fence:
            opened, lines = (fence["ticks"], fence["language"], number + 1), []
        elif line.lstrip().startswith(("```", "~~~")):
            raise ValueError(f"line {number}: cannot read the fence {line!r}")
        elif heading := HEADING.match(line):
            found.append(Section(heading["title"], []))
    if opened is not None:
        raise ValueError(f"line {opened[2]}: the block does not end")
    return [section for section in found if section.blocks]


def commands(block: Block) -> list[Command]:
    """Split a `console` block into commands and what they are to print."""
    found: list[Command] = []
    if block.language == "sh":
        lines = enumerate(block.text.splitlines(), block.line)
        return [Command(line, "", number) for number, line in lines if line.strip()]
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            found.append(Command(line[2:], "", number))
        elif not found:
            raise ValueError(f"line {number}: a console block begins with a command, `$ ...`")
        elif line.startswith("> ") and not found[-1].shown:
            found[-1] = found[-1]._replace(text=f"{found[-1].text}\n{line[2:]}")
        else:
            found[-1] = found[-1]._replace(shown=f"{found[-1].shown}{line}\n")
    return found


def unknown(section: Section) -> list[str]:
    """Report blocks that nobody here knows how to run."""
    known = {"python", "console", "sh", "sql"} | SHOWN_ONLY
    return [
        f"line {block.line}: a block of {block.language or 'no language'}"
        for block in section.blocks
        if block.language not in known
    ]


# ------------------------------------------------------------------------- commands for a new machine
def is_setup(command: str) -> bool:
    """Tell a command that sets up a machine, or that would run this very suite."""
    return any(_is_setup(part.strip()) for part in command.split("&&"))


def _is_setup(command: str) -> bool:
    words = shlex.split(command, comments=True)
    program = Path(words[0]).name if words else ""
    if program in {"python", "python3"} and words[1:2] == ["-m"]:
        program, words = words[2], words[2:]
    if program == "pytest" and any(word.endswith(".py") for word in words):
        return False  # it runs what the section shows, and not this very suite
    return program in {"venv", "pytest", "pip", "pipx", "uv", "ruff", "basedpyright"} or words[:2] == [
        "git",
        "clone",
    ]


def inconsistencies(command: str, ci: str, project: dict[str, str | dict[str, list[str]]]) -> list[str]:
    """Report what a set-up command says that neither CI nor the project's description bears out."""
    if command.startswith("git clone") or _normal(command) in _normal(ci):
        return []
    wanted = re.fullmatch(
        r"(?:\S*/)?pip install (?:-e )?'?(?P<name>[\w-]+|\.)(?:\[(?P<extras>[\w,-]+)\])?'?", command
    )
    if wanted is None:
        return [f"`{command}` is not what .ci/run runs"]
    if wanted["name"] not in {project["name"], "."}:
        return [f"`{command}` installs something else"]
    extras = project["optional-dependencies"]
    return [
        f"`{command}`: no extra {name}"
        for name in (wanted["extras"] or "").split(",")
        if name not in [*extras, ""]
    ]


def _normal(text: str) -> str:
    return " ".join(text.replace("\\\n", " ").split())


# ------------------------------------------------------------------------------------------- running
def failures(section: Section, folder: Path, ci: str) -> list[str]:
    """Do what a section shows, in its directory, and report what comes out differently."""
    folder.mkdir(exist_ok=True)
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    program = [block for block in section.blocks if _is_program(block)]
    found = unknown(section)
    for block in section.blocks:
        if block.language in {"console", "sh"}:
            found += _console(block, folder, ci)
        elif block.language == "sql":
            found += _sql(block, folder)
        elif block.language == "python":
            name = FILE_NAME.match(block.text)
            if name:
                (folder / name["name"]).parent.mkdir(parents=True, exist_ok=True)
                (folder / name["name"]).write_text(block.text + "\n", encoding="utf-8")
            elif block is program[-1]:
                found += _run_program(program, folder)
    return found


def _sql(block: Block, folder: Path) -> list[str]:
    output, code = _execute([sys.executable, "-c", _STORE], folder)
    if code:
        return [f"line {block.line}: no store to ask:\n{output}"]
    store = apsw.Connection(str(folder / "store.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows = store.execute(block.text).fetchall()
    except apsw.Error as error:
        return [f"line {block.line}: {error}"]
    finally:
        store.close()
    return [] if rows else [f"line {block.line}: the query finds nothing"]


def _is_program(block: Block) -> bool:
    return block.language == "python" and FILE_NAME.match(block.text) is None


def _run_program(blocks: list[Block], folder: Path) -> list[str]:
    source = ""
    for block in blocks:
        # Lines are where they are in the README, so that a traceback points there.
        source += "\n" * (block.line - 1 - source.count("\n")) + block.text + "\n"
    (folder / "README.md.py").write_text(source, encoding="utf-8")
    output, code = _execute([sys.executable, "README.md.py"], folder)
    return [f"line {blocks[0].line}: exited with {code}:\n{output}"] if code else []


def _console(block: Block, folder: Path, ci: str) -> list[str]:
    found: list[str] = []
    asked = commands(block)
    for command in asked:
        if is_setup(command.text):
            found += [
                f"line {command.line}: {said}" for said in inconsistencies(command.text, ci, _project())
            ]
    to_run = [command for command in asked if not is_setup(command.text)]
    for command, (output, code) in zip(to_run, _in_one_shell(to_run, folder), strict=True):
        allowed = {command.code} | ({137} if "KILL" in command.text.upper() else set())
        # Whether the shell says it depends on who was killed.
        printed = output if "Killed" in command.shown else output.removesuffix("Killed\n")
        if code not in allowed:
            found.append(f"line {command.line}: `{command.text}` exited with {code}:\n{printed}")
        if command.shown.strip() and not matches(command.shown, printed):
            found.append(
                f"line {command.line}: `{command.text}` printed:\n{printed}\nand not:\n{command.shown}"
            )
    return found


def _in_one_shell(asked: list[Command], folder: Path) -> list[tuple[str, int]]:
    """Run commands in one shell, as somebody at a terminal does; tell what each printed, and its code."""
    if not asked:
        return []
    script = "\n".join(f"{command.text}\nprintf '{MARK}%s{MARK}' $?" for command in asked)
    output, _ = _execute(["bash", "-c", script], folder)
    parts = output.split(MARK)
    answers = [
        (KILLED.sub(r"\1", text), int(code)) for text, code in zip(parts[::2], parts[1::2], strict=False)
    ]
    return answers + [("(the shell did not get there)", -1)] * (len(asked) - len(answers))


def _execute(command: list[str], folder: Path) -> tuple[str, int]:
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    terminal = {"PATH": search, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}
    with TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=kept | terminal,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = LATE
        finally:
            # What runs in the background does not outlive its block.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return output.read().decode(errors="replace"), code


def matches(shown: str, printed: str) -> bool:
    """Compare what is shown with what was printed; `...` stands for what cannot be foreseen."""
    pattern = ""
    for line in shown.strip("\n").split("\n"):
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += re.escape(line.rstrip()).replace(r"\.\.\.", r"[^\n]*") + r"[ \t]*\n"
    return re.fullmatch(pattern, printed.strip("\n") + "\n") is not None


def _project() -> dict[str, str | dict[str, list[str]]]:
    project: dict[str, str | dict[str, list[str]]] = tomllib.loads((ROOT / "pyproject.toml").read_text())[
        "project"
    ]
    return project


# ------------------------------------------------------------------------------------ the README itself
SECTIONS = sections(README.read_text(encoding="utf-8")) if README.is_file() else []


def test_there_is_a_readme_with_something_to_run() -> None:
    assert [section.title for section in SECTIONS if {b.language for b in section.blocks} - SHOWN_ONLY]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: re.sub(r"\W+", "-", section.title.lower()))
def test_the_readme_does_what_it_shows(section: Section, tmp_path: Path) -> None:
    found = failures(section, tmp_path, CI.read_text(encoding="utf-8"))

    assert not found, "\n".join(found)


def test_the_readme_tells_how_to_run_the_tests_as_ci_does() -> None:
    consoles = [b for section in SECTIONS for b in section.blocks if b.language in {"console", "sh"}]
    asked = [command.text for block in consoles for command in commands(block)]

    assert any("pytest" in text for text in asked if is_setup(text))


def test_ci_can_be_run() -> None:
    assert os.access(CI, os.X_OK)


# ---------------------------------------------------------------------------------- samples, good and bad
def sample(text: str, folder: Path, ci: str = "") -> list[str]:
    """Do what one section of a README shows. Its fences are written with quotes."""
    [section] = sections(text.replace("'''", "```"))
    return failures(section, folder, ci)


def test_blocks_and_sections_are_found_with_their_lines() -> None:
    text = "# A\n```python\n# no heading\nx = 1\n```\n### a\n```console\n$ ls\n```\n## B\n~~~text\n```\n~~~\n"

    assert sections(text) == [
        Section("A", [Block("python", "# no heading\nx = 1", 3), Block("console", "$ ls", 8)]),
        Section("B", [Block("text", "```", 12)]),
    ]


@pytest.mark.parametrize(
    "text", ["```python\nx = 1\n", "```python title=x\n```\n", "- list\n  ```python\n  ```\n"]
)
def test_a_fence_that_cannot_be_read_is_reported(text: str) -> None:
    with pytest.raises(ValueError, match="line"):
        sections(text)


def test_a_block_of_an_unknown_kind_is_reported(tmp_path: Path) -> None:
    said = sample("'''ruby\nputs 1\n'''\n'''\nwhatever\n'''\n'''text\nfine\n'''\n", tmp_path)

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


def test_the_program_of_a_section_is_run_in_one_piece(tmp_path: Path) -> None:
    good = "'''python\nx = 1\n'''\nand then\n'''python\nassert x == 1\nopen('seen', 'w').close()\n'''\n"

    assert sample(good, tmp_path) == []
    assert (tmp_path / "seen").is_file()


def test_a_program_that_fails_is_reported_with_its_line_of_the_readme(tmp_path: Path) -> None:
    [said] = sample("Text\n\n'''python\nx = 1\nassert x == 2\n'''\n", tmp_path)

    assert said.startswith("line 4: exited with 1")
    assert 'README.md.py", line 5' in said


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
    monkeypatch.setattr(sys.modules[__name__], "TIMEOUT_S", 0.2)

    [said] = sample("'''console\n$ sleep 60\n'''\n", tmp_path)

    assert "did not get there" in said


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
    assert inconsistencies(command, "", _project()) == []


@pytest.mark.parametrize(
    "command", ["pip install 'persistasaurus[http3]'", "pip install persistosaurus", "pip install -r x"]
)
def test_installing_something_that_does_not_exist_is_reported(command: str) -> None:
    assert inconsistencies(command, "", _project()) != []
