"""What is around a supervisor, in the hands of a test: headers, a journal, and actors that obey."""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from persistasaurus.actors.flows import requests
from persistasaurus.actors.runtime.futures import Reply
from persistasaurus.flows import events
from persistasaurus.flows.errors import PersistasaurusError, StoreUnavailable
from persistasaurus.store import Appended, Header, LoadedStream, Record, StoreHalted, StreamState
from pykka import ActorDeadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus.actors.flows.wake_flag import WakeFlag
    from persistasaurus.actors.persistence.journal import Entry

STATES = {
    "failed": StreamState.FAILED,
    "running": StreamState.OPEN,
    "paused": StreamState.HELD,
    "parked": StreamState.HELD,
}
OVER = ("completed", "failed", "parked")
WORDS = {
    "completed": events.FlowCompleted(msgspec.Raw(b"1")),
    "failed": events.FlowFailed(events.Failure("ValueError", "it fails")),
    "parked": events.Parked("unknown_flow", "the code is gone"),
}


class CountedReply(Reply[Any]):
    """Counts how often it is completed: once, and not once more."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0

    def try_complete(self, outcome: Any) -> bool:
        self.answers += 1
        return super().try_complete(outcome)


class HeaderStore:
    """Headers, and the last word of each flow; or nothing at all, while it cannot be read."""

    def __init__(self, unreadable: Callable[[str], None]) -> None:
        self.is_readable = True
        self._unreadable = unreadable
        self.on_not_loaded = unreadable
        self._statuses: dict[str, tuple[str, int]] = {}

    def status(self, flow_id: str) -> str | None:
        return self._statuses.get(flow_id, (None, 0))[0]

    def version(self, flow_id: str) -> int:
        return self._statuses.get(flow_id, (None, 0))[1]

    def write(self, flow_id: str, status: str) -> None:
        self._statuses[flow_id] = status, self.version(flow_id) + 1

    def header(self, flow_id: str) -> Header | None:
        self._look(flow_id)
        status, version = self._statuses.get(flow_id, (None, 0))
        if status is None:
            return None
        return Header(flow_id, "kind", status, STATES.get(status, StreamState.ENDED), version, None, 0, 0)

    def load(self, flow_ids: list[str], **_: int) -> list[LoadedStream | Exception | None]:
        if not self.is_readable:
            for flow_id in flow_ids:
                self.on_not_loaded(flow_id)
        found = [self.header(flow_id) for flow_id in flow_ids]
        return [None if header is None else LoadedStream(header, [], [], has_more=False) for header in found]

    def headers(self, *, status: str, after: str | None, limit: int) -> list[Header]:
        self._look("")
        found = [self.header(name) for name in sorted(self._statuses) if self.status(name) == status]
        return [header for header in found if header is not None and header.stream > (after or "")][:limit]

    def read(self, flow_id: str, *, after: int = 0) -> list[Record]:
        self._look(flow_id)
        status, version = self._statuses[flow_id]
        word = WORDS[status]
        return [Record(version, 0, events.kind(word), events.encode(word))] if after < version else []

    def _look(self, flow_id: str) -> None:
        if not self.is_readable:
            self._unreadable(flow_id)
            raise StoreHalted("it cannot be read now")


class SlowJournal:
    """Keeps what it should write until it is told what becomes of it."""

    def __init__(self, store: HeaderStore, asked: Callable[[Entry], None]) -> None:
        self._store = store
        self._asked = asked
        self.entries: deque[Entry] = deque()

    def tell(self, entry: Entry) -> None:
        self._asked(entry)
        self.entries.append(entry)

    def answer(self, *, well: bool) -> str:
        entry = self.entries.popleft()
        flow_id = entry.write.stream
        if well:
            self._store.write(flow_id, "parked")
            entry.done(Appended(self._store.version(flow_id)))
        else:
            entry.done(StoreUnavailable("nothing was written"))
        return flow_id


class Around(NamedTuple):
    """What an actor works with, and who hears what it does."""

    store: HeaderStore
    report: Callable[[Any], None]
    told: Callable[[ScriptedActor, Any], None]
    looked: Callable[[str], None]
    settled: Callable[[ScriptedActor], None]


class Stage(enum.Enum):
    STARTING = "starting"
    LIVE = "live"
    LEAVING = "leaving"
    """It has said that it goes, and what is sent to it still comes back."""
    GONE = "gone"


class ScriptedActor:
    """One incarnation of a flow, and the reference to it. It does nothing on its own."""

    def __init__(self, context: Around, flow_id: str, incarnation: int, wake_flag: WakeFlag) -> None:
        self.flow_id, self.incarnation, self.wake_flag = flow_id, incarnation, wake_flag
        self._context = context
        self._store = context.store
        # One that takes its flow to be new looks at nothing first.
        self.stage = Stage.LIVE if wake_flag.is_starting else Stage.STARTING
        self.has_looked = False
        self.mailbox: deque[Any] = deque()
        self.stash: deque[Any] = deque()
        self.writing: Any = None
        self.asked_turn = False
        self.turn_since: float | None = None
        self.idle_since: float | None = None

    @property
    def is_alive(self) -> bool:
        return self.stage in (Stage.STARTING, Stage.LIVE)

    @property
    def holds(self) -> list[Any]:
        return [*self.mailbox, *self.stash, self.writing]

    # ---------------------------------------------------------------------- the supervisor's view
    def tell(self, message: Any) -> None:
        if self.stage is Stage.GONE:
            raise ActorDeadError(self.flow_id)
        self.mailbox.append(message)
        if not isinstance(message, (requests.StopExecuting, requests.SlotGranted)):
            self.idle_since = None
        self._context.told(self, message)

    # --------------------------------------------------------------------------- what it may do
    def report(self, kind: Any, *more: Any) -> None:
        self._context.report(kind(self.flow_id, self.incarnation, *more))

    def look(self) -> None:
        """Recover, and look; what comes from here on is for the next look."""
        self.has_looked = True
        self._context.looked(self.flow_id)

    def recovered(self) -> None:
        self.stage = Stage.LIVE
        status = self._store.status(self.flow_id)
        self.report(requests.Recovered, status is None or status in OVER)

    def take(self, *, busy: bool = False) -> None:
        """Handle the next message, or keep it while a record is on its way."""
        message = self.mailbox.popleft()
        if self.writing is not None:
            self.stash.append(message)
        else:
            self._handle(message, busy=busy)

    def _handle(self, message: Any, *, busy: bool = False) -> None:
        match message:
            case requests.Wake():
                self.wake_flag.is_set = False
                self._context.looked(self.flow_id)
            case requests.Passivate() if busy or self.wake_flag.is_set:
                self.idle_since = None
                self.report(requests.Busy)
            case requests.Passivate() | requests.Stop():
                self.leave()
            case requests.Ask():
                message.reply.resolve("the answer")
            case requests.StartFlow() | requests.PauseFlow() | requests.ResumeFlow() | requests.RetryFlow():
                self.writing = message

    def written(self) -> None:
        """Learn that the record of a request is durable, and go on with what has come meanwhile."""
        message, self.writing = self.writing, None
        before = self._store.status(self.flow_id)
        after = _status_after(message, before)
        if self.wake_flag.is_starting and before is not None:  # so it is not new
            self.stash.appendleft(message._replace(may_be_new=False))
            self.leave()
            return
        if self.wake_flag.is_starting:
            self._context.settled(self)
        if after is None:
            message.reply.fail(PersistasaurusError(f"the flow is {before}"))
        else:
            if after != before:
                self._store.write(self.flow_id, after)
            message.reply.resolve(None)
        while self.stash and self.writing is None and self.is_alive:
            self._handle(self.stash.popleft())

    def end(self, status: str, *, leaves: bool) -> None:
        self._store.write(self.flow_id, status)
        self.report(requests.Ended, WORDS[status], leaves)
        if leaves:
            self._go()

    def leave(self) -> None:
        self.report(requests.Passivated)
        self._go()

    def crash(self, error: BaseException) -> None:
        self.report(requests.Crashed, error)
        begun, self.writing = self.writing, None
        if begun is not None:
            begun.reply.fail(StoreUnavailable("it may have been written"))
        self._go()

    def _go(self) -> None:
        self.stage = Stage.LEAVING
        self.idle_since = self.turn_since = None
        while self.stash:
            self._hand_back(self.stash.popleft())

    def stop(self) -> None:
        """Be gone; what is queued goes back, as dead letters do."""
        self.stage = Stage.GONE
        while self.mailbox:
            self._hand_back(self.mailbox.popleft())

    def _hand_back(self, message: Any) -> None:
        if isinstance(message, requests.Wake) or hasattr(message, "reply"):
            self._context.report(message)


def _status_after(message: Any, before: str | None) -> str | None:
    """Return the status that a request leads to; None: it is refused."""
    match message, before:
        case requests.StartFlow(), None:
            return "running"
        case requests.StartFlow(), _:
            return before
        case requests.PauseFlow(), "running" | "paused":
            return "paused"
        case requests.ResumeFlow(), "running" | "paused":
            return "running"
        case requests.RetryFlow(), "failed" | "parked":
            return "running"
    return None
