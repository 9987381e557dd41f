"""A program that copies a store and is killed at the n-th thing that it asks of the system."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from persistasaurus.store.tools.backup import backup

SOURCE, TARGET, LIVES = sys.argv[1], sys.argv[2], int(sys.argv[3])
WATCHED = {"open", "os.rename", "os.remove", "os.truncate"}
seen = 0


def count(event: str = "progress", args: tuple = ()) -> None:
    global seen  # noqa: PLW0603 - a program of its own
    if event == "open" and Path(TARGET).name not in str(args[0]):
        return
    if event == "os.remove" and not Path(args[0]).exists():
        return
    seen += 1
    if seen == LIVES:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.addaudithook(lambda event, args: count(event, args) if event in WATCHED else None)
    backup(SOURCE, TARGET, overwrite=True, on_progress=lambda done, total: count())
    sys.stdout.write(f"{seen}\n")
