"""Handles of flows in a simulated world: nothing blocks, and the process may die during a call."""

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
    """What a handle needs of a `World`, which documents it."""

    @property
    def has_died_of_the_last_call(self) -> bool: ...
    @property
    def system(self) -> FlowSystem: ...
    def new_id(self) -> str: ...
    def sends_first(self, flow_id: str, signal_id: str) -> bool: ...
    def call(self, call: Callable[[], T]) -> T: ...
    def pass_time_until_ended(self, flow_id: str, timeout: float | None) -> None: ...


class SimulatedHandle(FlowHandle[R]):
    """A `FlowHandle` whose calls go to the current process, and are repeated when it dies of them.

    Before and after each call, everything runs that can run now. `result` lets virtual time pass until the
    flow has ended; its `timeout` is virtual, too. It raises `Stuck` when nothing more will happen by itself.
    """

    def __init__(self, world: Processes, flow_id: str, flow_type: str) -> None:
        self._world = world
        super().__init__(world.system.client, flow_id, flow_type)

    if not TYPE_CHECKING:
        # The signatures are those of `FlowHandle`, overloads and all.

        @property
        def _engine(self) -> EngineClient:
            return self._world.system.client

        @_engine.setter
        def _engine(self, engine: EngineClient) -> None:
            """Ignored: each call uses the current process."""

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
                # It came twice because the process died, not because the test sent it twice.
                return msgspec.structs.replace(receipt, duplicate=False)
            return receipt

    def _insist(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self._world.call(lambda: method(self, *args, **options))

    def _repairs(self) -> int:
        return sum(isinstance(event.event, events.Repaired) for event in self.events())
