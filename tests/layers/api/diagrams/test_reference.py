"""The reference itself: it refuses what is no diagram; where it is missing, tests are skipped or fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from diagrams import reference as references

if TYPE_CHECKING:
    from pathlib import Path

    from diagrams.reference import Reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sequenceDiagram\n    this is none",
        "sequenceDiagram\n    loop x\n    A->>B: no end",
        "sequenceDiagram\n    deactivate A",
        "sequenceDiagram\n    A->>B: x; smuggled",
    ],
)
def test_mermaid_refuses_what_is_no_diagram(text: str, reference: Reference) -> None:
    assert len(reference.complaints([text])) == 1


def test_mermaid_tells_what_is_in_a_diagram(reference: Reference) -> None:
    (parsed,) = reference.parse(["sequenceDiagram\n    participant A as a#59;b\n    A->>B: x#59;y"])

    assert (parsed.error, parsed.actors, parsed.texts) == (None, ["a;b", "B"], ["x;y"])


def test_without_node_these_tests_are_skipped_but_not_in_the_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI_WHEEL", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"takes node and npm: npm"):
        references.started(tmp_path / "cache")

    monkeypatch.setenv("CI_WHEEL", "1")
    with pytest.raises(FileNotFoundError):
        references.started(tmp_path / "cache")
