"""The command `persistasaurus`. This module needs nothing but Python; what it loads needs the extra `cli`."""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRA = {"click", "rich", "rich_click"}
_USAGE = 2


def main() -> None:
    """Run the command line, and end the process with one of the exit codes that `--help` lists."""
    try:
        # Looked for here, since rich-click would miss it later, and less clearly.
        import rich  # noqa: F401, PLC0415  # pyright: ignore[reportUnusedImport]

        from .commands import persistasaurus  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        needed = f"the command needs {error.name}: pip install 'persistasaurus[cli]'"
        print(f"persistasaurus: {needed}", file=sys.stderr)  # noqa: T201 - there is no console yet
        sys.exit(_USAGE)
    persistasaurus()


if __name__ == "__main__":
    main()
