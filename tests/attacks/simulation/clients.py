"""Clients: they ask for one thing after the other, and ask again for what was not acknowledged.

Each is idempotent as a client should be: it has ids of its own. It takes its turns in the simulation's
schedule like everybody else, and outlives every process.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from persistasaurus import (
    FlowAlreadyExists,
    FlowEnded,
    FlowFailed,
    FlowNotFound,
    FlowParked,
    NondeterminismError,
    Overloaded,
    PersistasaurusError,
    Refused,
    SignalRejected,
    StoreUnavailable,
    SystemClosed,
)
from persistasaurus.actors.flows import requests
from persistasaurus.actors.handle import FlowHandle
from persistasaurus.actors.remote.protocol import SignalRequest, decode_response, encode
from persistasaurus.actors.runtime.futures import Reply
from simulation.outside import world
from simulation.reference_flows import Account

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from persistasaurus import FlowSystem
    from simulation.run import Run

_AGAIN = (StoreUnavailable, SystemClosed, Overloaded, FlowNotFound)


class Order:
    """Something that a client wants. `ask` returns a future reply, or None when it is done already."""

    again_s = 0.2

    def ask(self, run: Run, system: FlowSystem) -> Any:
        raise NotImplementedError

    def answered(self, run: Run, value: Any) -> bool:
        """Take the answer; False: it has to be asked for again, a little later."""
        return True

    def refused(self, run: Run, error: Exception) -> bool:
        """Take a refusal; True: that is fine, False: it is asked for again, a little later."""
        run.must(isinstance(error, _AGAIN), f"{type(self).__name__} was refused: {error!r}")
        return False


class Start(Order):
    """Start a flow."""

    def __init__(self, flow_id: str, flow: Any, *args: Any) -> None:
        self.flow_id = flow_id
        self._flow = flow
        self._args = args

    def ask(self, run: Run, system: FlowSystem) -> Any:
        return system._start(self._flow, self._args, {}, self.flow_id).reply

    def answered(self, run: Run, value: Any) -> bool:
        run.ledger.started(self.flow_id)
        return True


class StartToEnd(Start):
    """Start a flow, and hear of its end by the reply that came along with the start."""

    def ask(self, run: Run, system: FlowSystem) -> Any:
        start = system._start(self._flow, self._args, {}, self.flow_id)
        reply = Reply[Any]()

        def on_started(_: Any) -> None:
            try:
                start.reply.get(timeout=0)
            except Exception as error:  # noqa: BLE001 - the order decides what to make of it
                reply.fail(error)
            else:
                start.end.add_done_callback(on_end)

        def on_end(_: Any) -> None:
            try:
                reply.resolve(start.end.get(timeout=0))
            except Exception as error:  # noqa: BLE001 - as above
                reply.fail(error)

        start.reply.add_done_callback(on_started)
        return reply

    def answered(self, run: Run, value: Any) -> bool:
        if value is not None:  # otherwise it has been started, and somebody has to look
            run.ledger.told_completed(self.flow_id)
        return super().answered(run, value)


class StartAnother(Start):
    """Start another flow under the id of one that exists."""

    def answered(self, run: Run, value: Any) -> bool:
        run.must(False, f"another flow was started as {self.flow_id!r}, which exists")
        return True

    def refused(self, run: Run, error: Exception) -> bool:
        return isinstance(error, FlowAlreadyExists) or super().refused(run, error)


class Send(Order):
    """Send a signal; `wrong`: its payload, or its name, fits nothing that is declared, so it is refused.

    `odd`: it fits nothing that the flow waits for by a computed name: refused where it waits now.
    """

    def __init__(
        self, flow_id: str, signal: Any, *args: Any, key: str, wrong: bool = False, odd: bool = False
    ) -> None:
        self._flow_id = flow_id
        self._signal = signal
        self._args = args
        self._key = key
        self._wrong = wrong
        self._odd = odd

    def ask(self, run: Run, system: FlowSystem) -> Any:
        handle: FlowHandle[Any] = FlowHandle(system.client, self._flow_id, "")
        if self._wrong:
            name = self._signal if isinstance(self._signal, str) else self._signal.name
            return handle._send_json(name, b'"no number"', self._key)
        return handle._send(self._signal, self._args, self._key)

    def answered(self, run: Run, value: Any) -> bool:
        run.ledger.acknowledged(self._flow_id, self._key, value, wrong=self._wrong)
        return True

    def refused(self, run: Run, error: Exception) -> bool:
        if isinstance(error, FlowEnded):
            run.ledger.refused(self._flow_id, self._key)
            return run.ledger.of(self._flow_id).is_completed  # one that has failed will be repaired
        may_be = self._wrong or self._odd
        return (may_be and isinstance(error, SignalRejected)) or super().refused(run, error)


class Post(Send):
    """Leave a request for a signal, once, and come back until there is a response."""

    again_s = 0.5

    def __init__(self, flow_id: str, signal: Any, *args: Any, key: str, wrong: bool = False) -> None:
        super().__init__(flow_id, signal, *args, key=key, wrong=wrong)
        self._left_as = ""

    def ask(self, run: Run, system: FlowSystem) -> Any:
        if not self._left_as:
            self._left_as = run.requests.add(encode(self._asked(run.simulation.clock.now())))
        data, reply = run.requests.take_response(self._left_as), Reply[Any]()
        if data is None:
            reply.resolve(None)
            return reply
        self._left_as = ""
        try:
            receipt = decode_response(data).result(self._flow_id)
        except PersistasaurusError as error:
            reply.fail(error)
        else:
            run.must(receipt is not None, f"signal {self._key!r} was answered without a receipt")
            reply.resolve(receipt)
        return reply

    def _asked(self, at: int) -> SignalRequest:
        declared = not isinstance(self._signal, str)
        name = self._signal.name if declared else self._signal
        payload = self._signal(*self._args).data if declared else msgspec.json.encode(*self._args)
        raw = msgspec.Raw(payload)
        return SignalRequest(self._flow_id, "client", name=name, signal_id=self._key, payload=raw, at=at)

    def answered(self, run: Run, value: Any) -> bool:
        return value is not None and super().answered(run, value)


class Pause(Order):
    """Pause a flow, unless it cannot be any more."""

    def __init__(self, flow_id: str, *, on: bool = True) -> None:
        self._flow_id = flow_id
        self._on = on

    def ask(self, run: Run, system: FlowSystem) -> Any:
        kind = requests.PauseFlow if self._on else requests.ResumeFlow
        return FlowHandle(system.client, self._flow_id, "")._request(
            kind(self._flow_id, "client", "", Reply())
        )

    def answered(self, run: Run, value: Any) -> bool:
        run.ledger.told_paused(self._flow_id, on=self._on)
        return True

    def refused(self, run: Run, error: Exception) -> bool:
        # One that is parked cannot be paused, nor resumed until it has been repaired.
        if "is parked" in str(error):
            return self._on
        return isinstance(error, FlowEnded) or super().refused(run, error)


class Query(Order):
    """Ask a flow; `check` looks at the answer."""

    def __init__(self, flow_id: str, query: Any, check: Callable[[Any], bool]) -> None:
        self._flow_id = flow_id
        self._query = query
        self._check = check

    def ask(self, run: Run, system: FlowSystem) -> Any:
        return FlowHandle(system.client, self._flow_id, "")._ask(self._query, ())

    def answered(self, run: Run, value: Any) -> bool:
        run.must(self._check(value), f"query of {self._flow_id!r} answered {value!r}")
        return True

    def refused(self, run: Run, error: Exception) -> bool:
        # A flow whose code does not fit its history cannot be looked at.
        return isinstance(error, NondeterminismError) or super().refused(run, error)


class Wait(Order):
    """Let some time go by."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def ask(self, run: Run, system: FlowSystem) -> Any:
        reply: Reply[None] = Reply()
        at = run.simulation.clock.elapsed() + self.seconds
        system.environment.alarms.call_at(at, reply.resolve)
        return reply


class Until(Order):
    """Wait until something is in a flow's history."""

    def __init__(self, flow_id: str, kind: str) -> None:
        self._flow_id = flow_id
        self._kind = kind

    def ask(self, run: Run, system: FlowSystem) -> Any:
        if any(kind == self._kind for kind, _ in run.ledger.of(self._flow_id).records):
            return None
        return Wait(0.5).ask(run, system)

    def answered(self, run: Run, value: Any) -> bool:
        return False


class Tend(Order):
    """Look after flows until all have completed: mend what is broken, and retry what needs a person."""

    def __init__(self, flow_ids: Iterable[str]) -> None:
        self._flow_ids = list(flow_ids)

    def ask(self, run: Run, system: FlowSystem) -> Any:
        system.client.admission.check_open()
        while self._flow_ids:
            flow_id = self._flow_ids[0]
            header = system.store.header(flow_id)
            if header is not None and header.status in ("failed", "parked"):
                world().mended.add(flow_id)
                retry = requests.RetryFlow(flow_id, "tender", "", Reply(), header.version)
                return FlowHandle(system.client, flow_id, "")._request(retry)
            if header is None or header.status != "completed":
                return Wait(3.0).ask(run, system)
            self._flow_ids.pop(0)
        return None

    def answered(self, run: Run, value: Any) -> bool:
        return False

    def refused(self, run: Run, error: Exception) -> bool:
        run.must(isinstance(error, PersistasaurusError), f"retry was refused: {error!r}")
        return False


class Result(Order):
    """Wait for a flow's result."""

    again_s = 3.0

    def __init__(self, flow_id: str) -> None:
        self._flow_id = flow_id

    def ask(self, run: Run, system: FlowSystem) -> Any:
        return FlowHandle(system.client, self._flow_id, "")._watch().reply

    def answered(self, run: Run, value: Any) -> bool:
        run.ledger.told_completed(self._flow_id)
        return True

    def refused(self, run: Run, error: Exception) -> bool:
        return not isinstance(error, FlowFailed | FlowParked) and super().refused(run, error)


class Deploy(Order):
    """Have the next process run other code, and end this one: in good order, or not."""

    def __init__(self, flows: list[Any], *, orderly: bool) -> None:
        self._flows = flows
        self._orderly = orderly

    def ask(self, run: Run, system: FlowSystem) -> Any:
        if run.simulation.flows is self._flows:
            return None
        run.simulation.flows = self._flows
        run.restart(orderly=self._orderly)
        return Reply()


class Command(Order):
    """Ask an event-sourced actor for something, under a token of its own."""

    def __init__(self, call: Any, stream: str, token: str, amount: int = 0) -> None:
        self._call = call
        self._stream = stream
        self.token = token
        self._args = (token, amount) if amount else (token,)
        self._least = 0

    def ask(self, run: Run, system: FlowSystem) -> Any:
        self._least = run.ledger.of(self._stream).seen
        return system.actor(Account, self._stream)._sent(self._call, self._args, {})

    def answered(self, run: Run, value: Any) -> bool:
        self._replied(run, value)
        run.must(self._is_in(value), f"{self.token} is not in {value}")
        return True

    def refused(self, run: Run, error: Exception) -> bool:
        run.must(not run.is_calm, f"{self.token} was refused, though nothing went wrong: {error!r}")
        return super().refused(run, error)

    def _replied(self, run: Run, keys: list[str]) -> None:
        run.ledger.replied(self._stream, keys, self._least)

    def _is_in(self, keys: list[str]) -> bool:
        return any(key.split("/")[0] == self.token for key in keys)


class CommandInVain(Command):
    """Ask for what is refused after it was recorded."""

    def answered(self, run: Run, value: Any) -> bool:
        run.must(False, f"{self.token} was to be refused, and got {value}")
        return True

    def refused(self, run: Run, error: Exception) -> bool:
        if not isinstance(error, Refused):
            return super().refused(run, error)
        self._replied(run, str(error).split()[1:])
        return True


class Look(Command):
    """Query an event-sourced actor."""

    def __init__(self, call: Any, stream: str) -> None:
        super().__init__(call, stream, "")
        self._args = ()

    def answered(self, run: Run, value: Any) -> bool:
        self._replied(run, value)
        return True


class Told(Command):
    """Tell an event-sourced actor, and see later whether it has heard."""

    def ask(self, run: Run, system: FlowSystem) -> Any:
        self._least = run.ledger.of(self._stream).seen
        ref = system.actor(Account, self._stream)
        ref.tell(self._call, *self._args)
        return ref._sent(Account.seen, (), {})

    def answered(self, run: Run, value: Any) -> bool:
        self._replied(run, value)
        run.must(self._is_in(value) or not run.is_calm, f"nobody has lost {self.token}, and it is gone")
        return self._is_in(value)


class Script(NamedTuple):
    """What one client wants, in this order."""

    orders: tuple[Order, ...]


class Client:
    """Works through its orders, on process after process."""

    def __init__(self, run: Run, script: Script) -> None:
        self._run = run
        self._orders = deque(script.orders)
        self._reply: Any = None
        self._life = 0

    @property
    def is_done(self) -> bool:
        return not self._orders

    def __str__(self) -> str:
        return " then ".join(type(order).__name__ for order in self._orders)

    def revive(self) -> None:
        """Begin anew with what is not acknowledged: there is another process."""
        self._life += 1
        self._reply = None
        if self._orders:
            self._run.simulation.schedule.add(self)

    def _run_slice(self) -> None:
        """Take a turn."""
        if self._reply is None:
            self._ask()
            return
        reply, self._reply = self._reply, None
        order = self._orders[0]
        try:
            is_over = order.answered(self._run, reply.get(timeout=0))
        except Exception as error:  # noqa: BLE001 - the order decides what to make of it
            self._refuse(order, error)
        else:
            self._go_on(is_over=is_over)

    def _ask(self) -> None:
        order = self._orders[0]
        try:
            reply = order.ask(self._run, self._run.simulation.system)
        except Exception as error:  # noqa: BLE001 - the order decides what to make of it
            self._refuse(order, error)
        else:
            if reply is None:
                self._go_on(is_over=True)
            else:
                self._follow(reply)

    def _follow(self, reply: Any) -> None:
        self._reply, life = reply, self._life

        def on_done(_: Any) -> None:
            if life == self._life:
                self._run.simulation.schedule.add(self)

        reply.add_done_callback(on_done)

    def _refuse(self, order: Order, error: Exception) -> None:
        self._go_on(is_over=order.refused(self._run, error))

    def _go_on(self, *, is_over: bool) -> None:
        if is_over:
            self._orders.popleft()
            if self._orders:
                self._run.simulation.schedule.add(self)
            return
        life, schedule = self._life, self._run.simulation.schedule
        clock = self._run.simulation.clock

        def again() -> None:
            if life == self._life:
                schedule.add(self)

        self._run.simulation.system.environment.alarms.call_at(
            clock.elapsed() + self._orders[0].again_s, again
        )
