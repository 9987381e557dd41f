"""Steps of all kinds that fork. A module that any process finds."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

from persistasaurus import Flow, FlowSystem, flow, gather, step
from system.doubles import DEAD_MAN_S


class Forks(Flow):
    @flow(name="forks")
    async def main(self, kind: str, how: str) -> list[int]:
        return await {"def": self.on_a_thread, "async": self.on_the_loop, "isolated": self.apart}[kind](how)

    @step(timeout=timedelta(seconds=DEAD_MAN_S))
    def on_a_thread(self, how: str) -> list[int]:
        return fork_and(how)

    @step(timeout=timedelta(seconds=DEAD_MAN_S))
    async def on_the_loop(self, how: str) -> list[int]:
        return fork_and(how)

    @step(isolated=True, timeout=timedelta(seconds=DEAD_MAN_S))
    def apart(self, how: str) -> list[int]:
        return fork_and(how)


def fork_and(how: str) -> list[int]:
    pid = os.fork()
    if pid == 0:
        signal.alarm(int(DEAD_MAN_S))
        if how == "returns":
            return [-1]
        raise {"raises": ValueError("in the child"), "exits": SystemExit(7), "complains": SystemExit("no")}[
            how
        ]
    return [os.getpid(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


class ForksAndAwaits(Flow):
    """An async step whose child awaits, in several ways, beside a step that takes note where it runs."""

    child = 0

    @flow(name="forks and awaits")
    async def main(self, how: str, notes: str) -> int:
        exit_code, _ = await gather(self.fork(how, notes), self.note(notes))
        return exit_code

    @step(timeout=timedelta(seconds=DEAD_MAN_S))
    async def fork(self, how: str, notes: str) -> int:
        while not Path(notes).exists():  # noqa: ASYNC110, ASYNC240 - the other one is at work once it does
            await asyncio.sleep(0.001)
        await {"itself": self._itself, "in a part": self._in_a_part, "in a callback": self._in_a_callback}[
            how
        ]()
        _, status = await asyncio.to_thread(os.waitpid, ForksAndAwaits.child, 0)
        return os.waitstatus_to_exitcode(status)

    async def _itself(self) -> None:
        _fork()
        await asyncio.sleep(0)

    async def _in_a_part(self) -> None:
        await asyncio.gather(self._itself(), asyncio.sleep(0))

    async def _in_a_callback(self) -> None:
        asyncio.get_running_loop().call_soon(_fork)
        await asyncio.sleep(0.1)

    @step(timeout=timedelta(seconds=DEAD_MAN_S))
    async def note(self, notes: str) -> None:
        for _ in range(200):
            _take_note(Path(notes))
            await asyncio.sleep(0.001)


def _take_note(notes: Path) -> None:
    with notes.open("a") as file:
        print(os.getpid(), file=file)


def _fork() -> None:
    child = os.fork()
    if child == 0:
        signal.alarm(int(DEAD_MAN_S))
    ForksAndAwaits.child = child


def isolated_step_of_a_daemon(path: str, answers: Any) -> None:
    with FlowSystem(path, flows=[Forks]) as system:
        answers.put(
            (system.run(Forks.main, "isolated", "exits")[1], multiprocessing.current_process().daemon)
        )
