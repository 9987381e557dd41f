"""Run the commands that pages name in their text and tables, each with little to do.

Usage: page_commands.py PAGE..., in a checkout, with the environment that the README's second command has
made first in the PATH. Commands in blocks are run by tests/promises/documentation, and those that .ci/run
has, too, are run there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

_SPAN = re.compile(r"`([^`]+)`")
_COMMAND = re.compile(r"(?:PERSISTASAURUS_\w+=\S+ )*(?:python tests/|pytest )\S.*")
_CAMPAIGNS = {"python tests/attacks/mutation/campaign.py"}
"""Run by hand, as is `coverage`: a person judges what they find, and they take longer than all tests."""
_LESS = {"python tests/benchmarks/run.py": "--quick", "pytest": "--collect-only --quiet"}
"""By the beginning of a command, what keeps it short. Of a campaign, the tests that it names are collected:
at their usual size they are part of the suite."""
_MISSED = 3
"""The benchmarks' exit code on a machine that is not quiet, or not quick."""


def commands(page: str) -> list[str]:
    """Return the commands in code spans, each once, in their order."""
    run_by_ci = Path(__file__).with_name("run").read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    spans = (span.strip() for span in _SPAN.findall(prose))
    found = [span for span in dict.fromkeys(spans) if _COMMAND.fullmatch(span) and span not in _CAMPAIGNS]
    return [command for command in found if not _is_run(command, run_by_ci)]


def _is_run(command: str, ci: str) -> bool:
    return any(line.strip("()").endswith(command.removeprefix("pytest")) for line in ci.splitlines())


def shrunk(command: str) -> str:
    """Return a command with all that it does little of."""
    return " ".join([command, *(less for begin, less in _LESS.items() if begin in command)])


def run(command: str) -> int:
    """Run a command in a shell; return its exit code."""
    return subprocess.run(["bash", "-c", shrunk(command)], check=False).returncode


def main() -> str | None:
    """Run all of them; return those that failed."""
    found: list[str] = []
    for page in sys.argv[1:]:
        named = commands(Path(page).read_text(encoding="utf-8"))
        if not named:
            return f"{page} names no command"
        found += named
    failed: list[str] = []
    for command in dict.fromkeys(found):
        begun = time.monotonic()
        code = run(command)
        print(f"-- {command}: exit code {code}, {time.monotonic() - begun:.0f} s", flush=True)
        if code and not (code == _MISSED and "tests/benchmarks/run.py" in command):
            failed.append(command)
    return "These commands failed:\n" + "\n".join(failed) if failed else None


if __name__ == "__main__":
    sys.exit(main())
