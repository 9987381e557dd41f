"""The mutants are what they are said to be, and whatever is explained is still there."""

from __future__ import annotations

import ast

import pytest
from mutation.campaign import modules, source_of
from mutation.mutants import mutants, mutated
from mutation.survivors import EXPLAINED

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


@pytest.mark.parametrize("module", EXPLAINED)
def test_what_is_explained_is_a_mutant_still(module: str) -> None:
    there = {mutant.name for mutant in mutants(source_of(module).read_text(encoding="utf-8"))}

    assert EXPLAINED[module].keys() <= there
    assert all(EXPLAINED[module].values())


def test_all_that_coverage_looks_at_is_judged() -> None:
    assert {"persistasaurus.flows.machine.machine", "persistasaurus.store.sqlite.writer"} <= set(modules())
    assert all(source_of(module).exists() for module in modules())
