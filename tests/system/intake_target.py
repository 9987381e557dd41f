"""An engine that is killed at a chosen moment of handling what it finds in its spool."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from persistasaurus import FlowSystem
from persistasaurus.actors.flows.admission import Admission
from persistasaurus.store import SqliteStore
from persistasaurus.store.files.spool import Spool

sys.path.insert(0, str(Path(__file__).parents[1]))
from system.spooling import FLOWS

if TYPE_CHECKING:
    from collections.abc import Callable

WHERE = {"signal_json": Admission, "commit": SqliteStore, "refuse": Spool, "answer": Spool, "unlink": Path}


def dying(real: Callable[..., Any], when: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if when == "before" and _is_meant(args):
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if when == "after" and _is_meant(args):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def _is_meant(args: tuple[Any, ...]) -> bool:
    """Whether it is about an order: there are commits, and files that are removed, for other reasons."""
    if isinstance(args[0], SqliteStore):
        return True
    return not isinstance(args[0], Path) or args[0].parent.name == "new"


if __name__ == "__main__":
    when, what = sys.argv[2].split()
    owner: Any = WHERE[what]
    setattr(owner, what, dying(getattr(owner, what), when))
    with FlowSystem(sys.argv[1], flows=FLOWS):
        Event().wait(50)
