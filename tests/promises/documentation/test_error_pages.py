"""Each error has a code and a section in docs/errors.md, and each section is about an error that there is."""

from __future__ import annotations

import importlib
import pkgutil
import re
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import persistasaurus
import pytest
from architecture.sources import package_modules
from click.testing import CliRunner
from persistasaurus.actors.flows.parking import UnknownFlowError
from persistasaurus.actors.steps.task import RemoteStepError, StepLost
from persistasaurus.api.cli.commands.error import sections
from persistasaurus.api.cli.program import persistasaurus as command
from persistasaurus.flows.errors import PersistasaurusError
from persistasaurus.flows.events import ParkReason
from persistasaurus.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator


DOCUMENT = Path(persistasaurus.__file__).with_name("docs") / "errors.md"
PLACE = re.compile(r"imported from\s`([\w.]+)`")

INTERNAL = {RemoteStepError, StepLost, UnknownFlowError}
"""Users never see these: a `StepError`, a message and a parked flow are made of them."""


def errors() -> set[type[PersistasaurusError | StoreError]]:
    """Return all errors of the package."""
    for module in pkgutil.walk_packages(persistasaurus.__path__, "persistasaurus."):
        if module.name.split(".")[1] in {"actors", "api", "flows", "store"}:
            importlib.import_module(module.name)
    found = {PersistasaurusError, StoreError, *descendants(PersistasaurusError), *descendants(StoreError)}
    return {kind for kind in found if kind.__module__.startswith("persistasaurus.")} - INTERNAL


def descendants(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def only_over_http() -> set[str]:
    """Return the codes that answers over HTTP have, and no exception."""
    sources = (
        source.text for source in package_modules() if source.path.startswith(("api/http/", "api/examples/"))
    )
    return set(chain.from_iterable(re.findall(r'\bcode="([\w-]+)"', text) for text in sources))


def test_every_error_has_a_code_of_its_own() -> None:
    found = errors()

    assert [kind for kind in found if "code" not in vars(kind)] == []
    assert len({kind.code for kind in found}) == len(found)


def test_every_code_has_a_section_and_every_section_a_code() -> None:
    parked = {f"parked-{reason.replace('_', '-')}" for reason in get_args(ParkReason)}

    assert sections().keys() == {kind.code for kind in errors()} | parked | only_over_http()


def test_a_section_begins_with_the_name_of_its_class() -> None:
    known = sections()

    assert [kind for kind in errors() if not known[kind.code].startswith(f"`{kind.__name__}`")] == []


def test_an_error_is_imported_from_where_its_section_says() -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    place, missing = "", list[str]()
    by_code = {kind.code: kind for kind in errors()}
    for group in page.split("\n## ")[1:]:
        introduction, *found = re.split(r"^### ", group, flags=re.MULTILINE)
        place = PLACE.search(introduction)
        for section in found:
            kind = by_code.get(section.split("\n", 1)[0])
            own = PLACE.search(section) or place
            if kind is None or "only the command line raises" in section:
                continue
            if own is None or getattr(importlib.import_module(own[1]), kind.__name__, None) is not kind:
                missing.append(kind.__name__)
    assert missing == []


@pytest.mark.parametrize("asked", ["flow-not-found", "FlowNotFound"])
def test_the_command_shows_the_section_of_a_code(asked: str) -> None:
    told = CliRunner().invoke(command, ["error", asked])

    assert told.exit_code == 0
    assert told.output == f"flow-not-found\n\n{sections()['flow-not-found']}\n"


def test_the_command_lists_all_codes_and_refuses_others() -> None:
    assert CliRunner().invoke(command, ["error"]).output.split() == list(sections())
    told = CliRunner().invoke(command, ["error", "flow-not-fond"])
    assert told.exit_code == 2
    assert "Did you mean 'flow-not-found'?" in " ".join(told.output.replace("│", " ").split())


def test_the_command_line_says_the_code_of_an_error(tmp_path: Path) -> None:
    told = CliRunner().invoke(command, ["list", "--store", f"{tmp_path}/none.db"])

    assert told.stderr.endswith(" [store-unusable]\n")
    assert "persistasaurus error CODE" in CliRunner().invoke(command, ["list", "--help"]).output
