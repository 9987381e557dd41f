"""What the pytest plugin does for a test: worlds, crashes everywhere, and golden histories.

The plugin's entry point is a module of its own, so that a run without flows imports none of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ...store.errors import NotAnExport
from ...store.tools.transcript_reader import read_export
from ..flows.replay import Diverges, check_history, recorded
from ..persistence.persistent_actor import ACTOR_STATUS
from .crash_points import CommitLog
from .world import World

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from ...flows import Registry
    from ...store.contract import Restore
    from .crash_points import CrashPoint
    from .mortal import Death
    from .world import EndState

__all__ = ["HistoryFile", "crash_everywhere", "world_of"]

REPLAY_INI = "persistasaurus_always_replay"


class FlowTestRun:
    """One run of a test, and its outcome."""

    def __init__(self, deaths: tuple[Death, ...] = ()) -> None:
        self.deaths = deaths
        self.log = CommitLog()
        self.endings: dict[str, EndState] | None = None
        self.commits = 0


_RUN = pytest.StashKey[FlowTestRun]()


def world_of(request: pytest.FixtureRequest) -> Generator[World]:
    """Make the world of a test, with the settings of its mark `flows`."""
    mark = request.node.get_closest_marker("flows")
    settings: dict[str, Any] = {"always_replay": bool(request.config.getini(REPLAY_INI))}
    settings |= {} if mark is None else mark.kwargs
    run = request.node.stash.get(_RUN, None)
    with World(deaths=() if run is None else run.deaths, **settings) as world:
        if run is not None:
            world.simulation.on_commit.append(run.log.note)
        yield world
        if run is not None:
            run.endings = world.endings()
            run.commits = world.simulation.commits


# ------------------------------------------------------------------------------- crash_everywhere
def crash_everywhere(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Run a test, then once more for each crash point of that run; report it as one test."""
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = _everywhere(item)
    reports += _torn_down(item, nextitem)
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _everywhere(item: pytest.Item) -> list[pytest.TestReport]:
    whole = FlowTestRun()
    reports = _reports_of(item, whole)
    if not _passed(reports):
        return reports
    if whole.endings is None:
        return _failed(reports, "crash_everywhere needs a test that takes the fixture `flows`")
    seconds = 0.0
    points = whole.log.points()
    for point in _chosen(item, points):
        again = FlowTestRun((point.death,))
        attempt = _reports_of(item, again)
        seconds += sum(report.duration for report in attempt)
        problem = "" if not _passed(attempt) else _difference(whole, again)
        if problem or not _passed(attempt):
            attempt = _failed(attempt, problem) if problem else attempt
            return _explained(attempt, item, point, len(points))
    for report in reports:
        report.duration += seconds if report.when == "call" else 0.0
    return reports


def _chosen(item: pytest.Item, points: list[CrashPoint]) -> list[CrashPoint]:
    number: int | None = item.config.getoption("crash_at")
    if number is None:
        return points
    if not 1 <= number <= len(points):
        raise pytest.UsageError(f"--crash-at: {item.nodeid} has crashes 1 to {len(points)}, and no {number}")
    return [points[number - 1]]


def _reports_of(item: pytest.Item, run: FlowTestRun) -> list[pytest.TestReport]:
    """Run a test with fresh fixtures of its own; those that it shares with others stay."""
    from _pytest.runner import runtestprotocol  # noqa: PLC0415 - there is no public name for it

    item.stash[_RUN] = run
    item._report_sections.clear()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - of the run before
    if isinstance(item.parent, pytest.Class):
        for name in ("_instance", "_obj"):
            vars(item).pop(name, None)
    try:
        return runtestprotocol(item, log=False, nextitem=_Again(item))  # pyright: ignore[reportArgumentType]
    finally:
        del item.stash[_RUN]


class _Again:
    """The same test as the next one, so that shared fixtures are not torn down in between."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def listchain(self) -> list[Any]:
        return [*self._item.listchain()[:-1], self]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._item, name)


def _torn_down(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Tear down what the next test does not need."""
    session = item.session
    following = None if session.shouldfail or session.shouldstop else nextitem
    setup: Any = session._setupstate  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    ending = (pytest.exit.Exception, KeyboardInterrupt)
    call = pytest.CallInfo[None].from_call(
        lambda: setup.teardown_exact(following), "teardown", reraise=ending
    )
    if call.excinfo is None:
        return []
    return [item.ihook.pytest_runtest_makereport(item=item, call=call)]


def _passed(reports: list[pytest.TestReport]) -> bool:
    return all(report.passed for report in reports)


def _difference(whole: FlowTestRun, again: FlowTestRun) -> str:
    """Describe how a run has ended differently from the one without a crash."""
    if again.commits < again.deaths[0].commit:
        return (
            "this crash did not come, since the test has not written as much as without one: it does not do"
            " the same each time (the clock, chance, or what other tests have left?)"
        )
    before, after = whole.endings or {}, again.endings or {}
    lines = [
        f"flow {flow_id!r} ended otherwise:\n  without a crash: {_ended(before.get(flow_id))}\n"
        f"  with this one:   {_ended(after.get(flow_id))}"
        for flow_id in sorted(before.keys() | after.keys())
        if before.get(flow_id) != after.get(flow_id)
    ]
    return "\n".join(lines)


def _ended(ending: EndState | None) -> str:
    return "it does not exist" if ending is None else f"{ending.status} {ending.outcome}".rstrip()


def _failed(reports: list[pytest.TestReport], why: str) -> list[pytest.TestReport]:
    call = next(report for report in reports if report.when == "call")
    call.outcome = "failed"
    call.longrepr = why
    return reports


def _explained(
    reports: list[pytest.TestReport], item: pytest.Item, point: CrashPoint, total: int
) -> list[pytest.TestReport]:
    """Add to a failure which crash caused it, and how to run that one alone."""
    text = (
        f"Without a crash the test passes. At crash {point.number} of {total} {point.describe()}\n"
        f"This one alone: pytest '{item.nodeid}' --crash-at {point.number}"
    )
    for report in reports:
        if report.failed:
            add = getattr(report.longrepr, "addsection", None)
            if add is None:
                report.longrepr = f"{report.longreprtext}\n\n{text}"
            else:
                add("crash_everywhere", text)
    return reports


# ----------------------------------------------------------------------------- golden histories
class HistoryFile(pytest.File):
    """A file that `persistasaurus export` has written, with one test for each flow."""

    registry: Registry

    @classmethod
    def of(cls, parent: pytest.Collector, path: Path, registry: Registry) -> HistoryFile:
        """Make one, for the current code."""
        file: HistoryFile = cls.from_parent(parent, path=path)  # pyright: ignore[reportUnknownMemberType]
        file.registry = registry
        return file

    def collect(self) -> Iterator[pytest.Item]:
        try:
            flows = read_export(self.path)
        except NotAnExport as error:
            raise self.CollectError(f"{self.path}: {error}") from error
        for flow in flows:
            if flow.header.status != ACTOR_STATUS:
                item: HistoryItem = HistoryItem.from_parent(self, name=flow.stream)  # pyright: ignore[reportUnknownMemberType]
                item.flow, item.registry = flow, self.registry
                yield item


class HistoryDivergesError(Exception):
    """The code does not do what a golden history says."""


class HistoryItem(pytest.Item):
    """A history to be replayed with the current code."""

    flow: Restore
    registry: Registry

    def runtest(self) -> None:
        definition = self.registry.find(self.flow.type)
        if definition is None:
            known = ", ".join(repr(known.name) for known in self.registry)
            raise HistoryDivergesError(
                f"no flow named {self.flow.type!r} is among those of --flows, which are {known}: name its"
                f" module as well, or give a renamed flow its old name, @flow(name={self.flow.type!r})"
            )
        verdict = check_history(definition, self.flow.stream, recorded(self.flow.records))
        if isinstance(verdict, Diverges):
            raise HistoryDivergesError(f"{verdict.message}\nWhat to do: {verdict.todo}.")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show how the code diverges, without our traceback."""
        if isinstance(excinfo.value, HistoryDivergesError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"history of {self.name}"
