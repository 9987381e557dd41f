"""Ctrl-C, or any asynchronous exception, at each instruction of whoever sends: all others go on as usual."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import persistasaurus
import pykka
import pytest
from persistasaurus import Flow, FlowSystem, flow, query, step, wait_for
from persistasaurus.actors.runtime.actor import PooledActor, StopFlag
from persistasaurus.actors.runtime.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

DEAD_MAN_S = 30
INSTRUCTIONS_MAX = 20_000
OURS = (
    str(Path(persistasaurus.__file__).parent / "actors"),
    str(Path(persistasaurus.__file__).parent / "flows"),
    str(Path(pykka.__file__).parent),
)


class Struck(BaseException):
    """Stands for `KeyboardInterrupt`."""


def struck_at(number: int, call: Callable[[], Any]) -> bool:
    """Make a call that is struck just before its n-th instruction in our code; False: it has fewer."""
    left = number

    def instruction(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "opcode":
            left -= 1
            if left < 0:
                raise Struck
        return instruction

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return instruction

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    except Struck:
        return True
    finally:
        sys.settrace(before)
    return left < 0


def elsewhere(call: Callable[[], Any]) -> Any:
    """Make a call on another thread, which must not take for ever."""
    answers: list[Any] = []
    thread = Thread(target=lambda: answers.append(call()), daemon=True)
    thread.start()
    thread.join(DEAD_MAN_S)
    assert answers, "another thread is not answered"
    return answers[0]


def at_each_instruction(call: Callable[[], Any], works: Callable[[], Any]) -> None:
    number = 0
    while struck_at(number, call):
        works()
        number += 1
        assert number < INSTRUCTIONS_MAX, "it has no end"
    assert number > 10, "hardly anything was struck"
    print(f"struck at {number} instructions")  # noqa: T201 - how much was tried


class Echo(PooledActor):
    def on_receive(self, message: Any) -> Any:
        return message


@pytest.fixture(name="echo")
def _echo() -> Any:
    dispatcher = Dispatcher("struck")
    yield Echo.start_on(dispatcher)
    assert dispatcher.close(timeout=DEAD_MAN_S)


@pytest.mark.parametrize("asks", [False, True])
def test_an_actor_goes_on_though_a_sender_is_struck(echo: Any, *, asks: bool) -> None:
    def call() -> None:
        if asks:
            assert echo.ask("hello", timeout=DEAD_MAN_S) == "hello"
        else:
            echo.tell("hello")

    at_each_instruction(call, lambda: elsewhere(lambda: echo.ask("works", timeout=DEAD_MAN_S)))


def test_an_actor_can_be_stopped_though_somebody_is_struck_who_waits_for_that() -> None:
    flag = StopFlag()
    at_each_instruction(lambda: flag.wait(0.001), lambda: None)

    elsewhere(lambda: flag.set() or True)

    assert flag.wait(DEAD_MAN_S)


class Worked(Flow):
    @flow(name="struck")
    async def main(self) -> int:
        self.n = await wait_for("n", int)
        return await self.twice(self.n)

    @step
    def twice(self, n: int) -> int:
        return 2 * n

    @query
    def seen(self) -> bool:
        return True


@pytest.fixture(name="system")
def _system() -> Any:
    with FlowSystem(flows=[Worked]) as system:
        yield system


def works(system: FlowSystem) -> None:
    def round_trip() -> int:
        handle = system.start(Worked.main)
        handle.signal("n", 2)
        return handle.result(timeout=DEAD_MAN_S)

    assert elsewhere(round_trip) == 4


@pytest.mark.parametrize("what", ["start", "signal", "query", "result", "pause"])
def test_a_system_goes_on_though_a_caller_is_struck(system: FlowSystem, what: str) -> None:
    handle = system.start(Worked.main, flow_id="f")
    handle.pause()

    def wait_in_vain() -> None:
        with pytest.raises(TimeoutError):
            handle.result(timeout=0.001)

    calls = {
        "start": lambda: system.start(Worked.main),
        "signal": lambda: handle.signal("n", 1),
        "query": lambda: handle.query(Worked.seen),
        "result": wait_in_vain,
        "pause": handle.pause,
    }
    at_each_instruction(calls[what], lambda: works(system))
