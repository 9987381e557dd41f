"""Which tests reach which lines, and how long they take: a mutant needs to meet no others.

python tests/attacks/mutation/reach.py FILE TESTS...
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import coverage
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

_IMPORTED = ""
"""The context of what no test runs, as modules do when they are imported."""


class Reach(NamedTuple):
    """What is known of a run of the tests."""

    seconds: dict[str, float]
    """By test, those that have passed alone."""
    lines: dict[str, dict[str, list[str]]]
    """By file, and line, the tests that run it."""

    def of(self, path: str, line: int) -> list[str]:
        """Return the tests that run a line, quickest first; if none does, those that run any of the file."""
        lines = self.lines.get(path, {})
        found = set(lines.get(str(line), ())) or {test for tests in lines.values() for test in tests}
        return sorted(found & self.seconds.keys(), key=lambda test: (self.seconds[test], test))


class Tracer:
    """A plugin of pytest that has coverage tell tests apart."""

    def __init__(self) -> None:
        self.coverage = coverage.Coverage(data_file=None, branch=False)
        self.seconds: dict[str, float] = defaultdict(float)
        self.unfit: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self.coverage.switch_context(item.nodeid)
        result = yield
        self.coverage.switch_context(_IMPORTED)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if not report.passed:
            self.unfit.add(report.nodeid)

    def reach(self) -> Reach:
        """Return what has been seen."""
        data = self.coverage.get_data()
        seconds = {test: took for test, took in self.seconds.items() if test not in self.unfit}
        lines = {
            path: {
                str(line): [test for test in tests if test != _IMPORTED]
                for line, tests in data.contexts_by_lineno(path).items()
            }
            for path in data.measured_files()
        }
        return Reach(seconds, lines)


def main(target: str, *tests: str) -> int:
    """Run the tests, and write what they reach to a file."""
    tracer = Tracer()
    tracer.coverage.start()
    code = pytest.main(["-q", "-p", "no:cacheprovider", *tests], plugins=[tracer])
    tracer.coverage.stop()
    write(Path(target), tracer.reach())
    return int(code)


def write(path: Path, reach: Reach) -> None:
    """Write what is known to a file."""
    path.write_text(json.dumps(reach), encoding="utf-8")


def read(path: Path) -> Reach:
    """Read what was written."""
    return Reach(*json.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
