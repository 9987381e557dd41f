"""Check that a wheel holds the whole package, and nothing else.

Usage: check_wheel.py WHEEL, with the repository's files on standard input, each ended by NUL.
"""

from __future__ import annotations

import sys
from zipfile import ZipFile

LAYERS = ("actors/", "api/", "flows/", "store/")
PLUGIN = "api/pytest_plugin/"
TOP = {"__init__.py", "docs/errors.md", "py.typed"}
PACKAGE_DATA = (".mmd", "docs/errors.md", ".py", ".sql", "py.typed")


def expected(files: list[str]) -> set[str]:
    """Tell what of the repository belongs into the wheel."""
    names = [name.removeprefix("./") for name in files]
    plugin = [name.removeprefix(PLUGIN) for name in names if name.startswith(PLUGIN)]
    names = [name for name in names if not name.startswith(PLUGIN)]
    inside = [name for name in names if name.startswith(LAYERS) or name in TOP]
    found = {f"persistasaurus/{name}" for name in inside if name.endswith(PACKAGE_DATA)}
    return found | {f"persistasaurus_pytest/{name}" for name in plugin if name.endswith(".py")}


def problems(contents: list[str], files: list[str]) -> list[str]:
    """Report what the wheel lacks, and what it has and should not have."""
    packaged = {name for name in contents if ".dist-info/" not in name}
    wanted = expected(files)
    metadata = {name.partition(".dist-info/")[2] for name in contents}
    lacks = [f"lacks {name}" for name in sorted(wanted - packaged)]
    lacks += [
        f"lacks {name}"
        for name in ("METADATA", "entry_points.txt", "licenses/LICENSE")
        if name not in metadata
    ]
    must_have = {
        "persistasaurus/docs/errors.md",
        "persistasaurus/py.typed",
        "persistasaurus/store/sqlite/schema_1.sql",
    }
    lacks += [f"lacks {name}" for name in sorted(must_have - packaged - wanted)]
    return lacks + [f"has {name}" for name in sorted(packaged - wanted)]


def main() -> str | None:
    """Check the wheel that the command line names; return what is wrong with it."""
    files = sys.stdin.read().split("\0")
    with ZipFile(sys.argv[1]) as wheel:
        found = problems(wheel.namelist(), files)
    return "\n".join(f"the wheel {line}" for line in found) or None


if __name__ == "__main__":
    sys.exit(main())
