"""What the tests run in worker processes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

import msgspec


class Echo:
    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        return payload


class Pid:
    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        return str(os.getpid()).encode()


class Segfault:
    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        # A debugging interpreter would tell on stderr what is wanted here.
        sys.stderr = None
        return ctypes.string_at(0)


class Exit:
    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        os._exit(int(payload))


class KillMyself:
    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""


class Raise:
    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        raise LookupError(f"no {payload.decode()} \udc80")


class RaiseSystemExit:
    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        raise SystemExit(3)


class Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


class RaiseUnreadable:
    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        raise Unreadable


class NoBytes:
    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        return 5  # type: ignore[return-value]


class LoopForEver:
    """Tells its pid in the file named by the payload, then never returns."""

    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        report(payload, {"pid": os.getpid()})
        while True:
            pass


class LeaveAProcess:
    """Forks a process that holds everything this one has open, then loops for ever."""

    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        other = os.fork()
        if not other:
            signal.pause()
        report(payload, {"pid": os.getpid(), "other": other})
        while True:
            pass


class Interrupt:
    """Sends itself what a terminal sends at Ctrl-C."""

    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        os.kill(os.getpid(), signal.SIGINT)
        return b"still here"


class OpenFiles:
    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        return msgspec.json.encode(
            [str(f.readlink()) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()]
        )


class DieWhenIdle:
    """Returns, and is gone a moment later: the timer's signal ends it."""

    @staticmethod
    def call_encoded(payload: bytes) -> bytes:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        return str(os.getpid()).encode()


def report(path: bytes, what: dict[str, int]) -> None:
    target = Path(path.decode())
    half = target.with_suffix(".half")
    half.write_bytes(msgspec.json.encode(what))
    half.rename(target)
