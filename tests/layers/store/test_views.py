"""The views in the file say what a replay of each flow says, whatever has happened to it."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter

import pytest
from conformance.builders import Clock, accept
from persistasaurus.flows import events
from persistasaurus.store import Append, HeaderChange, NewRecord, SqliteStore, StoreReader, StreamState
from store.histories import random_story
from store.replayed import expected, iso, pending, replay

SEEDS = range(120)
STATES = {"completed": StreamState.ENDED, "failed": StreamState.FAILED}


class Prefix:
    """A history as it was after one of its commits."""

    def __init__(self, story, length) -> None:
        self.name = f"{story.flow_id}/{length}"
        self.log = story.log[:length]
        self.machine = replay(self.log)
        self.status = story.status if self.machine is None else self.machine.status

    @property
    def is_ended(self):
        return self.status in STATES

    @property
    def expected(self):
        return expected(self.log, ended=self.is_ended)

    def written(self):
        records = tuple(NewRecord(r.at, events.kind(r.event), events.encode(r.event)) for r in self.log)
        change = HeaderChange(self.status, STATES.get(self.status, StreamState.OPEN), None)
        return Append(self.name, 0, records, change, "anything")


@pytest.fixture(scope="module")
def prefixes():
    found = [Prefix(story, length) for story in map(random_story, SEEDS) for length in story.commits]
    yield found
    for prefix in found:
        if prefix.machine is not None:
            prefix.machine.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory, prefixes):
    path = tmp_path_factory.mktemp("views") / "flows.db"
    store = SqliteStore.open(path, now=Clock())
    accept(store, *[prefix.written() for prefix in prefixes])
    store.close()
    return path


@pytest.fixture(scope="module", params=["reader", "other tool"])
def ask(request, path):
    """Ask the file, as the reader does or as any tool with an older SQLite."""
    if request.param == "reader":
        with StoreReader.open(path) as reader:
            yield lambda statement: list(reader.query(statement))
        return
    tool = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    yield lambda statement: tool.execute(statement).fetchall()
    tool.close()


def by_flow(rows):
    found = {}
    for flow_id, *row in rows:
        found.setdefault(flow_id, []).append(tuple(row))
    return found


def test_the_histories_have_a_bit_of_everything(prefixes):
    kinds = Counter(events.kind(r.event) for prefix in prefixes for r in prefix.log)
    statuses = Counter(row[1] for prefix in prefixes for row in prefix.expected.steps.values())
    replayed = [prefix for prefix in prefixes if prefix.machine is not None]

    assert set(kinds) >= {"repaired", "parked", "paused", "step_interrupted", "timer_set", "flow_failed"}
    assert min(statuses.values()) > 10
    assert len(statuses) == 9
    assert sum(bool(prefix.expected.void) for prefix in prefixes) > 100
    assert len(replayed) > 0.8 * len(prefixes)


def test_what_is_void_is_shown_as_void(ask, prefixes):
    found = by_flow(ask("SELECT flow_id, version FROM events WHERE void"))

    for prefix in prefixes:
        assert {version for (version,) in found.get(prefix.name, ())} == prefix.expected.void, prefix.name


def test_events_are_shown_as_they_are(ask, prefixes):
    found = by_flow(
        ask("SELECT flow_id, version, at, event, step, timer, data FROM events ORDER BY position")
    )

    for prefix in prefixes:
        assert found[prefix.name] == [
            (
                version,
                iso(at),
                events.kind(event),
                None if isinstance(event, events.FlowFailed) else getattr(event, "step", None) or None,
                getattr(event, "timer", None),
                events.encode(event).decode(),
            )
            for version, at, event in prefix.log
        ]


def test_steps_are_shown_as_they_stand(ask, prefixes):
    found = by_flow(
        ask(
            "SELECT flow_id, step, name, status, attempts, called_at, started_at, due_at, ended_at, args,"
            " result, error, line FROM steps"
        )
    )

    for prefix in prefixes:
        rows = {
            row[0]: (*row[1:8], *(None if v is None else json.loads(v) for v in row[8:10]), *row[10:])
            for row in found.get(prefix.name, ())
        }
        assert len(rows) == len(found.get(prefix.name, ()))
        assert rows == prefix.expected.steps, prefix.name


def test_timers_are_shown_as_they_stand(ask, prefixes):
    found = by_flow(ask("SELECT flow_id, timer, status, set_at, due_at, fired_at, line FROM timers"))

    for prefix in prefixes:
        rows = {number: row for number, *row in found.get(prefix.name, ())}
        assert {number: tuple(row) for number, row in rows.items()} == prefix.expected.timers, prefix.name


def test_awaited_signals_are_shown(ask, prefixes):
    found = by_flow(ask("SELECT flow_id, name, at, step FROM signals WHERE status = 'awaited'"))

    for prefix in prefixes:
        assert sorted(found.get(prefix.name, ()), key=str) == sorted(prefix.expected.awaited, key=str), (
            prefix.name
        )


def test_what_is_pending_is_what_a_replay_has_pending(ask, prefixes):
    steps = by_flow(ask("SELECT flow_id, step, status FROM steps"))
    timers = by_flow(ask("SELECT flow_id, timer FROM timers WHERE status = 'set'"))
    awaited = by_flow(ask("SELECT flow_id, name, step FROM signals WHERE status = 'awaited'"))

    for prefix in prefixes:
        if prefix.machine is None or prefix.is_ended:
            continue
        rows = steps.get(prefix.name, ())
        assert (
            {step for step, status in rows if status in ("started", "interrupted")},
            {step for step, status in rows if status in ("scheduled", "retrying")},
            {timer for (timer,) in timers.get(prefix.name, ())},
            sorted(awaited.get(prefix.name, ()), key=str),
        ) == pending(prefix.machine), prefix.name


def test_flows_are_shown_as_they_stand(ask, prefixes):
    found = by_flow(
        ask("SELECT flow_id, type, status, version, created_at, updated_at, args, result FROM flows")
    )

    for prefix in prefixes:
        (row,) = found[prefix.name]
        last = prefix.log[-1]
        completed = isinstance(last.event, events.FlowCompleted)
        assert row == (
            "anything",
            prefix.status,
            last.version,
            iso(prefix.log[0].at),
            iso(last.at),
            bytes(prefix.log[0].event.args).decode(),
            bytes(last.event.result).decode() if completed else None,
        )


@pytest.mark.parametrize("view", ["flows", "events", "steps", "timers", "signals", "dead_letters"])
def test_one_flow_is_found_without_looking_at_the_others(ask, view):
    plan = [row[3] for row in ask(f"EXPLAIN QUERY PLAN SELECT * FROM {view} WHERE flow_id = 'seed-7/9'")]

    assert not [step for step in plan if step.startswith("SCAN") and step.split()[1] in ("s", "r", "stream")]
