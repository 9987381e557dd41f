"""Mermaid itself, as a process that parses diagrams. It is installed once, outside of what git keeps."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

HOME = Path(__file__).parent / "reference"
INSTALL_S = 110
_HIDDEN = re.compile(r"ﬂ°°(\d+)¶ß")  # how Mermaid keeps `#59;` until it draws


class Parsed:
    """What Mermaid sees in a diagram, or its complaint."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.error: str | None = answer.get("error")
        self.actors: list[str] = [_decoded(name) for name in answer.get("actors", [])]
        self.texts: list[str] = [_decoded(m[3]) for m in answer.get("messages", []) if m[3]]
        self.messages: list[tuple[Any, Any, Any]] = [tuple(m[:3]) for m in answer.get("messages", [])]


def _decoded(text: Any) -> str:
    return _HIDDEN.sub(lambda match: chr(int(match.group(1))), str(text))


class Reference:
    """The process. One batch at a time."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [_program("node"), str(folder / "parse.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def parse(self, diagrams: Sequence[str], *, inside: bool = True) -> list[Parsed]:
        """Parse diagrams, each on its own; `inside`: say what is in them."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        answers: list[Parsed] = []
        for diagram in diagrams:
            stdin.write(json.dumps([diagram, inside]) + "\n")
            stdin.flush()
            answers.append(Parsed(json.loads(stdout.readline())))
        return answers

    def complaints(self, diagrams: Sequence[str]) -> list[str]:
        """Return what is wrong with any of them."""
        parsed = zip(diagrams, self.parse(diagrams, inside=False), strict=True)
        return [f"{answer.error}\n{diagram}" for diagram, answer in parsed if answer.error is not None]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(name)
    return found


def installed(cache: Path) -> Path:
    """Return a folder with Mermaid in it, which lies in `cache` and is made when it is not there."""
    pinned = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(HOME.iterdir()))).hexdigest()[:16]
    folder = cache / pinned
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=cache))
    shutil.copytree(HOME, fresh, dirs_exist_ok=True)
    subprocess.run(
        [_program("npm"), "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"],
        cwd=fresh,
        check=True,
        capture_output=True,
        timeout=INSTALL_S,
    )
    try:
        fresh.rename(folder)
    except OSError:  # another run was faster
        shutil.rmtree(fresh)
    return folder


def started(cache: Path) -> Reference:
    """Start Mermaid; skip the tests that need it where it is not to be had, but not in the CI."""
    try:
        return Reference(installed(cache))
    except (FileNotFoundError, subprocess.SubprocessError) as error:
        if os.environ.get("CI_WHEEL"):
            raise
        pytest.skip(f"Mermaid's own parser cannot be run, which takes node and npm: {error}")
