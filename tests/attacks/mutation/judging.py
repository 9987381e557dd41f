"""Has tests judge mutants, each in a process of its own, which is forked so that it begins at once."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple

# What tests need and mutants do not change is there already when a process is forked. Not what pytest
# wants to rewrite itself, as it does with plugins.
import apsw  # noqa: F401
import msgspec  # noqa: F401
import pykka  # noqa: F401
import pytest
from mutation.mutants import Finder

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_POLL_S = 0.002
_NO_TESTS = 5
_ALONE = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"
_PLUGINS = ("xdist.plugin", "pytest_timeout", "_hypothesis_pytestplugin", "persistasaurus_pytest")
# Those that the tests need; all that are installed take longer to import than most tests to run.
_OPTIONS = (
    "-q",
    "-p",
    "no:cacheprovider",
    "--timeout=8",
    *(word for name in _PLUGINS for word in ("-p", name)),
)


class Case(NamedTuple):
    """A mutant, and the tests that are to notice it."""

    module: str
    path: str
    number: int | None
    """None: the module as it is, which has to survive."""
    rounds: Sequence[Sequence[str]]
    limit_s: float


def survives(case: Case) -> bool:
    """Run the tests on a mutant, round by round; True: none of them has noticed.

    One that hangs, or takes the process with it, has been noticed.
    """
    return all(_survives(case, tests) for tests in case.rounds)


def _survives(case: Case, tests: Sequence[str]) -> bool:
    with alone() as place:
        child = os.fork()
        if child == 0:
            _run(case, tests, place)
        return outcome(child, case.limit_s) == 0


@contextmanager
def alone() -> Generator[str]:
    """Make a folder for the tests of one process."""
    place = tempfile.mkdtemp(prefix="mutant-")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _run(case: Case, tests: Sequence[str], place: str) -> None:
    """Run the tests in this process, and end it with what came of it."""
    code = 1
    try:
        os.setpgid(0, 0)
        fall_silent()
        assert "persistasaurus" not in sys.modules, "it is too late for a mutant"
        sys.meta_path.insert(0, Finder(case.module, case.path, case.number))
        code = run_pytest(["-x", f"--basetemp={place}/t", *tests])
    finally:
        os._exit(0 if code == _NO_TESTS else code)


class _Again:
    """A plugin of pytest that lets the runs that tests make themselves have all plugins again."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        del os.environ[_ALONE]


def run_pytest(arguments: Sequence[str], *plugins: object) -> int:
    """Run pytest with no plugins but those that the tests need; return its exit code."""
    os.environ[_ALONE] = "1"
    return int(pytest.main([*_OPTIONS, *arguments], plugins=[_Again(), *plugins]))


def fall_silent() -> None:
    """Have this process print nothing."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


def outcome(child: int, limit_s: float) -> int:
    """Wait for a fork; return its exit code, another one than 0 if it had to be killed."""
    deadline = monotonic() + limit_s
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sleep(_POLL_S)
