"""The entry point. It needs only Python itself; what it loads needs the extra `cli`."""

from __future__ import annotations

import os
import sys

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
    """Make sure that both outputs exist, and that neither rejects a character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
            setattr(sys, name, nowhere)
        else:
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
