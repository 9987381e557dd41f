"""A process that serves, for tests that send it signals. Prints where it is, and then how it ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from persistasaurus.api.http.middleware.limits import ServerLimits
from persistasaurus.api.http.server import serve
from serving.doubles import protected_application

if TYPE_CHECKING:
    from collections.abc import Callable


def say(word: object) -> None:
    print(word, flush=True)  # noqa: T201 - the parent reads it


def main(drain: str, hosts: Callable[[str], None] = say) -> None:
    app = protected_application(limits=ServerLimits(drain_seconds=float(drain)))
    say(serve(app, port=0, on_bound=hosts))


if __name__ == "__main__":
    main(*sys.argv[1:])
