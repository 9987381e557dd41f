"""Has tests judge mutants, each in a process of its own, which is forked so that it begins at once."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
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
    from collections.abc import Sequence

_POLL_S = 0.01
_LIMIT_S = 60.0
_NO_TESTS = 5
_PLUGINS = ("xdist.plugin", "pytest_timeout", "_hypothesis_pytestplugin", "persistasaurus_pytest")
"""Those that the tests need; all that are installed take longer to import than most tests to run."""


class Case(NamedTuple):
    """A mutant, and the tests that are to notice it."""

    module: str
    path: str
    number: int | None
    """None: the module as it is, which has to survive."""
    rounds: Sequence[Sequence[str]]


def survives(case: Case) -> bool:
    """Run the tests on a mutant, round by round; True: none of them has noticed.

    One that hangs, or takes the process with it, has been noticed.
    """
    return all(_survives(case, tests) for tests in case.rounds)


def _survives(case: Case, tests: Sequence[str]) -> bool:
    place = tempfile.mkdtemp(prefix="mutant-")
    child = os.fork()
    if child == 0:
        _run(case, tests, place)
    try:
        return _outcome(child) == 0
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _run(case: Case, tests: Sequence[str], place: str) -> None:
    """Run the tests in this process, and end it with what came of it."""
    os.setpgid(0, 0)
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - as above
        for descriptor in (0, 1, 2):
            os.dup2(nothing.fileno(), descriptor)
    code = 1
    try:
        assert "persistasaurus" not in sys.modules, "it is too late for a mutant"
        sys.meta_path.insert(0, Finder(case.module, case.path, case.number))
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        plugins = [word for name in _PLUGINS for word in ("-p", name)]
        options = ["-x", "-q", "-p", "no:cacheprovider", *plugins, f"--basetemp={place}/t"]
        code = int(pytest.main([*options, *tests]))
    finally:
        os._exit(0 if code == _NO_TESTS else code)


def _outcome(child: int) -> int:
    deadline = monotonic() + _LIMIT_S
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        sleep(_POLL_S)
