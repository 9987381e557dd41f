"""Children of a process at work, and what a store that their parent has opened says to them."""

from __future__ import annotations

import os
import signal

from persistasaurus.store import StoreHalted

DEAD_MAN_S = 30


def in_forked_child(body):
    """Run `body` in a forked child, and return what it returned as text; nothing, if it hangs."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(DEAD_MAN_S)
            os.write(write, body().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def refusal(use):
    try:
        return f"no refusal: {use()}"
    except StoreHalted as error:
        return str(error)
