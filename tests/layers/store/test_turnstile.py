"""Nobody is within SQLite while the process forks: locks that are held there would stay so in the child."""

from __future__ import annotations

import os
import threading

import apsw
import pytest
from conformance.builders import ADA, accept, append, create, record
from persistasaurus.store import SqliteStore, StoreReader
from persistasaurus.store.files import forking
from persistasaurus.store.files.forking import Turnstile
from persistasaurus.store.tools.backup import backup
from persistasaurus.store.tools.export import export
from store.forked_child import DEAD_MAN_S, in_forked_child


class Someone:
    """A thread that goes in, and comes out when it is told."""

    def __init__(self, turnstile, stay=None):
        self.is_in, self.leave = threading.Event(), threading.Event()
        self.turnstile, self.stay = turnstile, stay or self.leave.wait
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        with self.turnstile:
            self.is_in.set()
            self.stay()

    def ends(self):
        self.thread.join(DEAD_MAN_S)
        return not self.thread.is_alive()


def forking_thread(turnstile):
    waits = threading.Thread(target=turnstile.before_fork, daemon=True)
    waits.start()
    return waits


def test_a_fork_waits_until_everybody_has_come_out():
    turnstile = Turnstile()
    inside = Someone(turnstile)
    assert inside.is_in.wait(DEAD_MAN_S)
    fork = forking_thread(turnstile)
    while turnstile._forker is None:
        fork.join(0.001)
    assert fork.is_alive()

    inside.leave.set()

    fork.join(DEAD_MAN_S)
    assert not fork.is_alive()


def test_nobody_comes_in_while_the_process_forks():
    turnstile = Turnstile()
    turnstile.before_fork()
    late = Someone(turnstile)
    assert not late.is_in.wait(0.05)
    with turnstile:  # but whoever forks
        turnstile.rest()

    turnstile.after_fork_in_parent()

    assert late.is_in.wait(DEAD_MAN_S)
    late.leave.set()
    assert late.ends()


def test_who_stays_for_long_lets_a_fork_come_first():
    turnstile, leave = Turnstile(), threading.Event()

    def stay():
        with turnstile:
            while not leave.is_set():
                turnstile.rest()

    inside = Someone(turnstile, stay)
    assert inside.is_in.wait(DEAD_MAN_S)
    for _ in range(3):
        turnstile.before_fork()
        assert turnstile._depths == {}
        turnstile.after_fork_in_parent()

    leave.set()
    assert inside.ends()
    assert turnstile._depths == {}


def test_to_rest_outside_is_nothing():
    turnstile = Turnstile()
    turnstile.rest()
    turnstile.before_fork()
    turnstile.rest()
    turnstile.after_fork_in_parent()


def test_a_fork_does_not_wait_for_ever(monkeypatch, caplog):
    monkeypatch.setattr(forking, "_PATIENCE_S", 0.01)
    turnstile = Turnstile()
    inside = Someone(turnstile)
    assert inside.is_in.wait(DEAD_MAN_S)

    turnstile.before_fork()
    turnstile.after_fork_in_parent()

    assert "the child may hang" in caplog.text
    inside.leave.set()
    assert inside.ends()


def test_a_child_forgets_the_threads_that_it_has_not(monkeypatch):
    monkeypatch.setattr(forking, "_PATIENCE_S", 0)
    turnstile = Turnstile()
    turnstile._depths = {1: 1, threading.get_ident(): 2}
    turnstile.before_fork()

    turnstile.after_fork_in_child()

    assert turnstile._depths == {threading.get_ident(): 2}
    turnstile.before_fork()
    turnstile.after_fork_in_parent()


def within():
    """Whether this thread is within SQLite, as far as a fork can tell."""
    return threading.get_ident() in forking.in_sqlite._depths


@pytest.fixture
def every_statement(monkeypatch):
    """Note of each call that opens, executes or closes whether a fork would have waited for it."""
    seen = set()
    real = apsw.Connection

    class Connection(real):
        def __init__(self, *arguments, **named):
            seen.add(("open", within()))
            super().__init__(*arguments, **named)
            self.exec_trace = lambda *_: seen.add(("execute", within())) or True

        def close(self, force=False):  # noqa: FBT002 - APSW's own
            seen.add(("close", within()))
            super().close(force)

        def wal_checkpoint(self, *arguments, **named):
            seen.add(("checkpoint", within()))
            return super().wal_checkpoint(*arguments, **named)

    monkeypatch.setattr(apsw, "Connection", Connection)
    return seen


def test_whatever_is_done_with_a_store_keeps_forks_waiting(path, clock, every_statement):
    store = SqliteStore.open(path, now=clock)
    accept(store, create(), *[append(n, record()) for n in range(1, 30)])
    store.checkpoint(idle=True)
    store.read(ADA)
    store.verify()
    store.resolve([append(1, record())])
    store.reopen()
    with StoreReader.open(path) as reader:
        reader.data_version()
        list(reader.query("SELECT 1 FROM record"))
        reader.verify()
    backup(path, path.with_name("copy.db"))
    with path.with_name("text").open("wb") as text:
        export(path, text.write)
    store.close()

    assert {what for what, _ in every_statement} == {"open", "execute", "close", "checkpoint"}
    assert [call for call, is_within in every_statement if not is_within] == []


def test_children_of_a_process_at_work_open_stores_of_their_own(store, path, clock):
    accept(store, create())
    stop = threading.Event()

    def work(number):
        mine = SqliteStore.open(path.with_name(f"{number}.db"), now=clock)
        version = 0
        while not stop.is_set():
            accept(mine, append(version, record()) if version else create())
            version += 1
            mine.read(ADA)
            if version % 10 == 0:
                mine.reopen()
        mine.close()

    def open_one():
        own = SqliteStore.open(path.with_name(f"child-{os.getpid()}.db"), now=clock)
        accept(own, create())
        answer = str(len(own.read(ADA)))
        own.close()
        return answer

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert [in_forked_child(open_one) for _ in range(15)] == ["1"] * 15
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEAD_MAN_S)
