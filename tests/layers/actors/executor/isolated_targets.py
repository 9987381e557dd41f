"""What the tests run in worker processes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec


class Echo:
    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        return payload


class Pid:
    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        return str(os.getpid()).encode()


class Segfault:
    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        # A debugging interpreter would tell on stderr what is wanted here.
        sys.stderr = None
        return ctypes.string_at(0)


class Exit:
    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        os._exit(int(payload))


class KillMyself:
    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""


class Raise:
    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        raise LookupError(f"no {payload.decode()} \udc80")


class RaiseSystemExit:
    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        raise SystemExit(3)


class Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


class RaiseUnreadable:
    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        raise Unreadable


class NoBytes:
    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        return 5  # type: ignore[return-value]


class LoopForEver:
    """Tells its pid in the file named by the payload, then never returns."""

    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        report(payload, {"pid": os.getpid()})
        while True:
            pass


class LeaveAProcess:
    """Forks a process that holds everything this one has open, then loops for ever."""

    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        other = os.fork()
        if not other:
            signal.pause()
        report(payload, {"pid": os.getpid(), "other": other})
        while True:
            pass


class Interrupt:
    """Sends itself what a terminal sends at Ctrl-C."""

    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        os.kill(os.getpid(), signal.SIGINT)
        return b"still here"


class OpenFiles:
    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        return msgspec.json.encode(
            [str(f.readlink()) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()]
        )


class DieWhenIdle:
    """Returns, and is gone a moment later: the timer's signal ends it."""

    @staticmethod
    def call_encoded(payload: bytes, find: Any) -> bytes:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        return str(os.getpid()).encode()


def report(path: bytes, what: dict[str, int]) -> None:
    target = Path(path.decode())
    half = target.with_suffix(".half")
    half.write_bytes(msgspec.json.encode(what))
    half.rename(target)
