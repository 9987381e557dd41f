"""Pykka's own tests, run over pooled actors.

They come with Pykka's source distribution: from the file named by PYKKA_SDIST, or else downloaded.
Where neither is possible, PERSISTASAURUS_TESTS_OFFLINE=1 allows to skip.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from importlib.metadata import version
from pathlib import Path

import pytest

# Appended to their conftest, where the later definition of a fixture replaces the earlier one.
RUNTIME = """

from persistasaurus.actors.runtime.futures import PooledFuture
from persistasaurus.actors.runtime.actor import PooledActor


@pytest.fixture(scope="session", params=["pooled"])
def runtime(request: Any):
    return Runtime(
        name="pooled",
        actor_class=PooledActor,
        event_class=threading.Event,
        future_class=PooledFuture,
        sleep_func=time.sleep,
    )
"""

# The two that hold what we change on purpose: a BaseException stops all actors of the process.
# See test_a_base_exception_is_contained for what we hold instead.
CHANGED = [
    "tests/test_actor.py::test_all_actors_are_stopped_on_base_exception[pooled]",
    "tests/test_logging.py::test_base_exception_is_logged[pooled]",
]


@pytest.mark.timeout(600)
def test_pykkas_own_suite_passes_over_pooled_actors(tmp_path: Path) -> None:
    suite = _unpack(_sdist(tmp_path), tmp_path)
    with (suite / "tests" / "conftest.py").open("a") as conftest:
        conftest.write(RUNTIME)
    report = tmp_path / "report.xml"

    run = _run_pytest(suite, report, _pytest_mock(tmp_path))

    assert run.returncode == 0, run.stdout + run.stderr
    outcomes = [
        _outcome(case) for case in ET.parse(report).iter("testcase") if "[pooled" in case.get("name", "")
    ]
    assert outcomes.count("passed") == len(outcomes)
    assert len(outcomes) > 100
    assert re.search(rf"\b{len(CHANGED)} deselected\b", run.stdout)


def _outcome(case: ET.Element) -> str:
    return case[0].tag if len(case) else "passed"


def _run_pytest(suite: Path, report: Path, mock: Path | None) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "pytest_mock",
        f"--junitxml={report}",
    ]
    command += [f"--deselect={test}" for test in CHANGED]
    path = os.pathsep.join(str(p) for p in (mock, os.environ.get("PYTHONPATH")) if p)
    return subprocess.run(
        [*command, "tests"],
        cwd=suite,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _sdist(tmp_path: Path) -> Path:
    given = os.environ.get("PYKKA_SDIST")
    if given:
        return Path(given)
    wanted = f"pykka=={version('pykka')}"
    _pip(["download", wanted, "--no-deps", "--no-binary", ":all:", "--dest", str(tmp_path)], wanted)
    return next(tmp_path.glob("pykka-*.tar.gz"))


def _unpack(sdist: Path, tmp_path: Path) -> Path:
    """Unpack the tests alone, so that what they import is the installed Pykka."""
    with tarfile.open(sdist) as archive:
        tests = [m for m in archive.getmembers() if Path(m.name).parts[1:2] == ("tests",)]
        archive.extractall(tmp_path, tests, filter="data")
    (suite,) = (path.parent for path in tmp_path.glob("pykka-*/tests"))
    return suite


def _pytest_mock(tmp_path: Path) -> Path | None:
    """Their tests need pytest-mock, ours do not."""
    if importlib.util.find_spec("pytest_mock"):
        return None
    target = tmp_path / "site"
    _pip(["install", "pytest-mock>=3.14", "--no-deps", "--target", str(target)], "pytest-mock")
    return target


def _pip(arguments: list[str], wanted: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if run.returncode and os.environ.get("PERSISTASAURUS_TESTS_OFFLINE"):
        pytest.skip(f"{wanted} cannot be downloaded: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
