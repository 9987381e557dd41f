"""The intake: takes up what other processes have left in the spool, and answers it.

Orders for one flow are handled one after the other, in the order in which they were left; those for
different flows meanwhile. An order is answered when what it came to is durable, and removed when it has been
answered. A process that dies before the answer meets it again at its next start; one that was answered is
never done again.

It does nothing but look into a folder, some twenty times a second, and hand on what it finds. What it
cannot read is set aside, and what cannot be done now stays where it is and is tried again.
"""

from __future__ import annotations

import logging
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from ...flows.errors import PayloadError, PersistasaurusError, StoreUnavailable, SystemClosed
from ...store import Deliver, StoreError
from ...store.files.private_folder import NotAFileError
from ..flows import requests
from ..flows.admission import checked_id
from ..flows.client import Receipt
from ..persistence.journal import tell
from ..runtime.actor import PooledActor
from ..runtime.futures import PooledFuture, Reply
from .protocol import (
    Answered,
    Order,
    PauseOrder,
    ResumeOrder,
    RetryOrder,
    SignalOrder,
    answered_with,
    decode_order,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...store.files.spool import Spool
    from ..flows.client import EngineClient
    from ..runtime.primitives import AlarmHandle

__all__ = ["Intake", "LookIn"]

logger = logging.getLogger("persistasaurus")

_PAUSE_S = (0.005, 0.05)
# What could not be done is tried again, and what could not even be read or moved, after so long.
_PATIENCE_S = (1.0, 30.0)
_SHUN_S = 60.0
_SWEEP_S = 600.0
_AT_ONCE = 16
_SIGNALS_MAX = 64
_FIRST_MAX = 1000
"""So many orders are taken before flows begin, at most."""
_NOT_NOW = (StoreUnavailable, SystemClosed)


class LookIn(NamedTuple):
    """Look into the spool."""


class More(NamedTuple):
    """Go on with what the last look has found."""


class Heard(NamedTuple):
    """What an order has come to is known."""

    lane: Lane
    data: bytes
    is_signal: bool
    future: PooledFuture[Any]


class Lane:
    """The orders for one flow, first come first served; only the first is at work."""

    __slots__ = ("answer", "flow_id", "is_busy", "names", "needs_flow", "not_before", "patience_s")

    def __init__(self, flow_id: str) -> None:
        self.flow_id = flow_id
        self.names: deque[str] = deque()
        self.is_busy = False
        self.needs_flow = False
        self.not_before = 0.0
        self.patience_s = _PATIENCE_S[0]
        self.answer: Answered | None = None
        """Of the first one, as long as it could not be written."""

    def put_off(self, now: float, why: object) -> None:
        """Try again later, and later each time; nobody is to hear of it more often than that."""
        logger.warning("An order for flow %r stays in the spool for now: %s", self.flow_id, why)
        self.not_before = now + self.patience_s
        self.patience_s = min(2 * self.patience_s, _PATIENCE_S[1])

    def next(self) -> str:
        """Let go of the first one, and return its name."""
        self.answer, self.not_before, self.patience_s = None, 0.0, _PATIENCE_S[0]
        return self.names.popleft()


class Intake(PooledActor):
    """Polls the spool of a system's store. The first `LookIn` has it begin."""

    def __init__(
        self, engine: EngineClient, spool: Spool, let_begin: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self._let_begin = let_begin
        self._taken = 0
        self._engine = engine
        self._spool = spool
        self._clock = engine.environment.clock
        self._backlog: deque[str] = deque()
        self._lanes: dict[str, Lane] = {}
        self._known: set[str] = set()
        self._signals = 0
        self._is_full = False
        self._shunned: dict[str, float] = {}
        self._pause_s = _PAUSE_S[1]
        self._alarm: AlarmHandle | None = None
        self._sweep_at = 0.0
        self._complaint = ""

    def on_stop(self) -> None:
        """Look no more. What is there stays for the next start."""
        if self._alarm is not None:
            self._alarm.cancel()

    def on_receive(self, message: LookIn | More | Heard) -> None:
        """Take a message. Whatever goes wrong with one order, the others go on."""
        try:
            match message:
                case LookIn():
                    self._look()
                case More():
                    self._take_some()
                case Heard():
                    self._heard(message)
                case _:
                    assert_never(message)
        except Exception:
            logger.exception("The intake could not handle %s", type(message).__name__)
            self._taken = _FIRST_MAX
            if not isinstance(message, Heard):
                self._look_later()
        if self._let_begin is not None:
            self._see_whether_flows_may_begin(self._let_begin)

    def _see_whether_flows_may_begin(self, let_begin: Callable[[], None]) -> None:
        """Let flows begin once the pauses have been done that were asked for while nothing ran.

        So a person can stop a flow whose code takes the process down. What needs a flow at work for it waits.
        """
        is_read = not self._backlog or self._taken >= _FIRST_MAX
        if is_read and not any(lane.is_busy and not lane.needs_flow for lane in self._lanes.values()):
            self._let_begin = None
            let_begin()

    # ---------------------------------------------------------------------------------------- looking
    def _look(self) -> None:
        names = self._found()
        now = self._clock.elapsed()
        if self._shunned:
            self._shunned = {name: at for name, at in self._shunned.items() if at > now and name in names}
        self._backlog = deque(n for n in names if n not in self._known and n not in self._shunned)
        self._pause_s = _PAUSE_S[0] if self._backlog else min(2 * self._pause_s, _PAUSE_S[1])
        put_off = (lane for lane in self._lanes.values() if not lane.is_busy and lane.not_before <= now)
        for lane in list(islice(put_off, _AT_ONCE)):
            self._go_on(lane)
        if self._sweep_at <= now:
            self._sweep_at = now + _SWEEP_S
            self._spool.sweep()
        self._take_some()

    def _found(self) -> list[str]:
        """Return the names of what waits; none, when this system is not, or no longer, the one to take it."""
        try:
            self._engine.admission.check_open()
            names = self._spool.pending()
            if names:
                names = _without_gaps(names, self._spool.pending())
        except PersistasaurusError:
            return []
        except (StoreError, OSError) as error:
            self._complain(f"The spool cannot be read, and nothing is taken from it: {error}")
            return []
        self._complaint = ""
        return names

    def _complain(self, text: str) -> None:
        """Log what is wrong, once for as long as it is the same."""
        if text != self._complaint:
            self._complaint = text
            logger.error("%s", text)

    def _take_some(self) -> None:
        """Read a few of those found; the supervisor shares this thread, and has its turn in between."""
        for _ in range(min(_AT_ONCE, len(self._backlog))):
            if self._signals >= _SIGNALS_MAX:
                self._is_full = True  # of payloads; the next that is heard makes room
                return
            self._taken += 1
            self._take(self._backlog.popleft())
        if self._backlog:
            self.actor_ref.tell(More())
        else:
            self._look_later()

    def _look_later(self) -> None:
        at = self._clock.elapsed() + self._pause_s
        self._alarm = self._engine.environment.alarms.call_at(at, self._remind)

    def _remind(self) -> None:
        tell(self.actor_ref, LookIn())

    def _take(self, name: str) -> None:
        """Read an order, and begin with it unless others for the same flow come first."""
        try:
            found = self._order(name)
        except OSError as error:
            self._shun(name, f"cannot be read, and is left for now: {error}")
            return
        if found is None:
            return
        flow_id = found[0].flow_id
        lane = self._lanes.get(flow_id)
        if lane is None:
            lane = self._lanes[flow_id] = Lane(flow_id)
        lane.names.append(name)
        self._known.add(name)
        if len(lane.names) == 1:
            self._begin(lane, *found)

    def _order(self, name: str) -> tuple[Order, bytes] | None:
        """Return an order with its bytes; None: it is gone, or was none and is out of the way.

        Raises:
            OSError: it cannot be read now.
        """
        try:
            data = self._spool.read(name)
        except NotAFileError as error:
            self._set_aside(name, str(error))
            return None
        if data is None:
            return None
        try:
            order = decode_order(data)
            checked_id(order.flow_id, "flow id")
        except (PayloadError, ValueError) as error:
            self._turn_away(name, data, error)
            return None
        return order, data

    def _set_aside(self, name: str, reason: str) -> None:
        logger.warning("%a in the spool is set aside: %s", name, reason)
        try:
            self._spool.set_aside(name, reason)
        except StoreError as error:
            self._shun(name, f"could not be set aside, and is passed over: {error}")

    def _turn_away(self, name: str, data: bytes, error: Exception) -> None:
        """Refuse what is no order."""
        logger.warning("%s in the spool is refused: %s", name, error)
        answer = Answered(kind=PersistasaurusError.__name__, error=str(error))
        try:
            self._spool.refuse(name, data, answer.error)
            self._spool.answer(name, encode(answer))
        except StoreError as failure:
            self._shun(name, f"could not be refused, and is passed over: {failure}")

    def _shun(self, name: str, what: str) -> None:
        self._shunned[name] = self._clock.elapsed() + _SHUN_S
        logger.warning("%a in the spool %s", name, what)

    # --------------------------------------------------------------------------------------- handling
    def _go_on(self, lane: Lane) -> None:
        """Work on the first order of a lane; those that are gone meanwhile are passed over."""
        while lane.names:
            try:
                found = self._order(lane.names[0])
            except OSError as error:
                lane.put_off(self._clock.elapsed(), error)
                return
            if found is None:
                self._known.discard(lane.next())
            elif lane.answer is not None:
                self._answer(lane, lane.answer, found[1])
                return
            else:
                self._begin(lane, *found)
                return
        del self._lanes[lane.flow_id]

    def _begin(self, lane: Lane, order: Order, data: bytes) -> None:
        try:
            self._engine.check_open()
        except PersistasaurusError as error:
            lane.put_off(self._clock.elapsed(), error)
            return
        lane.is_busy = True
        lane.needs_flow = isinstance(order, ResumeOrder | RetryOrder)
        is_signal = isinstance(order, SignalOrder)
        self._signals += is_signal
        try:
            reply = self._hand_on(order)
        except Exception as error:  # noqa: BLE001 - it is the sender's
            reply = Reply[Any]()
            reply.fail(error)
        reply.add_done_callback(lambda future: self._hear(Heard(lane, data, is_signal, future)))

    def _hear(self, heard: Heard) -> None:
        tell(self.actor_ref, heard)

    def _hand_on(self, order: Order) -> Reply[Any]:
        """Have an order carried out the way of `FlowHandle`; the reply comes when it is durable."""
        flow_id, by, reply = order.flow_id, order.by, Reply[None]()
        match order:
            case SignalOrder():
                return self._send(order)
            case PauseOrder():
                self._engine.ask(requests.Pause(flow_id, by, order.why, reply))
            case ResumeOrder():
                self._engine.ask(requests.Resume(flow_id, by, order.why, reply))
            case RetryOrder():
                self._engine.ask(requests.Retry(flow_id, by, order.why, reply, order.version))
            case _:
                assert_never(order)
        return reply

    def _send(self, order: SignalOrder) -> Reply[Receipt]:
        call = self._engine.admission.signal_json(order.flow_id, order.name, bytes(order.payload))
        key = checked_id(order.signal_id, "signal id")
        # An instant to come, by a clock that has been set back since, would have the flow wait for it.
        at = min(order.at, self._clock.now())
        return self._engine.deliver(Deliver(order.flow_id, call.name, key, call.data, at))

    def _heard(self, heard: Heard) -> None:
        heard.lane.is_busy = False
        self._signals -= heard.is_signal
        try:
            self._conclude(heard)
        finally:
            if self._is_full and self._signals < _SIGNALS_MAX:
                self._is_full = False
                self.actor_ref.tell(More())

    def _conclude(self, heard: Heard) -> None:
        """Answer, unless it is not known what has become of it, or it could not be done now."""
        try:
            value = heard.future.get(timeout=0)
        except _NOT_NOW as error:
            heard.lane.put_off(self._clock.elapsed(), error)
        except Exception as error:  # noqa: BLE001 - it is the sender's
            self._answer(heard.lane, answered_with(error), heard.data)
        else:
            answer = Answered(receipt=value if isinstance(value, Receipt) else None)
            self._answer(heard.lane, answer, heard.data)

    def _answer(self, lane: Lane, answer: Answered, data: bytes) -> None:
        """Write what an order has come to, and only then let go of it."""
        name = lane.names[0]
        try:
            if not answer.is_done:
                logger.warning("An order for flow %r is refused: %s", lane.flow_id, answer.error)
                self._spool.refuse(name, data, answer.error)
            # Whatever is not a signal has no key to know it by, should it come back.
            self._spool.answer(name, encode(answer), durable=answer.receipt is None)
        except StoreError as error:
            lane.answer = answer
            lane.put_off(self._clock.elapsed(), error)
        else:
            self._known.discard(lane.next())
            self._go_on(lane)


def _without_gaps(names: list[str], later: list[str]) -> list[str]:
    """Return those of the names that nothing can be missing in front of.

    A long folder is listed in parts. Of two orders that a sender leaves meanwhile, the second may be seen,
    and the first not; but that one was there when the first listing ended, and so is in the `later` one.
    """
    missed = min(set(later).difference(names), default=None)
    return names if missed is None else [name for name in names if name < missed]
