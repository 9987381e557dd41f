"""Handles of flows in a simulated world: nothing waits, and a death in between is survived."""

# ruff: noqa: ASYNC109 - signatures are those of `FlowHandle`

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from ...flows import events
from ...flows.errors import FlowFailed, PersistasaurusError
from ..handle import FlowHandle

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..flows.client import EngineClient
    from ..system import FlowSystem

__all__ = ["SimulatedHandle"]

R = TypeVar("R")
T = TypeVar("T")


class Processes(Protocol):
    """One process after the other, each with the same store, as a handle needs them."""

    @property
    def has_died_of_the_last_call(self) -> bool:
        """Whether a process died during the last call, which was made again on the next one."""
        ...

    @property
    def system(self) -> FlowSystem:
        """The system of the process that lives now."""
        ...

    def new_id(self) -> str:
        """Make an id; the same in each run of a test."""
        ...

    def sends_first(self, flow_id: str, signal_id: str) -> bool:
        """Tell, once, that a signal was not sent before."""
        ...

    def call(self, call: Callable[[], T]) -> T:
        """Make a call that bears being repeated; before and after it, everybody does what can be done."""
        ...

    def pass_time_until_ended(self, flow_id: str, timeout: float | None) -> None:
        """Let time go by until a flow has ended.

        Raises:
            Stuck: time brings nothing any more.
            TimeoutError: it has not ended in time.
        """
        ...


class SimulatedHandle(FlowHandle[R]):
    """A `FlowHandle` whose calls go to whichever process lives now, and again when it dies of them.

    Before and after each call everybody does what can be done at once. `result` lets virtual time go by
    until the flow has ended, and its `timeout` is virtual, too; it raises `Stuck` when time brings nothing.
    """

    def __init__(self, world: Processes, flow_id: str, flow_type: str) -> None:
        self._world = world
        super().__init__(world.system.client, flow_id, flow_type)

    if not TYPE_CHECKING:
        # The signatures and docstrings are those of `FlowHandle`, overloads and all.

        @property
        def _engine(self) -> EngineClient:
            return self._world.system.client

        @_engine.setter
        def _engine(self, engine: EngineClient) -> None:
            """Whatever it was, the next call asks for the one that lives then."""

        def header(self) -> Any:
            return self._insist(FlowHandle.header)

        def result(self, timeout: float | None = None) -> Any:
            __tracebackhide__ = True  # pytest shows the line of the test
            self._world.pass_time_until_ended(self.id, timeout)
            try:
                return self._insist(FlowHandle.result)
            except FlowFailed as failure:
                if failure.traceback:
                    failure.add_note(f"Where it failed:\n{failure.traceback}")
                raise

        def signal(self, signal: Any, /, *args: Any, signal_id: str | None = None, **options: Any) -> Any:
            return self._send_known(FlowHandle.signal, (signal, *args), signal_id, options)

        def signal_json(
            self, name: str, payload: bytes = b"{}", *, signal_id: str | None = None, **options: Any
        ) -> Any:
            return self._send_known(FlowHandle.signal_json, (name, payload), signal_id, options)

        def query(self, query: Any, /, *args: Any) -> Any:
            return self._insist(FlowHandle.query, query, *args)

        def query_json(self, name: str, args: bytes = b"{}") -> bytes:
            return self._insist(FlowHandle.query_json, name, args)

        def pause(self, **reason: str) -> None:
            self._insist(FlowHandle.pause, **reason)

        def resume(self, **reason: str) -> None:
            self._insist(FlowHandle.resume, **reason)

        def retry(self, **reason: str) -> None:
            repairs = self._repairs()
            try:
                self._insist(FlowHandle.retry, **reason)
            except PersistasaurusError:
                # The process may have died of it after it was recorded: then it is done.
                if self._repairs() == repairs:
                    raise

        def events(self) -> Any:
            return self._insist(FlowHandle.events)

        async def result_async(self, timeout: float | None = None) -> Any:
            return self.result(timeout)

        async def signal_async(self, signal: Any, /, *args: Any, **options: Any) -> Any:
            return self.signal(signal, *args, **options)

        async def signal_json_async(self, name: str, payload: bytes = b"{}", **options: Any) -> Any:
            return self.signal_json(name, payload, **options)

        async def query_async(self, query: Any, /, *args: Any) -> Any:
            return self.query(query, *args)

        async def query_json_async(self, name: str, args: bytes = b"{}") -> bytes:
            return self.query_json(name, args)

        async def pause_async(self, **reason: str) -> None:
            self.pause(**reason)

        async def resume_async(self, **reason: str) -> None:
            self.resume(**reason)

        async def retry_async(self, **reason: str) -> None:
            self.retry(**reason)

        def _send_known(
            self, send: Callable[..., Any], args: tuple[Any, ...], key: str | None, options: Any
        ) -> Any:
            known = key if key is not None else self._world.new_id()
            receipt = self._insist(send, *args, signal_id=known, **options)
            if self._world.sends_first(self.id, known) and self._world.has_died_of_the_last_call:
                # It came twice because its process died, which is none of the test's doing.
                return msgspec.structs.replace(receipt, duplicate=False)
            return receipt

    def _insist(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self._world.call(lambda: method(self, *args, **options))

    def _repairs(self) -> int:
        return sum(isinstance(event.event, events.Repaired) for event in self.events())
