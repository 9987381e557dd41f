"""An engine that is killed at a chosen moment of handling the requests that it finds."""

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
from persistasaurus.store.sqlite.requests import SqliteRequests

sys.path.insert(0, str(Path(__file__).parents[1]))
from system.requesting import FLOWS

if TYPE_CHECKING:
    from collections.abc import Callable

WHERE = {"signal_json": Admission, "commit": SqliteStore, "respond": SqliteRequests}


def dying(real: Callable[..., Any], when: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


if __name__ == "__main__":
    when, what = sys.argv[2].split()
    owner: Any = WHERE[what]
    setattr(owner, what, dying(getattr(owner, what), when))
    with FlowSystem(sys.argv[1], flows=FLOWS):
        Event().wait(50)
