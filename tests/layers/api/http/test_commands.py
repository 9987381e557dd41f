"""Telling and asking a flow something: recorded once, checked before, and by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from routes.client import OTHER_TOKEN, READER_TOKEN, Client
from routes.flows import NEW, Questions, status_of, told
from system.doubles import wait_until

if TYPE_CHECKING:
    from persistasaurus import FlowSystem


# --------------------------------------------------------------------------------- telling and asking
def test_a_signal_is_recorded_once(client: Client, system: FlowSystem) -> None:
    client.post("/flows", json={"type": "anything", "flowId": "a-1"})
    signal = {"payload": ["any", {"thing": 1}], "signalId": "s-1"}

    first, again = (client.post("/flows/a-1/signals/thing", json=signal) for _ in range(2))
    system.flow("a-1").result(20)
    after_the_end = client.post("/flows/a-1/signals/thing", json=signal)

    assert first.json() | {"duplicate": True} == again.json() == after_the_end.json()
    assert (first.status_code, first.json()["duplicate"]) == (202, False)
    assert client.get("/flows/a-1/result").json()["result"] == ["any", {"thing": 1}]
    assert client.post("/flows/a-1/signals/thing", json=signal | {"payload": 2}).status_code == 409


def test_the_key_of_a_signal_belongs_to_who_sends_it(client: Client) -> None:
    client.post("/flows", json=NEW)
    path, body = "/flows/q-1/signals/answer", {"payload": {"text": "purr"}}

    mine = [client.post(path, json=body, key="k-1").json()["duplicate"] for _ in range(2)]
    theirs = client.with_token(OTHER_TOKEN).post(path, json=body, key="k-1").json()["duplicate"]

    assert (mine, theirs) == ([False, True], False)


@pytest.mark.parametrize(
    ("payload", "path"),
    [({}, "$.payload"), ({"text": 1}, "$.payload.text"), ({"text": "x", "loud": True}, "$.payload")],
)
def test_a_signal_that_does_not_fit_is_refused(
    client: Client, system: FlowSystem, payload: Any, path: str
) -> None:
    client.post("/flows", json=NEW)
    before = system.flow("q-1").header().version

    answer = client.post("/flows/q-1/signals/answer", json={"payload": payload})

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, path)
    assert system.store.inbox("q-1") == []
    assert system.flow("q-1").header().version == before


def test_a_signal_that_its_flow_never_waits_for_is_refused_with_those_that_it_does(client: Client) -> None:
    client.post("/flows", json=NEW)

    refused = client.post("/flows/q-1/signals/anwser", json={"payload": {"text": "purr"}})

    assert refused.status_code == 404
    assert refused.json()["type"].endswith("signal-not-found")
    assert "Did you mean 'answer'? It takes 'answer'" in refused.json()["detail"]


def test_a_flow_shows_the_signals_that_it_has_not_taken(client: Client, system: FlowSystem) -> None:
    client.post("/flows", json=NEW)
    assert "unreadSignals" not in client.get("/flows/q-1").json()
    client.post("/flows/q-1/pause")
    told(client, "q-1", "purr", "purr", "enough")
    wait_until(lambda: str(system.flow("q-1").events()).count("SignalReceived") == 3)

    assert client.get("/flows/q-1").json()["unreadSignals"] == {"answer": 2}

    client.post("/flows/q-1/resume")
    system.flow("q-1").result(20)
    assert "unreadSignals" not in client.get("/flows/q-1").json()


def test_an_ended_flow_takes_no_signal(client: Client, system: FlowSystem) -> None:
    client.post("/flows", json=NEW)
    told(client, "q-1", "enough")
    system.flow("q-1").result(20)

    answer = client.post("/flows/q-1/signals/answer", json={"payload": {"text": "late"}})

    assert (answer.status_code, answer.json()["type"]) == (409, "urn:persistasaurus:problem:flow-ended")


def test_a_flow_is_asked(client: Client, system: FlowSystem) -> None:
    client.post("/flows", json=NEW)
    told(client, "q-1", "purr")
    wait_until(lambda: client.post("/flows/q-1/queries/so_far").json()["result"] == ["purr"])
    before = system.flow("q-1").header().version

    answer = client.post("/flows/q-1/queries/so_far", json={"args": {"loud": True}})

    assert answer.json() == {"flowId": "q-1", "query": "so_far", "result": ["PURR"]}
    assert system.flow("q-1").header().version == before


@pytest.mark.parametrize(
    ("path", "body", "status", "name"),
    [
        ("q-1/queries/nothing", {}, 404, "query-not-found"),
        ("q-1/queries/so_far", {"args": {"loud": "very"}}, 422, "payload-error"),
        ("q-1/queries/mistaken", {}, 422, "query-raised"),
        ("nobody/queries/so_far", {}, 404, "flow-not-found"),
        ("q-1/queries/a%0Ab", {}, 404, "name-not-found"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(
    client: Client, path: str, body: Any, status: int, name: str
) -> None:
    client.post("/flows", json=NEW)

    answer = client.post(f"/flows/{path}", json=body)

    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (status, name)


# ---------------------------------------------------------------------------------------- in order again
def test_a_flow_is_paused_and_resumed_and_it_is_recorded_by_whom(client: Client, system: FlowSystem) -> None:
    client.post("/flows", json=NEW)

    paused = client.post("/flows/q-1/pause", json={"why": "the cat is asleep"})
    resumed = client.with_token(OTHER_TOKEN).post("/flows/q-1/resume")

    assert paused.json() == {"flowId": "q-1", "status": "paused"}
    assert resumed.json()["status"] != "paused"
    events = [found.event for found in system.flow("q-1").events()][-2:]
    assert [(event.by, event.why) for event in events] == [("ada", "the cat is asleep"), ("bob", "")]  # type: ignore[union-attr]


def test_nobody_orders_in_the_name_of_somebody_else(client: Client) -> None:
    client.post("/flows", json=NEW)

    assert client.post("/flows/q-1/pause", json={"by": "bob"}).status_code == 400
    assert client.with_token(READER_TOKEN).post("/flows/q-1/pause").status_code == 403
    assert status_of(client, "q-1") == "waiting"


def test_a_failed_flow_is_retried(client: Client, system: FlowSystem) -> None:
    client.post("/flows", json=NEW)
    told(client, "q-1", "fail")
    wait_until(lambda: status_of(client, "q-1") == "failed")
    Questions.broken = False

    retried = client.post("/flows/q-1/retry", json={"why": "it knows now"})
    told(client, "q-1", "enough")

    assert retried.status_code == 200
    assert system.flow("q-1").result(20) == ["fail"]


def test_what_cannot_be_ordered_now_is_refused(client: Client, system: FlowSystem) -> None:
    client.post("/flows", json=NEW)

    assert client.post("/flows/q-1/retry").status_code == 409
    told(client, "q-1", "enough")
    system.flow("q-1").result(20)
    assert [client.post(f"/flows/q-1/{order}").status_code for order in ("pause", "resume", "retry")] == [
        409
    ] * 3
