"""Handles: what users hold of a flow. A handle is an id and a way in; it costs nothing to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, TypeVarTuple, cast, overload

import msgspec

from ..flows import QueryCall, events
from ..flows.authoring.query import QueryType
from ..flows.authoring.step import is_in_step
from ..flows.errors import DeadlockError, FlowNotFound
from ..flows.values.settings import check_timeout
from ..store import Deliver, StoreError
from .flows import requests
from .flows.admission import checked_id, is_text, outside_error
from .flows.client import Receipt, from_microseconds, to_microseconds
from .flows.result_waiters import tell_if_over
from .persistence.persistent_actor import ACTOR_STATUS
from .replies import got, got_async, refuse_on_step_loop
from .runtime.futures import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import datetime
    from typing import Unpack

    from ..flows import SignalCall
    from ..store import Header
    from .flows.client import EngineClient

__all__ = ["FlowEvent", "FlowHandle", "Receipt", "from_microseconds", "to_microseconds"]

R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class FlowEvent(NamedTuple):
    """An event of a flow's history, as it is on disk."""

    version: int
    at: datetime
    event: events.AnyEvent


class FlowHandle(Generic[R]):
    """A flow, as seen from outside. Every method may be called from any thread, also while it runs.

    The `..._async` forms never block the event loop, and awaiting a handle returns the flow's result.
    All raise `SystemClosed` if the system is closed, and `StoreUnavailable` if the store could not
    confirm; you can then safely repeat the request with the same ids.
    """

    def __init__(
        self,
        engine: EngineClient,
        flow_id: str,
        flow_type: str,
        end: Reply[events.FlowCompleted | None] | None = None,
    ) -> None:
        self._engine = engine
        self._type = flow_type
        self._end = end
        self.id = flow_id

    def __repr__(self) -> str:
        return f"<FlowHandle {self.id!r}>"

    def __await__(self) -> Generator[Any, Any, R]:
        return self.result_async().__await__()

    @property
    def status(self) -> str:
        """One of running, waiting, paused, parked, completed, failed: as of the last commit.

        Raises:
            FlowNotFound: there is no such flow.
        """
        return self.header().status

    def header(self) -> Header:
        """Return the flow's header in the store, without reading its history.

        Raises:
            FlowNotFound: there is no such flow.
        """
        self._engine.admission.check_open()
        if not is_text(self.id):
            raise FlowNotFound(self.id)
        try:
            header = self._engine.store.header(self.id)
        except StoreError as error:
            raise outside_error(self.id, error) from error
        if header is None or header.status == ACTOR_STATUS:
            raise FlowNotFound(self.id)
        return header

    # ---------------------------------------------------------------------------------------- result
    def result(self, timeout: float | None = None) -> R:
        """Wait for the flow's result, up to `timeout` s; None waits without limit.

        If the flow has ended, this returns however short the timeout is; use 0 to check without waiting.

        Raises:
            FlowFailed: the flow has ended with an error.
            FlowParked: the flow needs a person.
            FlowNotFound: there is no such flow.
            DeadlockError: the wait would never end: the caller is a step of this flow, or an `async def`
                step, which must not block its loop; await the handle instead.
            TimeoutError: the flow has not ended in time; it continues.
        """
        check_timeout("result", timeout)
        if timeout is None or timeout > 0:
            refuse_on_step_loop("await the handle, or result_async()")
        self._engine.admission.check_open()
        deadline = self._deadline(timeout)
        watch: requests.Watch | None = None
        try:
            end = self._end_with_start(timeout)
            completed = None if end is None else got(end, timeout, "")
            if completed is not None:
                return self._decode(completed)
            over = self._look(timeout) if self._may_be_over(timeout) else None
            if over is None:
                watch = self._watch()
                return self._decode(got(watch.reply, self._left(deadline), ""))
        except TimeoutError:
            over = self._over()
            if over is None:
                raise TimeoutError(f"flow {self.id!r} has not ended within {timeout} s") from None
        finally:
            if watch is not None:
                self._engine.withdraw(watch)
        return self._decode(over.get())

    async def result_async(self, timeout: float | None = None) -> R:  # noqa: ASYNC109 - the same as result's
        """Await the flow's result; raises like `result`, except `DeadlockError` for blocking a loop."""
        check_timeout("result_async", timeout)
        self._engine.admission.check_open()
        deadline = self._deadline(timeout)
        watch: requests.Watch | None = None
        try:
            end = self._end_with_start(timeout)
            completed = None if end is None else await got_async(end, timeout, "")
            if completed is not None:
                return self._decode(completed)
            over = await _beside_the_loop(lambda: self._look(timeout)) if self._may_be_over(timeout) else None
            if over is None:
                watch = self._watch()
                return self._decode(await got_async(watch.reply, self._left(deadline), ""))
        except TimeoutError:
            over = await _beside_the_loop(self._over)
            if over is None:
                raise TimeoutError(f"flow {self.id!r} has not ended within {timeout} s") from None
        finally:
            if watch is not None:
                self._engine.withdraw(watch)
        return self._decode(over.get())

    def _end_with_start(self, timeout: float | None) -> Reply[events.FlowCompleted | None] | None:
        """Return the reply that came along with the start of this flow, if this handle has one."""
        if self._end is not None and not self._end.is_done and (timeout is None or timeout > 0):
            self._refuse_own_step()
        return self._end

    def _may_be_over(self, timeout: float | None) -> bool:
        """Tell whether to look into the store first.

        A flow that is at work reports its end itself. That is of no use to a caller who does not wait.
        """
        return not self._engine.is_active(self.id) or (timeout is not None and timeout <= 0)

    def _look(self, timeout: float | None) -> Reply[events.FlowCompleted] | None:
        """Return how the flow has ended, if the store says so.

        A parked flow may be about to go on: only the supervisor knows, so a caller who waits asks it.
        """
        return self._over(parked=timeout is not None and timeout <= 0)

    def _over(self, *, parked: bool = True) -> Reply[events.FlowCompleted] | None:
        """Return how the flow has ended, if the store says so."""
        reply: Reply[events.FlowCompleted] = Reply()
        return reply if tell_if_over(self._engine.store, self.id, reply, parked=parked) else None

    def _watch(self) -> requests.Watch:
        self._engine.admission.check_open()
        self._refuse_own_step()
        watch = requests.Watch(self.id, Reply(), is_in_step())
        self._engine.ask(watch)
        return watch

    def _refuse_own_step(self) -> None:
        if self._engine.is_called_by_step_of(self.id):
            raise DeadlockError(f"a step of flow {self.id!r} waits for that flow, which waits for the step")

    def _deadline(self, timeout: float | None) -> float | None:
        return None if timeout is None else self._engine.environment.clock.elapsed() + timeout

    def _left(self, deadline: float | None) -> float | None:
        return None if deadline is None else max(0.0, deadline - self._engine.environment.clock.elapsed())

    def _decode(self, event: events.FlowCompleted) -> R:
        definition = self._engine.admission.registry.find(self._type)
        if definition is None:
            return msgspec.json.decode(event.result)
        return definition.result.decode(event.result)

    # --------------------------------------------------------------------------------------- signals
    @overload
    def signal(
        self,
        signal: Callable[[Unpack[Ts]], SignalCall[Any]],
        /,
        *args: *Ts,
        signal_id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt: ...
    @overload
    def signal(
        self, signal: SignalCall[Any], /, *, signal_id: str | None = None, timeout: float | None = None
    ) -> Receipt: ...
    @overload
    def signal(
        self,
        signal: str,
        payload: Any = None,
        /,
        *,
        signal_id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt: ...
    def signal(
        self, signal: Any, /, *args: Any, signal_id: str | None = None, timeout: float | None = None
    ) -> Receipt:
        """Send a signal. It is durable when this returns; the flow takes it when it awaits it.

        A signal with the same `signal_id` is recorded once and gets the same answer, even after the flow has
        ended. Without an id, each call sends another signal.

        Raises:
            FlowNotFound: there is no such flow; nothing was written.
            FlowEnded: the flow has ended; nothing was written.
            SignalRejected: the payload does not fit, or the id was used with another; nothing was written.
            SignalNotFound: the flow can never wait for a signal of this name; nothing was written.
            Overloaded: too many signals wait for the flow; nothing was written.
            TimeoutError: there was no answer in time; you can safely repeat it with the same id.
        """
        check_timeout("signal", timeout)
        return got(self._send(signal, args, signal_id), timeout, "the signal was not confirmed")

    @overload
    async def signal_async(
        self,
        signal: Callable[[Unpack[Ts]], SignalCall[Any]],
        /,
        *args: *Ts,
        signal_id: str | None = None,
    ) -> Receipt: ...
    @overload
    async def signal_async(self, signal: SignalCall[Any], /, *, signal_id: str | None = None) -> Receipt: ...
    @overload
    async def signal_async(
        self, signal: str, payload: Any = None, /, *, signal_id: str | None = None
    ) -> Receipt: ...
    async def signal_async(self, signal: Any, /, *args: Any, signal_id: str | None = None) -> Receipt:
        """Send a signal, and wait until it is durable; raises like `signal`."""
        return await self._send(signal, args, signal_id)

    def signal_json(
        self, name: str, payload: bytes = b"{}", *, signal_id: str | None = None, timeout: float | None = None
    ) -> Receipt:
        """Send a signal whose payload is JSON; returns and raises like `signal`.

        A declared signal takes an object of its parameters by name, or the bare value when it has one.
        Unknown, missing and repeated fields are refused. A signal awaited by name takes any JSON.
        """
        check_timeout("signal_json", timeout)
        reply = self._send_json(name, payload, signal_id)
        return got(reply, timeout, "the signal was not confirmed")

    async def signal_json_async(
        self, name: str, payload: bytes = b"{}", *, signal_id: str | None = None
    ) -> Receipt:
        """Send a signal whose payload is JSON, and wait until it is durable; raises like `signal`."""
        return await self._send_json(name, payload, signal_id)

    def _send(self, signal: Any, args: tuple[Any, ...], signal_id: str | None) -> Reply[Receipt]:
        self._engine.check_open()
        return self._deliver(self._engine.admission.signal_call(self.id, signal, args), signal_id)

    def _send_json(self, name: str, payload: bytes, signal_id: str | None) -> Reply[Receipt]:
        self._engine.check_open()
        return self._deliver(self._engine.admission.signal_json(self.id, name, payload), signal_id)

    def _deliver(self, call: SignalCall[Any], signal_id: str | None) -> Reply[Receipt]:
        environment = self._engine.environment
        key = environment.new_id() if signal_id is None else checked_id(signal_id, "signal id")
        return self._engine.deliver(Deliver(self.id, call.name, key, call.data, environment.clock.now()))

    # --------------------------------------------------------------------------------------- queries
    @overload
    def query(self, query: Callable[[Unpack[Ts]], QueryCall[Any, T]], /, *args: *Ts) -> T: ...
    @overload
    def query(self, query: QueryCall[Any, T], /) -> T: ...
    def query(self, query: Any, /, *args: Any) -> Any:
        """Query the flow's state between two steps, also when it is passivated or has ended. Records nothing.

        Raises:
            FlowNotFound: there is no such flow.
            Exception: any exception that the query raises.
        """
        return self._ask(query, args).get()

    @overload
    async def query_async(self, query: Callable[[Unpack[Ts]], QueryCall[Any, T]], /, *args: *Ts) -> T: ...
    @overload
    async def query_async(self, query: QueryCall[Any, T], /) -> T: ...
    async def query_async(self, query: Any, /, *args: Any) -> Any:
        """Query the flow, and await the answer; raises like `query`."""
        return await self._ask(query, args)

    def query_json(self, name: str, args: bytes = b"{}") -> bytes:
        """Query the flow by the query's name, with a JSON object of its parameters; returns JSON.

        Raises:
            QueryNotFound: the flow has no query of this name.
            FlowNotRegistered: this process does not have the flow's code.
            PayloadError: the arguments do not fit, or the answer has no JSON form.
            FlowNotFound: there is no such flow.
            Exception: any exception that the query raises.
        """
        return self._ask_json(name, args).get()

    async def query_json_async(self, name: str, args: bytes = b"{}") -> bytes:
        """Query the flow by the query's name, and await the answer; raises like `query_json`."""
        return await self._ask_json(name, args)

    def _ask_json(self, name: str, args: bytes) -> Reply[bytes]:
        self._engine.check_open()
        query = self._engine.admission.query_json(self.id, name, args)
        return self._request(requests.Ask(self.id, query, (), {}, Reply()))

    def _ask(self, query: Any, args: tuple[Any, ...]) -> Reply[Any]:
        if not isinstance(query, (QueryType, QueryCall)):
            named = f", handle.query(SignupFlow.{query}), and not its name" if isinstance(query, str) else ""
            raise TypeError(
                f"{query!r} is not a query: give the method of the flow's class{named}; query_json() asks by"
                " name"
            )
        call = cast("QueryCall[Any, Any]", query if isinstance(query, QueryCall) else query(*args))
        return self._request(requests.Ask(self.id, call.query, call.args, call.kwargs, Reply()))

    # ---------------------------------------------------------------------------------------- control
    def pause(self, *, by: str = "", why: str = "") -> None:
        """Pause the flow: it starts no more steps until resumed. Running steps finish and are recorded.

        Raises:
            FlowNotFound: there is no such flow.
            FlowEnded: the flow has ended.
        """
        self._request(requests.PauseFlow(self.id, by, why, Reply())).get()

    async def pause_async(self, *, by: str = "", why: str = "") -> None:
        """Pause, and wait until that is durable; raises like `pause`."""
        await self._request(requests.PauseFlow(self.id, by, why, Reply()))

    def resume(self, *, by: str = "", why: str = "") -> None:
        """Resume a paused flow; it takes up everything that has happened meanwhile. Raises like `pause`."""
        self._request(requests.ResumeFlow(self.id, by, why, Reply())).get()

    async def resume_async(self, *, by: str = "", why: str = "") -> None:
        """Resume, and wait until that is durable; raises like `pause`."""
        await self._request(requests.ResumeFlow(self.id, by, why, Reply()))

    def retry(self, *, by: str = "", why: str = "") -> None:
        """Continue a failed or parked flow from where it stopped. Completed steps are not repeated.

        Raises:
            FlowNotFound: there is no such flow.
            NondeterminismError: the code is not the one that wrote the history; nothing was changed.
            WrongStatus: the flow has neither failed nor is it parked.
        """
        self._request(requests.RetryFlow(self.id, by, why, Reply())).get()

    async def retry_async(self, *, by: str = "", why: str = "") -> None:
        """Retry, and wait until that is durable; raises like `retry`."""
        await self._request(requests.RetryFlow(self.id, by, why, Reply()))

    def _request(self, request: Any) -> Reply[Any]:
        self._engine.check_open()
        self._engine.ask(request)
        return request.reply

    # ---------------------------------------------------------------------------------------- history
    def events(self) -> list[FlowEvent]:
        """Read the flow's whole history, as of the last commit.

        Raises:
            FlowNotFound: there is no such flow.
            StoreUnavailable: it cannot be read; `verify` reports more.
        """
        self.header()
        try:
            records = self._engine.store.read(self.id)
            return [FlowEvent(r.version, from_microseconds(r.at), events.decode(r.data)) for r in records]
        except (StoreError, msgspec.MsgspecError) as error:
            raise outside_error(self.id, error) from error

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what notebooks show: a table of the events, and a diagram. Never raises."""
        del include, exclude
        return _notebook_view(self)


def register_notebook_view(view: Callable[[FlowHandle[Any]], dict[str, str]]) -> None:
    """Have notebooks show every handle by `view`: it returns texts by their MIME type, and must not raise."""
    global _notebook_view  # noqa: PLW0603 - there is one per process
    _notebook_view = view


def _plain_view(handle: FlowHandle[Any]) -> dict[str, str]:
    return {"text/plain": repr(handle)}


_notebook_view: Callable[[FlowHandle[Any]], dict[str, str]] = _plain_view


async def _beside_the_loop(look: Callable[[], T]) -> T:
    """Read the store on a thread: a read may wait for the disk, and an event loop must not."""
    import asyncio  # noqa: PLC0415 - whoever awaits has it already

    return await asyncio.to_thread(look)
