"""The README and all pages of the documentation do what they show: each block is run, in order."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from documentation.pages import CI, README, blocks_of, commands, failures, is_setup, name_of, pages

if TYPE_CHECKING:
    from pathlib import Path

LINK = re.compile(r"\]\((?![a-z]+:)(?P<path>[^)#]*)(?:#(?P<anchor>[^)]*))?\)")
HEADING = re.compile(r"^#+ +(?P<title>.+?)\s*$", re.MULTILINE)
FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1$", re.MULTILINE | re.DOTALL)


def dead_links(page: Path) -> list[str]:
    """Report links to files, or headings in them, that are not there."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    found: list[str] = []
    for link in LINK.finditer(text):
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        if not target.exists() or (link["anchor"] and link["anchor"] not in anchors(target)):
            found.append(link.group())
    return found


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as forges and the site's generator make them."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    titles = (heading["title"].lower().replace("`", "") for heading in HEADING.finditer(text))
    return {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_page_does_what_it_shows(page: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page.read_text(encoding="utf-8"))

    found = failures(name_of(page), blocks, tmp_path, CI.read_text(encoding="utf-8"))

    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", [*pages(), README.with_name("CHANGELOG.md")], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_a_dead_link_is_reported(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text(
        "# One `two`, three\n[x](b.md) [y](#one-two-three) [z](#one) [w](https://example.org/z.md)\n"
        "```text\n[v](c.md)\n```\n",
        encoding="utf-8",
    )

    assert dead_links(page) == ["](b.md)", "](#one)"]


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_tells_how_to_run_the_tests_as_ci_does() -> None:
    blocks = blocks_of(README.read_text(encoding="utf-8"))
    asked = [c.text for block in blocks if block.language in {"console", "sh"} for c in commands(block)]

    assert any("pytest" in text for text in asked if is_setup(text))


def test_ci_can_be_run() -> None:
    assert os.access(CI, os.X_OK)
