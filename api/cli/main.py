"""The command `persistasaurus`. This module needs nothing but Python; what it loads needs the extra `cli`."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]

_EXTRA = {"click", "rich", "rich_click"}
_USAGE, _INTERRUPTED = 2, 130


def main() -> None:
    """Run the command line, and end the process with one of the exit codes that `--help` lists."""
    _prepare_output()
    try:
        # Looked for here, since rich-click would miss it later, and less clearly.
        import rich  # noqa: F401, PLC0415  # pyright: ignore[reportUnusedImport]

        from .program import persistasaurus  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        needed = f"the command needs {error.name}: pip install 'persistasaurus[cli]'"
        print(f"persistasaurus: {needed}", file=sys.stderr)  # noqa: T201 - there is no console yet
        sys.exit(_USAGE)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    persistasaurus(prog_name="persistasaurus")


def _prepare_output() -> None:
    """See to it that there is an output, and that no text is refused by it for its letters."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
            setattr(sys, name, nowhere)
        else:
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
