"""The mutants are what they are said to be."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mutation import campaign
from mutation.campaign import modules, source_of
from mutation.mutants import mutants, mutated

if TYPE_CHECKING:
    import pytest

SOURCE = '''
def cut(size: int = 3) -> bool:
    """Tell."""
    logger.info("cut %s", size + 1)
    if size < 4 and ready:
        tell(size)
    return True
'''


def test_a_module_has_a_mutant_for_each_place_that_could_be_wrong() -> None:
    found = [f"{mutant.line} {mutant.what}" for mutant in mutants(SOURCE)]

    assert sorted(found) == [
        "2 3 becomes 4",
        "5 4 becomes 5",
        "5 And becomes Or",
        "5 Lt becomes LtE",
        "5 the condition is turned round",
        "6 the call is left out",
        "7 True becomes False",
    ]


def test_each_mutant_differs_from_the_original_and_from_all_others() -> None:
    texts = {ast.unparse(mutated(SOURCE, mutant)) for mutant in mutants(SOURCE)}

    assert len(texts) == len(mutants(SOURCE))
    assert ast.unparse(ast.parse(SOURCE)) not in texts


def test_an_explanation_without_its_mutant_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "persistasaurus.flows.machine.in_doubt"
    monkeypatch.setitem(campaign.EXPLAINED, name, {"gone = 1  # 1 becomes 2": "a reason"})

    assert campaign.stale([name]) == [f"{name} gone = 1  # 1 becomes 2"]


def test_all_that_coverage_looks_at_is_judged() -> None:
    assert {"persistasaurus.flows.machine.machine", "persistasaurus.store.sqlite.writer"} <= set(modules())
    assert all(source_of(module).exists() for module in modules())
