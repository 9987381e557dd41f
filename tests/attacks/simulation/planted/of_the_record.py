"""Bugs of the journal and of the store: what is said to be durable and is not, and the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from persistasaurus.actors.persistence import journal
from persistasaurus.actors.persistence.journal import Entry, Journal
from persistasaurus.store import Append, Appended, Delivered, SqliteStore, StreamState
from persistasaurus.store.sqlite import resolve
from persistasaurus.store.sqlite import store as sqlite
from persistasaurus.store.sqlite.batch import WriteBatch
from persistasaurus.store.sqlite.streams import Stream
from persistasaurus.store.sqlite.writer import Writer
from simulation.planted.planting import bug, wrap

if TYPE_CHECKING:
    import pytest


def _promised(write: Any) -> Any:
    """Make up the outcome that a write will have, if all goes well."""
    if isinstance(write, Append):
        return Appended(write.expected + len(write.records))
    return Delivered(10**9, write.at, duplicate=False)


def _nobody(_: Any) -> None:
    """Hear nothing."""


# ------------------------------------------------------------------------------------------ journal
@bug
def acknowledge_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Whoever writes is told that it is durable before the commit has even begun."""

    def commit(before: Any, self: Any, entries: list[Entry]) -> None:
        early = [entry for entry in entries if isinstance(entry.write, Append)]
        journal._answer(early, [_promised(entry.write) for entry in early])
        before(self, [e if e not in early else Entry(e.write, _nobody) for e in entries])

    wrap(patch, Journal, "_commit", commit)


@bug
def group_commit_acknowledges_early(patch: pytest.MonkeyPatch) -> None:
    """The last of a group is acknowledged with the others, and committed with the next group."""
    kept: dict[int, list[Entry]] = {}

    def commit(before: Any, self: Any, entries: list[Entry]) -> None:
        late = kept.pop(id(self), [])
        last = entries[-1]
        if len(entries) > 1 and isinstance(last.write, Append):
            entries = entries[:-1]
            kept[id(self)] = [Entry(last.write, _nobody)]
            before(self, [*late, *entries])
            journal._answer([last], [_promised(last.write)])
        else:
            before(self, [*late, *entries])

    wrap(patch, Journal, "_commit", commit)


@bug
def signal_in_memory_only(patch: pytest.MonkeyPatch) -> None:
    """A signal is acknowledged when it is in memory, and reaches the store with the next commit."""
    kept: dict[int, list[Entry]] = {}

    def commit(before: Any, self: Any, entries: list[Entry]) -> None:
        signals = [entry for entry in entries if not isinstance(entry.write, Append)]
        others = [*kept.pop(id(self), []), *(entry for entry in entries if entry not in signals)]
        kept[id(self)] = [Entry(entry.write, _nobody) for entry in signals]
        journal._answer(signals, [_promised(entry.write) for entry in signals])
        if others:
            before(self, others)

    wrap(patch, Journal, "_commit", commit)


@bug
def swallowed_store_error(patch: pytest.MonkeyPatch) -> None:
    """A commit that failed is taken for one that went well."""

    def answer(before: Any, entries: list[Entry], outcomes: list[Any]) -> None:
        errors = [isinstance(outcome, Exception) for outcome in outcomes]
        before(
            entries,
            [_promised(e.write) if bad else o for e, o, bad in zip(entries, outcomes, errors, strict=True)],
        )

    wrap(patch, journal, "_answer", answer)


@bug
def answers_mixed_up(patch: pytest.MonkeyPatch) -> None:
    """In a group of two or more everybody gets the answer of somebody else."""
    wrap(patch, journal, "_answer", lambda before, who, what: before(who, [*what[1:], *what[:1]]))


@bug
def store_never_reopened(patch: pytest.MonkeyPatch) -> None:
    """After an outage nobody tries to open the store again."""
    patch.setattr(Journal, "_later", lambda _: None)
    patch.setattr(Journal, "_looked_up", lambda *_: None)
    patch.setattr(Journal, "_reopened", lambda _: False)


@bug
def refused_without_a_word(patch: pytest.MonkeyPatch) -> None:
    """While the store is halted whoever writes is not answered at all."""

    def commit(before: Any, self: Any, entries: list[Entry]) -> None:
        if self._refusal is None:
            before(self, entries)

    wrap(patch, Journal, "_commit", commit)


# -------------------------------------------------------------------------------------------- store
@bug
def resolve_that_guesses(patch: pytest.MonkeyPatch) -> None:
    """What became of a commit without an answer is not looked up: it will have gone well."""
    patch.setattr(resolve, "outcome", lambda _, write: _promised(write))


@bug
def dedup_after_status(patch: pytest.MonkeyPatch) -> None:
    """A repeated signal is refused when the flow has ended in the meantime, though it was received."""

    def first(before: Any, self: Any, stream: Any, write: Any) -> Any:
        self._check_room(stream, write)
        return before(self, stream, write)

    wrap(patch, WriteBatch, "_first_delivery", first)


@bug
def duplicate_told_as_new(patch: pytest.MonkeyPatch) -> None:
    """The receipt of a repeated signal says that it came now."""

    def first(before: Any, self: Any, stream: Any, write: Any) -> Any:
        found = before(self, stream, write)
        return None if found is None else Delivered(found.id, write.at, duplicate=True)

    wrap(patch, WriteBatch, "_first_delivery", first)


@bug
def last_commit_lost_at_recovery(patch: pytest.MonkeyPatch) -> None:
    """Opening the store after a crash loses the newest record: the log was not read to its end."""

    def begin(before: Any, self: Any, connection: Any, *args: Any, **kwargs: Any) -> None:
        connection.execute("DELETE FROM record WHERE position = (SELECT max(position) FROM record)")
        before(self, connection, *args, **kwargs)

    wrap(patch, Writer, "__init__", begin)


@bug
def commit_not_synced(patch: pytest.MonkeyPatch) -> None:
    """A commit is over when the operating system has it."""

    def relax(before: Any, connection: Any, durability: Any) -> None:
        before(connection, durability)
        connection.pragma("synchronous", "OFF")

    wrap(patch, sqlite, "relax", relax)


@bug
def checkpoint_loses(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint forgets signals that wait still."""

    def checkpoint(before: Any, self: Any, **kwargs: Any) -> None:
        self._ready().connection.execute("UPDATE inbox SET settled = 1 WHERE settled IS NULL")
        before(self, **kwargs)

    wrap(patch, SqliteStore, "checkpoint", checkpoint)


@bug
def half_of_a_commit(patch: pytest.MonkeyPatch) -> None:
    """Of the records that belong together, only the first is written."""

    def extend(before: Any, self: Any, stream: Any, records: Any) -> None:
        before(self, stream, records[:1])

    wrap(patch, WriteBatch, "_extend", extend)


@bug
def wake_at_not_written(patch: pytest.MonkeyPatch) -> None:
    """The header does not say when the flow has something to do."""
    patch.setattr(Stream, "due", lambda _: None)


@bug
def header_status_not_updated(patch: pytest.MonkeyPatch) -> None:
    """The header keeps saying what it has said first."""

    def turn(before: Any, self: Any, stream: Any, change: Any) -> None:
        if change is not None and stream.status:
            change = msgspec.structs.replace(change, status=stream.status, state=stream.state)
        before(self, stream, change)

    wrap(patch, WriteBatch, "_update_header", turn)


@bug
def dead_letters_thrown_away(patch: pytest.MonkeyPatch) -> None:
    """Signals that nobody can take are dropped, instead of being kept for a person to look at."""
    patch.setattr(WriteBatch, "_dead_rows", lambda *_: [])


@bug
def signal_settled_in_memory_only(patch: pytest.MonkeyPatch) -> None:
    """That a signal was received is not written: the next process receives it again."""

    def settle(_: Any, self: Any, stream: Any, reasons: Any) -> None:
        for key in reasons:
            del stream.waiting[key]

    wrap(patch, WriteBatch, "_mark_consumed", settle)


@bug
def signal_order_reversed(patch: pytest.MonkeyPatch) -> None:
    """The inbox is read from its end."""
    wrap(patch, SqliteStore, "inbox", lambda before, *args, **kwargs: before(*args, **kwargs)[::-1])


@bug
def only_the_first_signal_is_read(patch: pytest.MonkeyPatch) -> None:
    """Of all that waits in the inbox only the newest is looked at."""
    wrap(patch, SqliteStore, "inbox", lambda before, *args, **kwargs: before(*args, **kwargs)[-1:])


@bug
def signals_dropped_at_failure(patch: pytest.MonkeyPatch) -> None:
    """What is in the inbox of a flow that fails is given up, though it may be let run on."""

    def decide(before: Any, self: Any, stream: Any, write: Any) -> None:
        change = write.header
        if change is not None and change.state is StreamState.FAILED:
            ended = msgspec.structs.replace(change, state=StreamState.ENDED)
            write = msgspec.structs.replace(write, header=ended)
        before(self, stream, write)

    wrap(patch, WriteBatch, "_decide", decide)


@bug
def given_up_and_not_written(patch: pytest.MonkeyPatch) -> None:
    """Signals of the history that nobody will take are given up, and nothing says so."""
    patch.setattr(WriteBatch, "_given_up", lambda *_: {})
