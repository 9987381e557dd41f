"""The ledger: what has become durable, in order, and what everybody was told. It notices what must not be.

It stands between the engine and its store, and outlives every process.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from persistasaurus.flows import events
from persistasaurus.store import Append, Appended, Deliver, Delivered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from persistasaurus import Receipt, StepContext
    from persistasaurus.actors.runtime.primitives import ManualClock
    from persistasaurus.store import EventStore
    from persistasaurus.store.contract import Outcome, Write

LAG_S = 20.0
EARLY_S = 1.5
"""Jumps of the calendar by less than a second may pass for time."""

_BEGINS = (
    events.StepStarted,
    events.StepScheduled,
    events.StepAttempted,
    events.TimerSet,
    events.TimerFired,
    events.SignalAwaited,
    events.FlowCompleted,
    events.FlowFailed,
)


class Chronicle:
    """One stream, as the ledger knows it."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes]] = []
        self.attempts: set[tuple[int, int]] = set()
        self.run: set[tuple[int, int]] = set()
        self.completed: set[int] = set()
        self.received: list[str] = []
        self.keys: dict[str, Any] = {}
        self.failures: Counter[int] = Counter()
        self.at_most_once: set[int] = set()
        self.exactly_once: set[int] = set()
        self.spent: set[int] = set()
        self.seen = 0
        """How many keys an actor has told of at most."""
        self.is_paused = False
        self.is_completed = False
        self.is_failed = False
        self.dues: dict[tuple[str, int], tuple[int, float, int, bool]] = {}


class Ledger:
    """Is told of commits, effects and answers; `must` hears whether each is as it has to be."""

    def __init__(self, clock: ManualClock, must: Callable[[bool, str], None]) -> None:
        self.streams: dict[str, Chronicle] = {}
        self.lives = 0
        self.in_flight: Sequence[Write] = ()
        """What was being committed when the process died, perhaps."""
        self._born = (0, 0.0)
        self._calendars: set[int] = set()
        self._clock = clock
        self._must = must

    def born(self) -> None:
        """Take note that a process has begun."""
        self.lives += 1
        self._born = (self._clock.now(), self._clock.elapsed())
        self._calendars.clear()
        self._note_calendar()

    def of(self, stream: str) -> Chronicle:
        """Return what is known of a stream."""
        known = self.streams.get(stream)
        if known is None:
            known = self.streams[stream] = Chronicle()
        return known

    # -------------------------------------------------------------------------------------- commits
    def committed(self, writes: Sequence[Write], outcomes: Sequence[Outcome | None]) -> None:
        """Enter what has become durable."""
        self._note_calendar()
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(write, Append) and isinstance(outcome, Appended):
                self._append(write, outcome.version)
            elif isinstance(write, Deliver) and isinstance(outcome, Delivered):
                self._deliver(write, outcome)

    def compare(self, store: EventStore) -> None:
        """Find in a store, as a process does that opens it, all that was durable, and what was on its way."""
        writes, self.in_flight = self.in_flight, ()
        found = store.resolve(writes)
        # A signal may have been there before, and an append without records leaves no trace.
        new = [o for w, o in zip(writes, found, strict=True) if isinstance(w, Append) and w.records]
        self._must(len({outcome is None for outcome in new}) < 2, f"half of a batch is there: {found}")
        for write, outcome in zip(writes, found, strict=True):
            if isinstance(write, Append) and isinstance(outcome, Appended):
                self._append(write, outcome.version)
            elif isinstance(write, Deliver) and isinstance(outcome, Delivered):
                self.of(write.stream).keys.setdefault(write.key, outcome.at)
        for stream, known in self.streams.items():
            header = store.header(stream)
            version = 0 if header is None else header.version
            self._must(
                version == len(known.records), f"{stream!r} was at {len(known.records)}, and is at {version}"
            )

    def _append(self, write: Append, version: int) -> None:
        known = self.of(write.stream)
        self._must(
            write.expected == len(known.records) and version == write.expected + len(write.records),
            f"{write.stream!r} was at {len(known.records)}, and appended {len(write.records)} behind"
            f" {write.expected}, to {version}",
        )
        was_paused = known.is_paused
        for record in write.records:
            known.records.append((record.kind, record.data))
            if write.stream.startswith("actor"):
                continue
            event = events.decode(record.data)
            self._must(
                not (was_paused and known.is_paused and isinstance(event, _BEGINS)),
                f"{write.stream!r} is paused, and goes on: {event}",
            )
            self._enter(write.stream, known, event, record.at)

    def _enter(self, stream: str, known: Chronicle, event: events.AnyEvent, at: int) -> None:  # noqa: C901, PLR0912 - one case an event
        must = self._must
        is_over = known.is_completed or (known.is_failed and not isinstance(event, events.Repaired))
        late = isinstance(event, events.StepCompleted | events.StepFailed | events.StepInterrupted)
        must(not is_over or (late and not known.is_completed), f"{stream!r} goes on behind its end: {event}")
        match event:
            case events.StepStarted():
                _begin(known, event)
            case events.StepScheduled():
                self._due(known, ("step", event.step), event.due, at)
            case events.StepAttempted():
                must((event.step, event.attempt) not in known.attempts, f"{stream!r}: twice the same {event}")
                known.attempts.add((event.step, event.attempt))
                must(
                    event.step not in known.spent,
                    f"{stream!r}: nobody has said that it may run again: {event}",
                )
                known.spent |= known.at_most_once & {event.step}
                self._not_early(stream, known, ("step", event.step), at)
            case events.StepCompleted():
                must(event.step not in known.completed, f"{stream!r}: completed twice: {event}")
                known.completed.add(event.step)
            case events.StepFailed():
                known.failures[event.step] += 1
                known.spent.discard(event.step)
                must(event.step not in known.completed, f"{stream!r}: failed after it completed: {event}")
                if event.retry_at is not None:
                    self._due(known, ("step", event.step), event.retry_at, at)
            case events.TimerSet():
                self._due(known, ("timer", event.timer), event.due, at, until=event.until)
            case events.TimerFired():
                must(("timer", event.timer) in known.dues, f"{stream!r}: {event} was not set")
                self._not_early(stream, known, ("timer", event.timer), at)
            case events.SignalReceived():
                must(event.key in known.keys, f"{stream!r} received {event.key!r}, which nobody has sent")
                must(event.key not in known.received, f"{stream!r} received {event.key!r} twice")
                known.received.append(event.key)
            case events.Paused() | events.Resumed():
                known.is_paused = isinstance(event, events.Paused)
            case events.FlowCompleted():
                known.is_completed = True
            case events.FlowFailed():
                known.is_failed = True
            case events.StepInterrupted(begun=False):
                known.spent.discard(event.step)
            case events.Repaired():
                known.is_failed = False
                known.spent.clear()
            case _:
                pass

    def _due(
        self, known: Chronicle, what: tuple[str, int], due: int, at: int, *, until: bool = False
    ) -> None:
        known.dues[what] = (due, self._decided(at) + (due - at) / 1e6, self.lives, until)

    def _decided(self, at: int) -> float:
        """Tell when something was decided. Since then a slow disk took its time, or the calendar jumped."""
        now = self._clock.elapsed()
        self._note_calendar()
        instants = [(at - calendar) / 1e6 for calendar in self._calendars]
        return min((instant for instant in instants if now - LAG_S <= instant <= now), default=now)

    def _note_calendar(self) -> None:
        self._calendars.add(self._clock.now() - round(self._clock.elapsed() * 1e6))

    def _not_early(self, stream: str, known: Chronicle, what: tuple[str, int], at: int) -> None:
        """Complain about what comes before its time; time, of which the process may know."""
        if what not in known.dues:
            return
        due, elapsed, life, until = known.dues.pop(what)
        # A process knows how long it has waited itself, and of the time before only the calendar,
        # as it was when the process began.
        steady = self._born[0] + (self._clock.elapsed() - self._born[1]) * 1e6
        is_waiting = self._clock.elapsed() < elapsed - EARLY_S
        is_early = at < due if until else is_waiting and (life == self.lives or max(at, steady) < due)
        told = f"set in life {life} for {due} ({elapsed:.3f} s), done in life {self.lives} at {at}"
        self._must(not is_early, f"{stream!r}: {what} came before its time: {told}")

    def _deliver(self, write: Deliver, outcome: Delivered) -> None:
        keys = self.of(write.stream).keys
        self._must(
            outcome.duplicate == (write.key in keys),
            f"signal {write.key!r} of {write.stream!r}: {outcome}, and known are {sorted(keys)}",
        )
        first = keys.setdefault(write.key, outcome.at)
        self._must(first == outcome.at, f"signal {write.key!r} was answered with {first}, then {outcome.at}")

    # -------------------------------------------------------------------------------------- effects
    def touched(self, context: StepContext) -> None:
        """Take note of a step's effect, which must not be before its attempt is durable, nor twice."""
        known = self.of(context.flow_id)
        attempt = (context.step, context.attempt)
        self._must(attempt in known.attempts, f"{context} runs, and that is not recorded")
        self._must(attempt not in known.run, f"{context} runs twice")
        self._must(context.step not in known.completed, f"{context} runs, and is completed")
        known.run.add(attempt)

    # -------------------------------------------------------------------------------------- answers
    def started(self, flow_id: str) -> None:
        """Take note that a client was told that a flow exists."""
        self._must(bool(self.of(flow_id).records), f"start of {flow_id!r} was acknowledged too early")

    def acknowledged(self, flow_id: str, key: str, receipt: Receipt, *, wrong: bool) -> None:
        """Take note that a client has a receipt."""
        self._must(not wrong, f"signal {key!r} of {flow_id!r} was not refused")
        at = self.of(flow_id).keys.get(key)
        self._must(at is not None, f"signal {key!r} of {flow_id!r} was acknowledged too early")
        told = round(receipt.at.timestamp() * 1e6)
        self._must(told == at, f"signal {key!r} of {flow_id!r} came at {at}, and its receipt says {told}")

    def refused(self, flow_id: str, key: str) -> None:
        """Take note that a client was told that a flow has ended before its signal came."""
        self._must(
            key not in self.of(flow_id).keys, f"signal {key!r} of {flow_id!r} was refused, and is there"
        )
        has_ended = any(kind in ("flow_completed", "flow_failed") for kind, _ in self.of(flow_id).records)
        self._must(has_ended, f"a signal for {flow_id!r} was refused, though it has not ended")

    def told_paused(self, flow_id: str, *, on: bool) -> None:
        """Take note that a client was told that a flow is paused, or not."""
        known = self.of(flow_id)
        self._must(known.is_paused == on, f"{flow_id!r} was said to be {'paused' if on else 'resumed'}")

    def told_completed(self, flow_id: str) -> None:
        """Take note that a client has got a flow's result."""
        self._must(self.of(flow_id).is_completed, f"the result of {flow_id!r} was told too early")

    def replied(self, stream: str, keys: list[str], least: int) -> None:
        """Take note that an event-sourced actor has replied with all that it has seen.

        `least`: how much of it somebody had been told before this was asked.
        """
        known = self.of(stream)
        recorded = [msgspec.json.decode(data)["key"] for _, data in known.records]
        self._must(
            keys == recorded[: len(keys)], f"{stream!r} has replied {keys}, and has recorded {recorded}"
        )
        self._must(len(keys) >= least, f"{stream!r} had replied {least} keys, and then {keys}")
        known.seen = max(known.seen, len(keys))


def _begin(known: Chronicle, event: events.StepStarted) -> None:
    known.attempts.add((event.step, 1))
    if event.name == "add_at_most_once":
        known.at_most_once.add(event.step)
        known.spent.add(event.step)
    elif event.name == "add_once":
        known.exactly_once.add(event.step)
