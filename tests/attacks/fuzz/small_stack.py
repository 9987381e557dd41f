"""Reads mutated bytes on a thread with a stack of 256 KiB: python small_stack.py FOLDER SEED COUNT."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path
from random import Random

from fuzz.mutation import mutated
from fuzz.targets import targets

STACK = 256 * 1024


def main(folder: str, seed: str, count: str) -> None:
    failures: list[BaseException] = []
    made = targets(Path(folder))

    def read_all() -> None:
        try:
            for name, target in made.items():
                rng = Random(f"{seed}-small-{name}")
                for _ in range(int(count) // (10 if name in ("exports", "diagrams") else 1)):
                    with contextlib.suppress(target.may_raise):
                        target.read(mutated(rng, target.corpus))
                sys.stdout.write(f"{name}\n")
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            failures.append(error)

    threading.stack_size(STACK)
    thread = threading.Thread(target=read_all)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
