"""Steps of all kinds that fork. A module that any process finds."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import timedelta
from typing import Any

from persistasaurus import Flow, FlowSystem, flow, step
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


def isolated_step_of_a_daemon(path: str, answers: Any) -> None:
    with FlowSystem(path, flows=[Forks]) as system:
        answers.put(
            (system.run(Forks.main, "isolated", "exits")[1], multiprocessing.current_process().daemon)
        )
