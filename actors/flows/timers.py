"""Timers: the near future in memory, the rest stays in the store.

A flow's header says when it next has something to do. What comes within the horizon is looked up
and kept as an instant that no jump of the calendar's clock can move; the rest is looked up later.
The same look finds what has been due for longer, so that no lost message can strand a flow.

However many flows are due, only a page of them is woken at a time, and the next when there is room for it:
the store is the backlog. In memory is only the nearest part of the future.

The calendar may stand before what the log says has happened: somebody has set it back while nobody
looked. Then what is owed by the calendar of the log is woken as well, and flows say when it is time.
"""

from __future__ import annotations

import heapq
import logging
from typing import TYPE_CHECKING, NamedTuple, assert_never

from ...store import StoreError
from ..runtime.actor import PooledActor, try_tell
from ..runtime.primitives import MICROSECONDS
from .clock import wall_without_jumps
from .loader import Question
from .parking import advice

if TYPE_CHECKING:
    from collections.abc import Callable

    from pykka import ActorRef

    from ...flows.machine.messages import Timestamp
    from ...store import EventStore, Header
    from ..runtime.environment import Environment
    from ..runtime.primitives import AlarmHandle
    from .clock import JumpAwareClock
    from .loader import Loader

__all__ = ["AlarmFired", "Arm", "LoadDue", "LookFrom", "Timers"]

logger = logging.getLogger("persistasaurus")

_PAGE = 250
_KNOWN_MAX = 20_000
"""Beyond so many instants, the later half is forgotten, and looked up when the first of it is due."""


class Arm(NamedTuple):
    """A flow has something to do at an instant of the clock that cannot jump."""

    flow_id: str
    elapsed: float


class AlarmFired(NamedTuple):
    """The alarm has gone off."""


class LoadDue(NamedTuple):
    """Look into the store, after a place in its order."""

    after: tuple[int, str] | None = None


class LookFrom(NamedTuple):
    """Look into the store for flows that have been due since an instant, which was left there."""

    at: int


class RoomFound(NamedTuple):
    """More of those flows may be woken whose alarm has gone off."""


def _at_once(then: Callable[[], None]) -> None:
    then()


class DuePage(NamedTuple):
    """What the store says is due soon, or why it does not; asked at this moment, at `now` by its calendar."""

    moment: Timestamp
    now: int
    answer: tuple[int, list[Header]] | Exception


class Timers(PooledActor):
    """Wakes flows when their time has come. Waking too early or twice does no harm.

    The first `LoadDue` has it begin. `when_room` calls back when more flows may be woken.
    """

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        loader: ActorRef[Loader],
        environment: Environment,
        clock: JumpAwareClock,
        wake: Callable[[str], None],
        horizon_s: float = 30.0,
        *,
        when_room: Callable[[Callable[[], None]], None] = _at_once,
    ) -> None:
        super().__init__()
        self._when_room = when_room
        self._horizon_s = horizon_s
        self._loader = loader
        self._environment = environment
        self._clock = clock
        self._wake = wake
        self._heap: list[tuple[float, str]] = []
        self._at: dict[str, float] = {}
        self._beyond: float | None = None
        """From this instant on, only the store knows whose time comes."""
        self._is_paging = False
        self._owes_look = False
        self._owes_look_from: int | None = None
        self._is_full = False
        """Whether flows whose alarm has gone off wait until there is room."""
        self._doubtful: set[str] = set()
        self._jumps = 0
        self._ahead: int | None = None
        self._is_blind = False
        self._alarm: AlarmHandle | None = None
        self._next_look: AlarmHandle | None = None
        self._alarm_at: float | None = None

    def on_stop(self) -> None:
        """Let the alarms go."""
        for alarm in (self._alarm, self._next_look):
            if alarm is not None:
                alarm.cancel()

    def on_receive(self, message: Arm | AlarmFired | LoadDue | LookFrom | DuePage | RoomFound) -> None:
        """Take a message."""
        match message:
            case Arm(flow_id, elapsed):
                self._arm(flow_id, elapsed)
            case AlarmFired():
                self._alarm_at = None
                if not self._is_full:
                    self._fire()
            case RoomFound():
                self._is_full = False
                self._fire()
            case LoadDue(None):
                self._look_anew()
            case LoadDue(after):
                self._look(after)
            case LookFrom(at):
                self._look_from(at)
            case DuePage():
                self._take_page(message)
            case _:
                assert_never(message)
        self._set_alarm()

    def _arm(self, flow_id: str, elapsed: float) -> None:
        # After a jump, what the store says cannot be had again from the calendar: it is kept.
        if elapsed > self._environment.clock.elapsed() + self._horizon_s and not self._is_shaken:
            self._at.pop(flow_id, None)
        else:
            self._doubtful.discard(flow_id)
            self._keep(flow_id, elapsed)

    def _keep(self, flow_id: str, elapsed: float) -> None:
        if self._beyond is not None and elapsed >= self._beyond and not self._is_shaken:
            self._at.pop(flow_id, None)
        elif self._at.get(flow_id) != elapsed:
            self._at[flow_id] = elapsed
            heapq.heappush(self._heap, (elapsed, flow_id))
            if len(self._heap) > _KNOWN_MAX:
                self._forget_latest()

    def _forget_latest(self) -> None:
        known = sorted((elapsed, flow_id) for flow_id, elapsed in self._at.items())
        nearest = len(known) if self._is_shaken else _KNOWN_MAX // 2
        self._heap = known[:nearest]  # without what was set to another instant since
        if len(known) > nearest:
            self._beyond = known[nearest][0]
            for _, flow_id in known[nearest:]:
                del self._at[flow_id]
                self._doubtful.discard(flow_id)
            self._look_later()

    @property
    def _is_shaken(self) -> bool:
        """Whether the calendar does not tell what the store says that it told."""
        return bool(self._jumps or self._ahead)

    def _fire(self) -> None:
        now, woken = self._environment.clock.elapsed(), 0
        while self._heap and self._heap[0][0] <= now:
            if woken == _PAGE:
                self._is_full = True
                self._when_room(lambda: self._hear(RoomFound()))
                return
            elapsed, flow_id = heapq.heappop(self._heap)
            if self._at.get(flow_id) == elapsed:  # else it was set to another instant since
                del self._at[flow_id]
                self._doubtful.discard(flow_id)
                self._wake(flow_id)
                woken += 1

    def _hear(self, message: LoadDue | LookFrom | DuePage | AlarmFired | RoomFound) -> None:
        try_tell(self.actor_ref, message)

    def _look_anew(self) -> None:
        self._owes_look = self._is_paging  # the first page comes again when the last has been taken
        if not self._is_paging:
            self._beyond = None
            self._look(None)

    def _look_from(self, at: int) -> None:
        if self._is_paging:
            self._owes_look_from = at if self._owes_look_from is None else min(at, self._owes_look_from)
        else:
            self._look((at, ""))

    def _look(self, after: tuple[int, str] | None) -> None:
        moment = self._clock.now()
        if len(moment.jumps) != self._jumps:
            self._jumps = len(moment.jumps)
            # What is due by either calendar is woken once more, and says itself when it is due. What is
            # known stays: it is right for durations, which cannot be had again from the calendar.
            self._doubtful = set(self._at)
        now = max(moment.wall, wall_without_jumps(moment))

        def done(answer: tuple[int, list[Header]] | Exception) -> None:
            self._hear(DuePage(moment, now, answer))

        question = Question(_due(now, self._ahead, self._horizon_s, after), done)
        self._is_paging = try_tell(self._loader, question)
        if not self._is_paging:
            self._look_later()

    def _take_page(self, due: DuePage) -> None:
        page: list[Header] = []
        if not isinstance(due.answer, Exception):
            self._is_blind = False
            self._ahead, page = due.answer
        elif isinstance(due.answer, StoreError):
            if not self._is_blind:
                logger.warning("Could not look up which flows are due: %s%s", due.answer, advice(due.answer))
            self._is_blind = True
        else:
            logger.error("Timers could not look into the store, and will look again", exc_info=due.answer)
        now = due.now + (self._ahead or 0)
        for header in page:
            self._take(header, now, due.moment)
        self._go_on_after(page, now, due.moment)

    def _go_on_after(self, page: list[Header], now: int, moment: Timestamp) -> None:
        self._is_paging = len(page) == _PAGE and not self._is_beyond(page[-1], now, moment)
        if self._is_paging:
            following = LoadDue((page[-1].wake_at or 0, page[-1].stream))
            self._when_room(lambda: self._hear(following))
        elif self._owes_look:
            self._hear(LoadDue())
            self._owes_look_from = None  # that look finds it, too
        elif self._owes_look_from is not None:
            self._hear(LookFrom(self._owes_look_from))
            self._owes_look_from = None
        else:
            self._look_later()

    def _is_beyond(self, header: Header, now: int, moment: Timestamp) -> bool:
        elapsed = moment.elapsed + ((header.wake_at or 0) - now) / MICROSECONDS
        return self._beyond is not None and elapsed >= self._beyond

    def _take(self, header: Header, now: int, moment: Timestamp) -> None:
        flow_id, wait = header.stream, ((header.wake_at or 0) - now) / MICROSECONDS
        known = self._at.get(flow_id)
        is_certain = known is not None and flow_id not in self._doubtful
        if wait <= 0:
            self._doubtful.discard(flow_id)
            if not (self._jumps and is_certain):
                self._wake(flow_id)
        elif known is None or not (is_certain or known <= moment.elapsed + wait):
            self._keep(flow_id, moment.elapsed + wait)

    def _look_later(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        at = self._environment.clock.elapsed() + self._horizon_s / 2
        if self._beyond is not None:
            at = min(at, self._beyond)
        self._next_look = self._environment.alarms.call_at(at, self._look_again)

    def _look_again(self) -> None:
        self._hear(LoadDue())

    def _set_alarm(self) -> None:
        at = self._heap[0][0] if self._heap and not self._is_full else None
        if at is None or (self._alarm_at is not None and self._alarm_at <= at):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self._environment.alarms.call_at(at, self._on_alarm)

    def _on_alarm(self) -> None:
        self._hear(AlarmFired())


def _due(
    now: int, ahead: int | None, horizon_s: float, after: tuple[int, str] | None
) -> Callable[[EventStore], tuple[int, list[Header]]]:
    """Return the question which flows are due, and by how much the log is ahead, unless that is known."""

    def ask(store: EventStore) -> tuple[int, list[Header]]:
        by = max((store.newest_at() or 0) - now, 0) if ahead is None else ahead
        return by, store.due(now + by + int(horizon_s * MICROSECONDS), after=after, limit=_PAGE)

    return ask
