"""What stands in the repository: few things at the top, and nothing about where or by what it was made."""

from __future__ import annotations

import codecs
import re

import pytest
from architecture.sources import ROOT, tracked_files

TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "__init__.py",
    "actors",
    "api",
    "docs",
    "flows",
    "py.typed",
    "pyproject.toml",
    "store",
    "tests",
}

# Rotated by 13 letters: this file, too, must be free of them.
HOSTS = [codecs.decode(word, "rot13") for word in ("clcv.bet", "clgubaubfgrq", "aczwf.bet", "negvsnpgbel")]
AUTHORS = [
    codecs.decode(word, "rot13")
    for word in (
        "naguebcvp",
        "pungtcg",
        "pynhqr",
        "pb-nhguberq-ol",
        "pbcvybg",
        "trarengrq jvgu",
        "trzvav",
        "ynathntr zbqry",
        "bcranv",
    )
]
ARTIFICIAL = re.compile(r"(?<![\w-])A" + r"I(?:[ -](?:assisted|agent|authored|generated|written))?(?![\w-])")
MACHINE = re.compile(r"(?<![\w/.})*-])/(?:work|root|opt|home|Users)(?![\w.-])")


def strangers(paths: list[str]) -> list[str]:
    """Report what stands at the top level and does not belong there."""
    tops = {path.partition("/")[0] for path in paths}
    return sorted(top for top in tops if top not in TOP_LEVEL and not top.startswith("."))


def forbidden_words(text: str) -> list[str]:
    """Report machine paths, hosts of package registries, and what tells of machine authorship."""
    lower = text.lower()
    words = [word for word in (*HOSTS, *AUTHORS) if re.search(rf"(?<!\w){word}(?!\w)", lower)]
    return words + [match.group() for pattern in (ARTIFICIAL, MACHINE) for match in pattern.finditer(text)]


def test_the_top_level_holds_what_it_should_and_nothing_else() -> None:
    assert strangers(tracked_files()) == []


def test_no_file_tells_where_or_by_what_it_was_made() -> None:
    found = [
        f"{path}:{number}: {word}"
        for path in tracked_files()
        for number, line in enumerate(_lines(path), 1)
        for word in forbidden_words(line)
    ]

    assert not found, "\n".join(found)


def _lines(path: str) -> list[str]:
    return (ROOT / path).read_text(encoding="utf-8", errors="replace").splitlines()


def test_a_stranger_at_the_top_level_is_reported() -> None:
    assert strangers(["flows/authoring/step.py", "notes.md", ".ci/run", "src/x.py"]) == ["notes.md", "src"]


@pytest.mark.parametrize("word", [*HOSTS, *AUTHORS, *(word.title() for word in AUTHORS)])
def test_a_forbidden_word_is_reported(word: str) -> None:
    assert forbidden_words(f"see {word}, there") == [word.lower()]


@pytest.mark.parametrize("folder", ["work", "root", "opt", "home", "Users"])
def test_a_machines_path_is_reported(folder: str) -> None:
    assert forbidden_words(f"cd /{folder}/main") == [f"/{folder}"]
    assert forbidden_words(f'"/{folder}"') == [f"/{folder}"]


def test_artificial_authors_are_reported() -> None:
    sentence = "written by A" + "I"

    assert forbidden_words(sentence) == ["A" + "I"]


@pytest.mark.parametrize(
    "text", ["the flow/root", "../opt/x", "/option", "OPENAIR", "in TAI time", "MAIL", "https://x/work"]
)
def test_ordinary_words_are_fine(text: str) -> None:
    assert forbidden_words(text) == []
