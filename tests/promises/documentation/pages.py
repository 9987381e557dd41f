"""The pages of the documentation, and how their blocks are run.

A page is one session, in a fresh directory. Its blocks run in order, and its Python then once more:

- `python` that begins with a comment like `# signup.py` is written to that file.
- Other `python` runs in one interpreter, which keeps its names from block to block.
- `console`: lines that begin with `$ ` are run, in one shell for each block, and what follows each is
  compared with what it prints. `...` stands for anything within a line, and on a line of its own for any
  lines. A command must exit with 0, unless it ends in a comment like `# exits with 1`, or speaks of KILL.
- `sh`: as `console`, each line a command, and nothing is shown of what it prints.
- Commands that set up a machine are not run here; they must be what `.ci/run` runs.
- `sql` is asked of a store in which a flow has run, and must find something.
- `text`, `toml`, `json`, `nginx`, `ini`, `mermaid` and directives of the site's generator (`{toctree}`) are
  for looking at. Anything else is an error.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, NamedTuple

import apsw

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
CI = ROOT / ".ci" / "run"
SHOWN_ONLY = {"ini", "json", "mermaid", "nginx", "text", "toml"}
TIMEOUT_S = 60

_FENCE = re.compile(r"^(?P<ticks>`{3,}|~{3,})\s*(?P<language>\{[\w:-]+\}|[\w+-]*)\s*$")
_DIRECTIVE = re.compile(r"^(?P<ticks>`{3,}|~{3,})\s*(?P<language>\{[\w:-]+\}).*$")
_FILE_NAME = re.compile(r"^# (?P<name>[\w-]+(?:/[\w-]+)*\.py)\b")
_EXIT = re.compile(r"# exits with (?P<code>\d+)$")
_KILLED = re.compile(r"^.*: line \d+: +\d+ (Killed|Terminated)\b.*$", re.MULTILINE)
_LATE = 124
_MARK = "\x1f"

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

# Runs blocks as they come, and answers each with a byte: whether it went well.
_INTERPRETER = """
def _serve(answers):
    import json, os, sys, traceback
    names = sys.modules["__main__"].__dict__
    for line in sys.stdin:
        path, number, text = json.loads(line)
        try:
            exec(compile("\\n" * (number - 1) + text, path, "exec", dont_inherit=True), names)
            answer = b"+"
        except BaseException:
            traceback.print_exc()
            answer = b"-"
        sys.stdout.flush()
        os.write(answers, answer)
"""


class Block(NamedTuple):
    """A fenced block, and the line of the page that its first line is on."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that it is written to."""
        name = _FILE_NAME.match(self.text) if self.language == "python" else None
        return name and name["name"]

    @property
    def is_run(self) -> bool:
        return self.language not in SHOWN_ONLY and not self.language.startswith("{")


class Command(NamedTuple):
    """A command of a `console` block, and what is shown under it."""

    text: str
    shown: str
    line: int

    @property
    def code(self) -> int:
        stated = _EXIT.search(self.text)
        return int(stated["code"]) if stated else 0


def pages() -> list[Path]:
    """Return the README, and all that the site is made of."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# ------------------------------------------------------------------------------------------- reading
def blocks_of(markdown: str) -> list[Block]:
    """Return the fenced blocks of a text."""
    found: list[Block] = []
    opened: tuple[str, str, int] | None = None
    lines: list[str] = []
    for number, line in enumerate(markdown.splitlines(), 1):
        fence = _FENCE.match(line) or _DIRECTIVE.match(line)
        if opened is not None:
            if line.rstrip() == opened[0]:
                found.append(Block(opened[1], "\n".join(lines), opened[2]))
                opened = None
            else:
                lines.append(line)
        elif fence:
            opened, lines = (fence["ticks"], fence["language"], number + 1), []
        elif line.lstrip().startswith(("```", "~~~")):
            raise ValueError(f"line {number}: cannot read the fence {line!r}")
    if opened is not None:
        raise ValueError(f"line {opened[2]}: the block does not end")
    return found


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
        return False  # it runs what the page shows, and not this very suite
    programs = {"venv", "pytest", "pip", "pipx", "uv", "ruff", "basedpyright", "sphinx-build"}
    return program in programs or words[:2] == ["git", "clone"]


def inconsistencies(command: str, ci: str) -> list[str]:
    """Report what a set-up command says that neither CI nor the project's description bears out."""
    if command.startswith("git clone") or _normal(command) in _normal(ci):
        return []
    wanted = re.fullmatch(
        r"(?:\S*/)?pip install (?:-e )?'?(?P<name>[\w-]+|\.)(?:\[(?P<extras>[\w,-]+)\])?'?", command
    )
    if wanted is None:
        return [f"`{command}` is not what .ci/run runs"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
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
def failures(page: str, blocks: list[Block], folder: Path, ci: str) -> list[str]:
    """Do what a page shows, in a directory, and report what comes out differently.

    What went well and is Python is run again, as by somebody who comes back: the stores of the first time are
    there. Consoles show what a fresh folder prints.
    """
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    first = _failures(page, blocks, folder, ci)
    if first:
        return first
    python = [block for block in blocks if block.language == "python"]
    return [f"the second time, {failure}" for failure in _failures(page, python, folder, ci)]


def _failures(page: str, blocks: list[Block], folder: Path, ci: str) -> list[str]:
    found: list[str] = []
    with Interpreter(page, folder) as interpreter:
        for block in blocks:
            if not block.is_run:
                continue
            if block.file is not None:
                (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.file).write_text(block.text + "\n", encoding="utf-8")
            elif block.language == "python":
                found += interpreter.run(block)
            elif block.language in {"console", "sh"}:
                found += _console(block, folder, ci)
            elif block.language == "sql":
                found += _sql(block, folder)
            else:
                found.append(f"line {block.line}: a block of {block.language or 'no language'}")
    return found


class Interpreter:
    """One process that runs the Python of a page, block by block. It is there once a block needs it."""

    def __init__(self, page: str, folder: Path) -> None:
        self._page = page
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._output = TemporaryFile()  # noqa: SIM115 - closed with the interpreter
        self._answers, self._answering = os.pipe()

    def run(self, block: Block) -> list[str]:
        """Run a block. Its lines are where they are in the page, so that a traceback points there."""
        process = self._process = self._process or self._begin()
        said = self._output.seek(0, os.SEEK_END)
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps([self._page, block.line, block.text]).encode() + b"\n")
            process.stdin.flush()
        ready, _, _ = select.select([self._answers], [], [], TIMEOUT_S)
        answer = os.read(self._answers, 1) if ready else b""
        if answer == b"+":
            return []
        self._output.seek(said)
        output = self._output.read().decode(errors="replace")
        why = "failed" if answer else "ended the process" if ready else "took too long"
        if not ready:
            process.kill()
        return [f"line {block.line}: {why}:\n{output}"]

    def _begin(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{_INTERPRETER}\n_serve({self._answering})"],
            cwd=self._folder,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            pass_fds=[self._answering],
            start_new_session=True,
        )
        os.close(self._answering)  # so that its end is heard
        self._answering = -1
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            _end(self._process)
        for descriptor in (self._answers, self._answering):
            with suppress(OSError):
                os.close(descriptor)
        self._output.close()


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


def _console(block: Block, folder: Path, ci: str) -> list[str]:
    found: list[str] = []
    asked = commands(block)
    for command in asked:
        if is_setup(command.text):
            found += [f"line {command.line}: {said}" for said in inconsistencies(command.text, ci)]
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
    script = "\n".join(f"{command.text}\nprintf '{_MARK}%s{_MARK}' $?" for command in asked)
    output, _ = _execute(["bash", "-c", script], folder)
    parts = output.split(_MARK)
    answers = [
        (_KILLED.sub(r"\1", text), int(code)) for text, code in zip(parts[::2], parts[1::2], strict=False)
    ]
    return answers + [("(the shell did not get there)", -1)] * (len(asked) - len(answers))


def _environment() -> dict[str, str]:
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    terminal = {"PATH": search, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}
    return kept | terminal


def _execute(command: list[str], folder: Path) -> tuple[str, int]:
    with TemporaryFile() as output:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code = _end(process)
        return _text(output), code


def _text(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process, and see to it that nothing that it has begun outlives its block."""
    try:
        return process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return _LATE
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def matches(shown: str, printed: str) -> bool:
    """Compare what is shown with what was printed; `...` stands for what cannot be foreseen."""
    pattern = ""
    for line in shown.strip("\n").split("\n"):
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += re.escape(line.rstrip()).replace(r"\.\.\.", r"[^\n]*") + r"[ \t]*\n"
    return re.fullmatch(pattern, printed.strip("\n") + "\n") is not None
