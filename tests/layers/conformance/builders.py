"""Writes with defaults, so that a test only says what it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persistasaurus.store import Append, Deliver, HeaderChange, NewRecord, StreamState

if TYPE_CHECKING:
    from persistasaurus.store import EventStore, Outcome, Write

AT = 1_760_000_000_000_000
SECOND = 1_000_000
ADA = "signup-ada"
BOB = "signup-bob"


class Clock:
    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


def record(data: bytes = b"{}", *, kind: str = "step_completed", at: int = AT) -> NewRecord:
    return NewRecord(at, kind, data)


def header(
    status: str = "running", state: StreamState = StreamState.OPEN, wake_at: int | None = None
) -> HeaderChange:
    return HeaderChange(status, state, wake_at)


ENDED = header("completed", StreamState.ENDED)
FAILED = header("failed", StreamState.FAILED)


def create(
    stream: str = ADA, *records: NewRecord, change: HeaderChange | None = None, kind: str = "signup"
) -> Append:
    return Append(stream, 0, records or (record(kind="flow_started"),), change or header(), kind)


def append(  # noqa: PLR0913 - all but one have a default
    expected: int,
    *records: NewRecord,
    stream: str = ADA,
    change: HeaderChange | None = None,
    consumed: tuple[int, ...] = (),
    rejected: tuple[tuple[int, str], ...] = (),
    given_up: tuple[tuple[str, str], ...] = (),
) -> Append:
    return Append(stream, expected, records, change, None, consumed, rejected, given_up)


def signal(  # noqa: PLR0913 - all have a default
    key: str = "mail-1",
    data: bytes = b'"yes"',
    *,
    stream: str = ADA,
    name: str = "confirm",
    at: int = AT,
    only_again: bool = False,
) -> Deliver:
    return Deliver(stream, name, key, data, at, only_again)


def write(store: EventStore, *writes: Write) -> list[Outcome]:
    return store.commit(writes)


def write_one(store: EventStore, one: Write) -> Outcome:
    (outcome,) = store.commit([one])
    return outcome


def accept(store: EventStore, *writes: Write) -> None:
    for outcome in store.commit(writes):
        assert not isinstance(outcome, Exception), outcome
