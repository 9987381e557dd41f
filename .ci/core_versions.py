"""Print what pins the core dependencies to the oldest versions that we allow, or lets them be the newest.

Usage: core_versions.py (oldest|newest) PYPROJECT CONSTRAINTS, to be given to pip as constraints: all that
CONSTRAINTS pins, but for the core dependencies that PYPROJECT names.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_BOUNDED = re.compile(r"(?P<name>[\w-]+)>=(?P<oldest>[\d.]+)(?:,.*)?")


def oldest_of(dependencies: list[str]) -> dict[str, str]:
    """Return by name the lowest version that each dependency allows.

    Raises:
        ValueError: one has no lower bound, which it must begin with.
    """
    found: dict[str, str] = {}
    for dependency in dependencies:
        bounded = _BOUNDED.fullmatch(dependency)
        if bounded is None:
            raise ValueError(f"{dependency!r} must be NAME>=VERSION, with an upper bound after it if need be")
        found[bounded["name"]] = bounded["oldest"]
    return found


def constraints(which: str, oldest: dict[str, str], pinned: list[str]) -> list[str]:
    """Return lines of a file of constraints: the pinned versions of everything but the core."""
    others = [line for line in pinned if line.partition("==")[0].strip() not in oldest]
    return [*others, *(f"{name}=={version}" for name, version in oldest.items() if which == "oldest")]


def main() -> str | None:
    """Print the constraints that the command line asks for; return what is wrong with it."""
    match sys.argv[1:]:
        case [("oldest" | "newest") as which, project, pins]:
            dependencies = tomllib.loads(Path(project).read_text(encoding="utf-8"))["project"]["dependencies"]
            pinned = Path(pins).read_text(encoding="utf-8").splitlines()
            sys.stdout.write("\n".join(constraints(which, oldest_of(dependencies), pinned)) + "\n")
            return None
        case _:
            return __doc__


if __name__ == "__main__":
    sys.exit(main())
