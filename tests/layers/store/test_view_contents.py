"""The views of a store that real flows have written."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from itertools import pairwise

import msgspec
import pytest
from accounts import Account
from conformance.builders import AT, ENDED, accept, append, create, record
from persistasaurus import (
    Flow,
    FlowFailed,
    FlowSystem,
    Retry,
    flow,
    signal,
    sleep,
    step,
    wait_for,
)
from persistasaurus.flows import events
from persistasaurus.store import Deliver, HeaderChange, SqliteStore, StoreReader, StreamState
from persistasaurus.store.tools.backup import backup
from system.doubles import wait_until

encode = msgspec.json.encode
COLUMNS = {
    "flows": "flow_id type status version created_at updated_at wake_at inbox args result error",
    "events": "flow_id version position at event step timer void data",
    "steps": (
        "flow_id step name status attempts called_at started_at due_at ended_at args result error line"
    ),
    "timers": "flow_id timer status set_at due_at fired_at line",
    "signals": "flow_id name status key at payload reason step line",
    "dead_letters": "id flow_id name key at received_at reason payload",
}


class Signup(Flow):
    @flow(name="signup")
    async def sign_up(self, name: str, days: int) -> dict[str, int]:
        number = await self.create(name)
        await sleep(timedelta(days=days))
        await self.confirm()
        await wait_for("survey", str)
        return {"number": number}

    @step
    def create(self, name: str) -> int:
        if name == "nobody":
            raise ValueError("a name is needed")
        return len(name)

    @step(retry=Retry(max_attempts=9, initial=timedelta(hours=1), maximum=timedelta(hours=2)))
    def greet(self) -> None:
        raise OSError("nobody answers")

    @signal
    def confirm(self, yes: bool) -> bool:  # noqa: FBT001 - a payload
        return yes

    @flow(name="greeting")
    async def say_hello(self) -> None:
        await self.greet()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A store with flows in many situations, while their engine has it open."""
    path = tmp_path_factory.mktemp("written") / "flows.db"
    system = FlowSystem(path, flows=[Signup], actors=[Account])
    asleep = system.start(Signup.sign_up, "ada", 30, flow_id="asleep")
    waits = system.start(Signup.sign_up, "bob", 0, flow_id="waits")
    done = system.start(Signup.sign_up, "cid", 0, flow_id="done")
    failed = system.start(Signup.sign_up, "nobody", 0, flow_id="failed")
    retries = system.start(Signup.say_hello, flow_id="retries")
    assert system.actor(Account, "account").ask(Account.deposit, 3) == 3
    waits.signal(Signup.confirm, True, signal_id="yes")
    for _ in range(2):
        done.signal(Signup.confirm, True, signal_id="yes-2")
    done.signal("survey", "fine", signal_id="survey-1")
    done.result(20)
    with pytest.raises(FlowFailed):
        failed.result(20)
    wait_until(lambda: [len(h.events()) for h in (asleep, waits, retries)] == [4, 10, 3])
    asleep.pause(by="ada")
    asleep.signal(Signup.confirm, False, signal_id="early")
    wait_until(lambda: type(asleep.events()[-1].event) is events.SignalReceived)
    yield path
    system.close()


@pytest.fixture
def ask(written):
    with StoreReader.open(written) as reader:
        yield lambda statement: list(reader.query(statement))


@pytest.fixture
def undelivered(store, path):
    """A store with signals that wait, and that never will be delivered."""
    accept(store, create("over"), create("new"))
    accept(store, *(Deliver("over", "confirm", key, b'"x"', AT) for key in ("late-1", "late-2")))
    accept(store, Deliver("new", "confirm", "soon", b"[1]", AT))
    accept(store, append(1, record(), stream="over", change=ENDED, rejected=((1, "no date"),)))
    return path


def test_columns_are_those_that_are_promised_and_new_ones_are_only_appended(written):
    with StoreReader.open(written) as reader:
        found = {view: reader.query(f"SELECT * FROM {view}").columns for view in COLUMNS}

    assert {view: " ".join(columns) for view, columns in found.items()} == COLUMNS


def test_each_column_is_explained_in_the_file(written):
    tool = sqlite3.connect(f"{written.as_uri()}?mode=ro", uri=True)
    for view in COLUMNS:
        (text,) = tool.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (view,)).fetchone()
        lines = text.splitlines()
        assert lines[1].startswith("-- Each ") or lines[1].startswith("-- What ")
    tool.close()


def test_flows_say_how_they_stand(ask):
    found = ask("SELECT flow_id, type, status, inbox, args, result, error FROM flows ORDER BY 1")

    assert found == [
        ("asleep", "signup", "paused", 0, '{"name":"ada","days":30}', None, None),
        ("done", "signup", "completed", 0, '{"name":"cid","days":0}', '{"number":3}', None),
        (
            "failed",
            "signup",
            "failed",
            0,
            '{"name":"nobody","days":0}',
            None,
            "StepError: step 1 'create' failed: ValueError: a name is needed",
        ),
        ("retries", "greeting", "waiting", 0, "{}", None, None),
        ("waits", "signup", "waiting", 0, '{"name":"bob","days":0}', None, None),
    ]


def test_steps_say_how_they_stand(ask):
    found = ask("SELECT flow_id, step, name, status, attempts, args, result, error FROM steps ORDER BY 1, 2")

    assert found == [
        ("asleep", 1, "create", "completed", 1, '{"name":"ada"}', "3", None),
        ("done", 1, "create", "completed", 1, '{"name":"cid"}', "3", None),
        ("done", 2, "confirm", "completed", 1, '{"yes":true}', "true", None),
        ("failed", 1, "create", "failed", 1, '{"name":"nobody"}', None, "ValueError: a name is needed"),
        ("retries", 1, "greet", "retrying", 1, "{}", None, "OSError: nobody answers"),
        ("waits", 1, "create", "completed", 1, '{"name":"bob"}', "3", None),
        ("waits", 2, "confirm", "completed", 1, '{"yes":true}', "true", None),
    ]
    ((called, started, due, ended),) = ask(
        "SELECT called_at, started_at, due_at, ended_at FROM steps WHERE flow_id = 'retries'"
    )
    assert called == started < due
    assert ended is None
    assert ask("SELECT due_at FROM steps WHERE flow_id = 'retries'") == ask(
        "SELECT wake_at FROM flows WHERE flow_id = 'retries'"
    )


def test_signals_say_what_became_of_them(ask):
    found = ask("SELECT flow_id, name, status, key, payload, reason, step FROM signals ORDER BY 1, at, key")

    assert found == [
        ("asleep", "confirm", "unread", "early", '{"yes":false}', None, None),
        ("done", "confirm", "consumed", "yes-2", '{"yes":true}', None, None),
        ("done", "survey", "consumed", "survey-1", '"fine"', None, None),
        ("waits", "confirm", "consumed", "yes", '{"yes":true}', None, None),
        ("waits", "survey", "awaited", None, None, None, None),
    ]
    ((line,),) = ask("SELECT line FROM signals WHERE status = 'awaited'")
    assert line.startswith("test_view_contents.py:")


def test_signals_that_are_not_delivered_are_shown_as_such(undelivered):
    with StoreReader.open(undelivered) as reader:
        signals = reader.query("SELECT flow_id, name, status, key, payload, reason FROM signals ORDER BY key")
        assert list(signals) == [
            ("over", "confirm", "refused", "late-1", '"x"', "no date"),
            ("over", "confirm", "refused", "late-2", '"x"', "the stream has ended (completed)"),
            ("new", "confirm", "unread", "soon", "[1]", None),
        ]
        assert list(reader.query("SELECT flow_id, inbox FROM flows")) == [("over", 0), ("new", 1)]


def test_dead_letters_say_why(undelivered):
    at = "2025-10-09T08:53:20.000Z"
    with StoreReader.open(undelivered) as reader:
        assert list(reader.query("SELECT * FROM dead_letters")) == [
            (1, "over", "confirm", "late-1", at, at, "no date", '"x"'),
            (2, "over", "confirm", "late-2", at, at, "the stream has ended (completed)", '"x"'),
        ]


def test_timers_say_whether_they_have_fired(ask):
    found = ask("SELECT flow_id, timer, status, due_at FROM timers ORDER BY 1")

    assert [row[:3] for row in found] == [
        ("asleep", 1, "set"),
        ("done", 1, "fired"),
        ("waits", 1, "fired"),
    ]
    ((days,),) = ask("SELECT julianday(due_at) - julianday(set_at) FROM timers WHERE flow_id = 'asleep'")
    assert days == pytest.approx(30, abs=1e-6)


def test_actors_are_no_flows(ask, written):
    with StoreReader.open(written) as reader:
        assert reader.header("account").status == "actor"
    for view in ("flows", "events", "steps", "signals"):
        assert ask(f"SELECT * FROM {view} WHERE flow_id = 'account'") == []


def test_times_sort_as_text(ask):
    instants = [at for (at,) in ask("SELECT at FROM events WHERE flow_id = 'done' ORDER BY version")]

    assert all(len(at) == len("2025-10-09T08:53:20.000Z") for at in instants)
    assert all(a <= b for a, b in pairwise(instants))


def test_a_body_that_has_rotted_is_passed_over_and_told_by_verify(written, ask, path):
    before = ask("SELECT * FROM steps")
    backup(written, path)
    tool = sqlite3.connect(path)
    tool.execute(
        "UPDATE record SET data = '{' WHERE stream = (SELECT id FROM stream WHERE name = 'waits')"
        " AND kind IN (SELECT id FROM word WHERE word IN ('step_started', 'signal_awaited', 'timer_set'))"
    )
    tool.execute("UPDATE record SET data = x'ff00' WHERE version = 1")
    tool.commit()
    tool.close()

    with StoreReader.open(path) as reader:
        assert list(reader.query("SELECT * FROM steps WHERE flow_id <> 'waits'")) == [
            row for row in before if row[0] != "waits"
        ]
        assert {args for (args,) in reader.query("SELECT args FROM flows")} == {None}
        assert [flow for (flow,) in reader.query("SELECT flow_id FROM timers ORDER BY 1")] == [
            "asleep",
            "done",
        ]
        assert not list(reader.query("SELECT * FROM signals WHERE status = 'awaited'"))
        assert {"waits", "done"} < {finding.stream for finding in reader.verify()}


def test_a_parked_flow_says_why(path):
    store = SqliteStore.open(path, now=lambda: AT)
    body = b'{"type":"parked","reason":"poisoned","message":"the process died 3 times"}'
    held = HeaderChange("parked", StreamState.HELD, None)
    accept(
        store,
        create("flow", record(), record(body, kind="parked"), record(kind="step_completed"), change=held),
    )
    store.close()

    with StoreReader.open(path) as reader:
        assert list(reader.query("SELECT status, error FROM flows")) == [
            ("parked", "poisoned: the process died 3 times")
        ]


def test_a_failure_that_is_retried_is_not_shown_before_the_step_runs_again(store, path):
    bodies = [
        {"type": "step_started", "step": 1, "name": "charge", "args": {}},
        {"type": "step_failed", "step": 1, "attempt": 1, "error": {"type": "OSError", "message": "down"}},
        {"type": "flow_failed", "error": {"type": "StepError", "message": "charge"}, "step": 1},
        {"type": "repaired", "since": 3, "retried": [2]},
    ]
    accept(store, create("flow", *[record(encode(body), kind=body["type"]) for body in bodies]))

    with StoreReader.open(path) as reader:
        assert list(reader.query("SELECT status, ended_at, error FROM steps")) == [("started", None, None)]
        assert list(reader.query("SELECT version FROM events WHERE void ORDER BY 1")) == [(2,), (3,)]


@pytest.mark.parametrize("due", [253_402_300_800_000_000, 2**63 - 1])
def test_what_is_due_when_no_calendar_goes_so_far_is_told_as_due_at_its_end(store, path, due):
    bodies = [
        {"type": "flow_started", "flow": "f", "args": {}, "seed": 1},
        {"type": "timer_set", "timer": 1, "due": due},
        {"type": "step_scheduled", "step": 1, "name": "later", "args": {}, "due": due},
    ]
    change = HeaderChange("waiting", StreamState.OPEN, due)
    accept(store, create("odd", *[record(encode(body), kind=body["type"]) for body in bodies], change=change))

    with StoreReader.open(path) as reader:
        told = [
            next(iter(reader.query(f"SELECT {column} FROM {view} WHERE flow_id = 'odd'").rows))[0]
            for view, column in (("flows", "wake_at"), ("timers", "due_at"), ("steps", "due_at"))
        ]
    assert told == ["9999-12-31T23:59:59.999Z"] * 3
