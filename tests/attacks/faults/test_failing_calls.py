"""The operating system fails beneath SQLite's own file layer, which then sees what it sees in the field."""

from __future__ import annotations

import ctypes
import errno
import shutil
from itertools import count

import apsw
import pytest
from conformance.builders import ADA, AT, append, create, record, signal
from faults.sweep import folder
from faults.workloads import short_logs
from persistasaurus.store import CommitUnknown, SqliteStore, StoreError

_SIZES = {"pwrite64": ctypes.c_ssize_t, "ftruncate": ctypes.c_int}
_ARGUMENTS = {
    "pwrite64": (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64),
    "ftruncate": (ctypes.c_int, ctypes.c_int64),
}
BATCHES = 4
SHORT = -1


class Calls:
    """Stands between SQLite and a system call, and fails the calls that it is told to fail."""

    def __init__(self, name):
        self._name = name
        self._vfs = apsw.VFS("calls", base="unix")
        kind = ctypes.CFUNCTYPE(_SIZES[name], *_ARGUMENTS[name], use_errno=True)
        self._real = kind(self._vfs.xGetSystemCall(name))
        self._ours = kind(self._call)
        self._left = self._times = self._error = 0
        self.struck = 0
        self._vfs.xSetSystemCall(name, ctypes.cast(self._ours, ctypes.c_void_p).value)

    def end(self):
        self._vfs.xSetSystemCall(self._name, 0)
        self._vfs.unregister()

    def fail(self, at, times, error):
        self._left, self._times, self._error = at - 1, times, error
        self.struck = 0

    def forgive(self):
        self._times = 0

    def _call(self, *arguments):
        if self._times and self._left == 0:
            self._times -= 1
            self.struck += 1
            if self._error == SHORT:
                handle, data, size, offset = arguments
                return self._real(handle, data, size // 2, offset)
            ctypes.set_errno(self._error)
            return -1
        self._left -= self._left > 0
        return self._real(*arguments)


@pytest.fixture
def calls():
    made = []

    def make(name):
        made.append(Calls(name))
        return made[-1]

    with short_logs():
        yield make
    for one in made:
        one.end()


def settle(store, calls, writes):
    """Write until it is answered; with the faults off after some attempts."""
    for attempt in range(12):
        if attempt == 8:
            calls.forgive()
        try:
            if attempt:
                store.reopen()
                found = store.resolve(writes)
                if None not in found:
                    return found
            return store.commit(writes)
        except CommitUnknown:
            continue
        except StoreError:
            # Nothing was written, or it is still not known: both are found out by reopening.
            continue
    pytest.fail("it does not go on although nothing fails any more")


def run(path, calls, at, times, error):
    """Write a story in a few batches, with a checkpoint after each; from the `at`-th on, calls fail."""
    store = SqliteStore.open(path, now=lambda: AT, vfs="calls")
    calls.fail(at, times, error)
    try:
        settle(store, calls, [create()])
        for number in range(1, BATCHES):
            batch = [append(number, record(b"%d" % number * 5_000)), signal(f"mail-{number}")]
            outcomes = settle(store, calls, batch)
            assert not any(isinstance(outcome, Exception) for outcome in outcomes)
            with_leisure(store)
        calls.forgive()
        settle(store, calls, [append(BATCHES, record(b"last"))])
        assert [r.data[:1] for r in store.read(ADA)] == [b"{", b"1", b"2", b"3", b"l"]
        assert [entry.key for entry in store.inbox(ADA)] == [f"mail-{n}" for n in range(1, BATCHES)]
        assert store.verify() == []
    finally:
        store.close()


def with_leisure(store):
    store._truncate_at = 0
    try:
        store.checkpoint(idle=True)
    except StoreError:
        assert store._halted is not None


@pytest.fixture
def place():
    made = folder()
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize(
    ("error", "times"), [("EIO", 1), ("EIO", 10**6), ("ENOSPC", 3), ("ENOSPC", 10**6), ("short", 1)]
)
def test_whichever_write_fails_nothing_is_lost_and_nothing_doubled(place, calls, error, times):
    failing = calls("pwrite64")
    number = getattr(errno, error, SHORT)
    for at in count(1, 3):
        run(place / f"{at}.db", failing, at, times, number)
        if not failing.struck:
            break
    assert at > 30


@pytest.mark.parametrize("times", [1, 3, 10**6])
def test_whichever_truncation_fails_nothing_is_lost_and_nothing_doubled(place, calls, times):
    failing = calls("ftruncate")
    for at in count(1):
        run(place / f"{at}.db", failing, at, times, errno.EIO)
        if not failing.struck:
            break
    assert at > 3
