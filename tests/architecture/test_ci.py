"""What `.ci/run` makes of the versions we allow, and of the commands that the documentation names."""

from __future__ import annotations

import re
import runpy
import tomllib

import pytest
from architecture.sources import ROOT
from packaging.requirements import Requirement

core = runpy.run_path(str(ROOT / ".ci" / "core_versions.py"))
pages = runpy.run_path(str(ROOT / ".ci" / "page_commands.py"))
PINS = (ROOT / "tests" / "constraints.txt").read_text(encoding="utf-8").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def required() -> list[Requirement]:
    """Return what the package and all its extras ask for, but for the package itself."""
    lines = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    return [found for line in lines if (found := Requirement(line)).name != PROJECT["name"]]


@pytest.mark.parametrize("wanted", required(), ids=str)
def test_the_versions_that_are_tested_are_versions_that_we_allow(wanted: Requirement) -> None:
    pins = [Requirement(line) for line in PINS if not line.startswith("#")]
    versions = [next(iter(pin.specifier)).version for pin in pins if pin.name == wanted.name]

    assert versions
    assert all(wanted.specifier.contains(version) for version in versions)


def test_constraints_say_how_they_are_made_anew_and_name_no_place() -> None:
    assert any("uv pip compile" in line for line in PINS[:3])
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+(?: ; .+)?", line) for line in PINS)


def test_the_oldest_core_has_the_lowest_versions_that_we_allow_and_the_newest_is_free() -> None:
    oldest = core["oldest_of"](["a>=1.2", "b-c>=3,<5"])
    pinned = ["# made by", "a==1.9", "b-c==4.2 ; python_version < '4'", "pytest==9.0"]

    assert oldest == {"a": "1.2", "b-c": "3"}
    assert core["constraints"]("oldest", oldest, pinned) == ["# made by", "pytest==9.0", "a==1.2", "b-c==3"]
    assert core["constraints"]("newest", oldest, pinned) == ["# made by", "pytest==9.0"]


@pytest.mark.parametrize("dependency", ["a", "a<3", "a==1", "a>1"])
def test_a_dependency_without_a_lowest_version_is_refused(dependency: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(dependency))):
        core["oldest_of"]([dependency])


def test_commands_in_text_and_tables_are_found_once_and_blocks_are_left_to_others() -> None:
    text = """
Run `pytest -n 2`, or `pytest tests/a` and `python tests/b.py`; then `pytest tests/a`. Not `ls`, `x()`.

```sh
`pytest tests/in_a_block`
```

| `PERSISTASAURUS_IMAGES=500000 pytest -rP tests/attacks/faults` | power cuts |
"""
    assert pages["commands"](text) == [
        "pytest tests/a",
        "python tests/b.py",
        "PERSISTASAURUS_IMAGES=500000 pytest -rP tests/attacks/faults",
    ]


@pytest.mark.parametrize(
    ("command", "small"),
    [
        (
            "PERSISTASAURUS_IMAGES=500000 pytest tests/attacks/faults",
            "PERSISTASAURUS_IMAGES=500000 pytest tests/attacks/faults --collect-only --quiet",
        ),
        ("python tests/benchmarks/run.py", "python tests/benchmarks/run.py --quick"),
    ],
)
def test_a_command_is_given_little_to_do(command: str, small: str) -> None:
    assert pages["shrunk"](command) == small


def test_ci_runs_the_commands_of_every_page_that_names_some() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in ROOT.glob("docs/**/*.md")}
    naming = {path for path, text in texts.items() if pages["commands"](text)}

    assert len(naming) > 1
    assert {path for path in naming if path not in ci} == set()
