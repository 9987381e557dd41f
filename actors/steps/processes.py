"""Running a step in a worker process, which can be killed, and may die.

A worker process belongs to a thread of the pool, which starts it, talks to it and sees to its end.
It is made by spawning: nothing of this process is inherited but the ends of two pipes, no lock and
no connection. It runs many steps, one at a time, and is replaced when it dies.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from multiprocessing import current_process, get_context
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from ..runtime.primitives import Lock, ProcessLock
from .task import NotBegun, RemoteStepError, StepCrashed, StepOutcome
from .worker import FINAL, RAISED, READY, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from multiprocessing.context import SpawnProcess

    from ..runtime.primitives import Startable
    from .runs import Run, Runs
    from .shortage import Shortage
    from .task import StepTask

__all__ = ["ProcessRunner"]

# What an idle worker process gets for leaving in order, before it is killed.
_LEAVE_S = 1.0

# multiprocessing reaps children from whichever thread comes by; who comes too late learns no exit code.
_reaping = ProcessLock()


class ProcessRunner:
    """One worker process at a time, started when it is needed."""

    is_killable = True

    def __init__(self, runs: Runs, start: Callable[[Startable], None], shortage: Shortage) -> None:
        self._runs = runs
        self._start = start
        self._shortage = shortage
        self._lock = Lock()
        self._run: Run | None = None
        self._child: Child | None = None

    def perform(self, run: Run) -> StepOutcome:
        """Have the step run in the worker process. What becomes of that process is the outcome.

        Raises:
            NotBegun: there is no process to be had.
        """
        with self._lock:
            self._run = run
        try:
            return self._converse(run, self._living_child(run))
        except NotBegun:
            raise
        except (EOFError, OSError) as error:
            return StepOutcome(error=self._crashed(run, error))
        except BaseException as error:  # noqa: BLE001 - one step must not take the worker's thread with it
            self._end_child(at_once=True)
            return StepOutcome(error=error)
        finally:
            with self._lock:
                self._run = None

    def kill(self, run: Run) -> None:
        """Kill the worker process if it still runs `run`. Called on another thread."""
        with self._lock:
            if self._run is run and self._child is not None:
                self._child.kill()

    def close(self) -> None:
        """Let the worker process leave, and kill it if it does not."""
        if self._child is not None:
            self._child.pipe.close()
            self._end_child()

    def _living_child(self, run: Run) -> Child:
        # An idle process may have died: of what its last step left behind, or by the hand of another.
        if self._child is not None and not self._child.is_fit():
            self._end_child(at_once=True)
        with self._lock:
            # Whoever gives a run up claims it first, then kills; before this, there was nothing to kill.
            if not self._runs.is_under_way(run):
                raise EOFError("the run was given up before it began")
            if self._child is None:
                try:
                    self._child = Child(self._start)
                except (OSError, MemoryError) as error:
                    raise NotBegun(self._shortage.strikes(error)) from error
                self._shortage.is_over()
            return self._child

    def _converse(self, run: Run, child: Child) -> StepOutcome:
        child.ask(run.task)
        answer = child.answer()
        if answer == READY:
            child.has_served = True
            self._runs.set_off(run)
            child.pipe.send_bytes(run.task.payload)
            answer = child.answer()
        if answer == RAISED:
            kind, message, trace, line, names = (child.answer().decode("utf-8", "replace") for _ in range(5))
            is_final, ancestry = child.answer() == FINAL, tuple(names.split("\n")) if names else ()
            error = RemoteStepError(kind, message, trace, is_final=is_final, line=line, ancestry=ancestry)
            return StepOutcome(error=error)
        return StepOutcome(value=child.answer())

    def _crashed(self, run: Run, error: BaseException) -> StepCrashed:
        child = self._child
        if child is None:
            return StepCrashed(f"step {run.task.name!r} was given up before it had a process: {error}")
        has_served = child.has_served
        end = self._end_child()
        if not has_served and end == _KILLED and self._runs.is_under_way(run):
            # By the kernel, for want of memory: the step has not begun.
            raise NotBegun(self._shortage.strikes(MemoryError("a process was killed while it started")))
        message = f"the process of step {run.task.name!r} died: {end}"
        if not has_served:
            message += (
                " while it started; a script that is run must guard what it does with "
                'if __name__ == "__main__"'
            )
        return StepCrashed(message)

    def _end_child(self, *, at_once: bool = False) -> str:
        with self._lock:
            child, self._child = self._child, None
        return "" if child is None else child.end(_LEAVE_S * (not at_once))


class Child:
    """A worker process and this end of its pipe."""

    def __init__(self, start: Callable[[Startable], None]) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=serve, args=(theirs,), name="persistasaurus-steps", daemon=True
        )
        self.has_served = False
        self._is_doomed = False
        try:
            self._start(start)
        except BaseException:
            self.pipe.close()
            raise
        finally:
            # As long as this end of it were open, too, the child's death would not close the pipe.
            theirs.close()
        self._death_fd = _open_death(self.process)
        self._death = self.process.sentinel if self._death_fd is None else self._death_fd

    def _start(self, start: Callable[[Startable], None]) -> None:
        # The child begins with the signal blocked, until it can ignore it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _reaping.held, _with_children():
                start(self.process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def is_fit(self) -> bool:
        """Tell whether the process lives, is not about to die, and waits to be asked."""
        if self._is_doomed or self.pipe.poll():
            return False
        with _reaping.held:
            return self.process.is_alive()

    def ask(self, task: StepTask) -> None:
        """Tell the child what is to be called."""
        if task.target is None:
            raise TypeError(f"step {task.name!r} has no target to call in another process")
        for part in task.target:
            self.pipe.send_bytes(part.encode())

    def answer(self) -> bytes:
        """Wait for what the child says, or for its death, which raises EOFError."""
        # A process that the step has left behind may keep the pipe open: watch the death itself.
        if self.pipe not in wait([self.pipe, self._death]) and not self.pipe.poll():
            raise EOFError
        return self.pipe.recv_bytes()

    def kill(self) -> None:
        """Kill the process and what it has started in its own group."""
        self._is_doomed = True
        with _reaping.held:
            if self.process.is_alive() and self.process.pid is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.kill()

    def end(self, leave_s: float) -> str:
        """See to it that the process is gone, after `leave_s` at the latest; tell how it ended."""
        wait([self._death], leave_s)
        self.kill()
        wait([self._death], _LEAVE_S)
        code: int | None = None
        with _reaping.held, suppress(ValueError):
            self.process.join(0)
            code = self.process.exitcode
            self.process.close()
        self.pipe.close()
        if self._death_fd is not None:
            os.close(self._death_fd)
        return _told(code)


@contextmanager
def _with_children() -> Generator[None]:
    """Let a daemonic process of multiprocessing, such as a pool's worker, have one that dies with it."""
    me = current_process()
    is_daemonic = me.daemon
    if is_daemonic:
        me.daemon = False
    try:
        yield
    finally:
        if is_daemonic:
            me.daemon = True


def _open_death(process: SpawnProcess) -> int | None:
    """Open what becomes readable when the process dies, be its pipes open or not. Linux only."""
    if process.pid is not None and hasattr(os, "pidfd_open"):
        with suppress(OSError):
            return os.pidfd_open(process.pid)
    return None


_KILLED = "killed by SIGKILL"


def _told(code: int | None) -> str:
    if code is None:
        return "its exit status is unknown"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
