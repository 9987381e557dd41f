"""Two processes and one store: who may write, and what an answer is worth.

A process opens, reads, decides on the next record, and appends it. It may be stopped at any point while
the other takes over, when the filesystem forgets its locks; the kernel may lose what was not synced. The
lock's file may be deleted, and the store may be reached by another name, beside which no lock lies: neither
lets anybody take over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model.explorer import Guard, Model
from persistasaurus.store.files.file_locks import FileLocks
from persistasaurus.store.files.ownership import Ownership
from persistasaurus.store.sqlite.batch import WriteBatch
from persistasaurus.store.sqlite.store import SqliteStore
from persistasaurus.store.sqlite.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS = 2
PROCESSES = 2


class Process(NamedTuple):
    epoch: int = 0
    """0: it has not opened."""
    seen: int = 0
    """The version from which it goes on."""
    pending: tuple[int, ...] = ()
    """The versions that appends which are under way expect; a crashed actor's may still be among them."""
    is_open: bool = False
    is_fenced: bool = False
    crashes: int = 0


class State(NamedTuple):
    epoch: int = 0
    log: tuple[int, ...] = ()
    """Of each record, the version that its writer had seen."""
    synced: int = 0
    answered: int = 0
    """How many records somebody has been told of."""
    holder: int | None = None
    """Who has the lock beside the store."""
    file_holder: int | None = None
    """Who has the lock on the store's file itself."""
    is_stolen: bool = False
    has_lost_power: bool = False
    processes: tuple[Process, ...] = (Process(),) * PROCESSES
    fault: str = ""

    def having(self, number: int, **changes: object) -> State:
        processes = list(self.processes)
        processes[number] = processes[number]._replace(**changes)
        return self._replace(processes=tuple(processes))


class Fence(Model):
    guards: ClassVar[dict[str, Guard]] = {
        "locks": Guard("only who has the locks opens", Ownership.acquire, "_lock(path, descriptor)"),
        "file lock": Guard("there is one owner of a file, whatever it is called", FileLocks.own, "_OWNER"),
        "epoch": Guard("each transaction looks at the epoch", Writer._check_epoch, "found == self.epoch"),
        "version": Guard(
            "an append names its version", WriteBatch._append, "stream.version != write.expected"
        ),
        "barrier": Guard("opening syncs before it answers", Writer.__init__, "_ADVANCE_EPOCH"),
        "no return": Guard(
            "who was overtaken never returns", SqliteStore._reopen, "epoch_at_most=self._epoch"
        ),
    }

    def initial(self) -> State:
        return State()

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        for number, process in enumerate(state.processes):
            yield from self._own_moves(state, number, process)
        if state.holder is not None and not state.is_stolen:
            yield "the lock's file is deleted, or passed by", state._replace(holder=None)
        if state.file_holder is not None and not state.is_stolen:
            lost = state._replace(holder=None, file_holder=None, is_stolen=True)
            yield "the filesystem forgets its locks", lost
        if not state.has_lost_power:
            kept = state._replace(
                log=state.log[: state.synced], has_lost_power=True, holder=None, file_holder=None
            )
            dead = tuple(Process(crashes=p.crashes) for p in state.processes)
            yield "the power fails", kept._replace(processes=dead)

    def _own_moves(self, state: State, number: int, process: Process) -> Iterator[tuple[str, State]]:
        who = f"process {number}"
        if not process.is_open and not process.is_fenced:
            if self._lets_open(state):
                yield f"{who} opens", self._opened(state, number)
            return
        if not process.is_open:
            return
        if process.seen < RECORDS and not process.pending:
            pending = (*process.pending, process.seen)
            yield f"{who} decides on {process.seen + 1}", state.having(number, pending=pending)
        if process.pending:
            yield from self._commits(state, number, process, who)
        if process.pending and not process.crashes:
            # Its append is on the way all the same. The next incarnation reads, and decides again.
            pending = (*process.pending, len(state.log))
            changed = state.having(number, crashes=1, seen=len(state.log), pending=pending)
            yield f"{who}: the actor crashes and decides again", changed
        if process.epoch <= state.epoch:
            yield f"{who} reopens", self._reopened(state, number, process)
        if process.crashes < 2:
            gone = self._killed(state, number)
            yield f"{who} is killed", gone.having(number, crashes=process.crashes + 1)

    def _lets_open(self, state: State) -> bool:
        if not self._has["locks"]:
            return True
        return state.holder is None and (state.file_holder is None or not self._has["file lock"])

    def _opened(self, state: State, number: int) -> State:
        epoch = state.epoch + 1
        fault = ""
        if any(p.is_open for p in state.processes) and not state.is_stolen:
            fault = "a store was taken from a process that had it"
        synced = len(state.log) if self._has["barrier"] else state.synced
        # From now on it answers from what it sees.
        opened = state._replace(
            epoch=epoch,
            synced=synced,
            answered=len(state.log),
            holder=number,
            file_holder=number,
            fault=fault,
        )
        return opened.having(number, epoch=epoch, seen=len(state.log), is_open=True)

    def _commits(self, state: State, number: int, process: Process, who: str) -> Iterator[tuple[str, State]]:
        expected, *rest = process.pending
        after = state.having(number, pending=tuple(rest))
        if self._has["epoch"] and process.epoch != state.epoch:
            yield f"{who} is fenced", after.having(number, is_open=False, is_fenced=True, pending=())
            return
        if self._has["version"] and expected != len(state.log):
            yield f"{who} hears that it is too late", after.having(number, seen=len(state.log))
            return
        fault = "" if process.epoch == state.epoch else "a process wrote after another had taken over"
        written = after._replace(log=(*state.log, expected), fault=fault)
        yield f"{who} is killed within a commit", self._killed(written, number)
        synced = written._replace(synced=len(written.log), answered=len(written.log))
        yield f"{who} commits", synced.having(number, seen=len(written.log))

    def _killed(self, state: State, number: int) -> State:
        holder = None if state.holder == number else state.holder
        file_holder = None if state.file_holder == number else state.file_holder
        gone = state.having(number, is_open=False, pending=(), epoch=0)
        return gone._replace(holder=holder, file_holder=file_holder)

    def _reopened(self, state: State, number: int, process: Process) -> State:
        if process.epoch < state.epoch:
            if self._has["no return"]:
                return state.having(number, is_open=False, is_fenced=True, pending=())
            return state.having(number, epoch=state.epoch)._replace(
                fault="a process that was overtaken owns the store again"
            )
        return state.having(number, seen=len(state.log))

    def wrong(self, state: State) -> str | None:
        if state.fault:
            return state.fault
        if state.log != tuple(range(len(state.log))):
            return "one decision is recorded twice, or on top of something its writer had not seen"
        if state.answered > len(state.log):
            return "what somebody was told of is gone"
        return None

    def is_done(self, state: State) -> bool:
        # Whoever can be killed and overtaken for ever is not waited for.
        return len(state.log) == RECORDS or all(p.is_fenced or p.crashes >= 2 for p in state.processes)
