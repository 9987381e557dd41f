"""The entry point of Persistasaurus' pytest plugin: its options, marks and fixture.

It is a package of its own, so that a run which uses none of them does not import the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from persistasaurus.actors.testing import World
    from persistasaurus.flows import Registry

__all__ = ["flows"]

MARKS = (
    "flows(always_replay=False, seed=0): how the world of the fixture `flows` is made; as for World.",
    "crash_everywhere: run the test once more for each crash that its flows could meet.",
)
_REGISTRY = pytest.StashKey["Registry"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and settings."""
    group = parser.getgroup("persistasaurus", "durable flows")
    group.addoption(
        "--crash-at",
        type=int,
        metavar="N",
        help="Of a test that is marked crash_everywhere: this crash alone.",
    )
    group.addoption(
        "--replay-histories",
        metavar="DIR",
        help="Replay the histories that `persistasaurus export` has written there with the code as it is.",
    )
    group.addoption(
        "--flows",
        action="append",
        metavar="MODULE[:NAME]",
        help="The flows for --replay-histories; may be given again.",
    )
    parser.addini(
        "persistasaurus_flows", "The flows for --replay-histories, MODULE[:NAME] a line.", "linelist"
    )
    parser.addini(
        "persistasaurus_always_replay",
        "Rebuild flows after each commit, in all tests.",
        "bool",
        default=False,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks. Collect histories; only those, when no other test was named."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    folder = config.getoption("replay_histories")
    if folder is None:
        return
    where = (config.invocation_params.dir / folder).resolve()
    if not where.exists():
        raise pytest.UsageError(f"--replay-histories: there is no {folder}")
    named = config.args if config.args_source is config.ArgsSource.ARGS else []
    config.args = [*named, str(where)]
    config.stash[_REGISTRY] = _registry(config)


def _registry(config: pytest.Config) -> Registry:
    from persistasaurus.api.cli.flow_modules import ModuleUnusable, flows_of
    from persistasaurus.flows import Registry
    from persistasaurus.flows.errors import FlowDefinitionError, NotDurableWarning

    names: list[str] = config.getoption("flows") or config.getini("persistasaurus_flows")
    if not names:
        raise pytest.UsageError(
            "--replay-histories needs the flows: --flows MODULE, or persistasaurus_flows in the configuration"
        )
    try:
        return Registry(tuple(flows_of(names)))
    except (ModuleUnusable, FlowDefinitionError, NotDurableWarning) as error:
        raise pytest.UsageError(f"--flows: {error}") from None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the histories."""
    folder = parent.config.getoption("replay_histories")
    registry = parent.config.stash.get(_REGISTRY, None)
    if registry is None or file_path.suffix != ".jsonl":
        return None
    where = (parent.config.invocation_params.dir / folder).resolve()
    if where != file_path and where not in file_path.parents:
        return None
    from persistasaurus.actors.testing.plugin import HistoryFile

    return HistoryFile.of(parent, file_path, registry)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run tests that are marked `crash_everywhere`."""
    if item.get_closest_marker("crash_everywhere") is None or item.config.getoption("setuponly", False):
        return None
    from persistasaurus.actors.testing.plugin import crash_everywhere

    crash_everywhere(item, nextitem)
    return True


@pytest.fixture
def flows(request: pytest.FixtureRequest) -> Iterator[World]:
    """Return a world for durable flows: a store in memory, virtual time, no threads."""
    from persistasaurus.actors.testing.plugin import world_of

    yield from world_of(request)
