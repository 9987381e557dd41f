"""The pages make a site: one command, which fails where a link is broken, and says all that is public."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import persistasaurus
import pytest
from documentation.pages import DOCS, README
from persistasaurus.api.cli.commands.error import sections

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as the README says, but into a fresh folder."""
    folder = tmp_path_factory.mktemp("site")
    [(options, docs)] = re.findall(
        r"`sphinx-build (.*) (\w+) build/site`", README.read_text(encoding="utf-8")
    )
    command = [sys.executable, "-m", "sphinx", *options.split(), "-q", "-d", f"{folder}/doctrees"]

    built = subprocess.run(
        [*command, DOCS.with_name(docs), folder / "html"], capture_output=True, text=True, check=False
    )

    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {page.relative_to(DOCS).with_suffix("") for page in DOCS.rglob("*.md")}

    assert pages <= {page.relative_to(site).with_suffix("") for page in site.rglob("*.html")}


def test_the_reference_has_all_that_is_public(site: Path) -> None:
    described = set(re.findall(r'id="([\w.]+)"', (site / "reference.html").read_text(encoding="utf-8")))

    assert [name for name in persistasaurus.__all__ if f"persistasaurus.{name}" not in described] == []


def test_each_error_has_an_address_of_its_own(site: Path) -> None:
    page = (site / "errors.html").read_text(encoding="utf-8")

    assert [code for code in sections() if f'id="{code}"' not in page] == []
