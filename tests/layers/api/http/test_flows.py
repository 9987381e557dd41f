"""Any registered flow: started once, listed page by page, and shown as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from accounts import Account
from persistasaurus import Flow, FlowSystem, flow, step, wait_for
from persistasaurus.api.http.contract.views import event_view
from persistasaurus.flows import events
from persistasaurus.flows.entities.actor import definition_of
from persistasaurus.store.contract import Record
from routes.client import OTHER_TOKEN, Client
from routes.flows import NEW, Anything, status_of, told
from system.doubles import wait_until


# ------------------------------------------------------------------------------------------- starting
def test_a_flow_is_started_by_its_name(client: Client, system: FlowSystem) -> None:
    answer = client.post("/flows", json=NEW)

    assert (answer.status_code, answer.json()) == (202, {"flowId": "q-1", "type": "questions"})
    assert answer.headers["location"] == "/flows/q-1"
    assert system.flow("q-1").header().type == "questions"


def test_the_same_again_is_answered_the_same(client: Client, system: FlowSystem) -> None:
    first, again = (client.post("/flows", json=NEW) for _ in range(2))
    spelled_out = client.post("/flows", json=NEW | {"args": {"most": 3, "topic": "cats"}})

    assert first.content == again.content == spelled_out.content
    assert len(system.flows()) == 1


def test_the_same_id_for_something_else_is_refused(client: Client) -> None:
    client.post("/flows", json=NEW)

    other_args = client.post("/flows", json=NEW | {"args": {"topic": "dogs"}})
    other_type = client.post("/flows", json=NEW | {"type": "anything", "args": {}})

    assert [answer.status_code for answer in (other_args, other_type)] == [409, 409]


def test_a_key_makes_it_repeatable_without_an_id(client: Client, system: FlowSystem) -> None:
    new = {"type": "questions", "args": {"topic": "cats"}}

    mine = {client.post("/flows", json=new, key="k-1").content for _ in range(2)}
    theirs = client.with_token(OTHER_TOKEN).post("/flows", json=new, key="k-1").content
    without = {client.post("/flows", json=new).content for _ in range(2)}

    assert len(mine) == 1
    assert theirs not in mine
    assert len(without) == 2
    assert len(system.flows()) == 4


@pytest.mark.parametrize(
    ("change", "status", "path", "said"),
    [
        ({"args": {}}, 422, "$.args", "topic"),
        ({"args": {"topic": 7}}, 422, "$.args.topic", "questions"),
        ({"args": {"topic": "x", "mots": 1}}, 422, "$.args", "mots"),
        ({"args": ["cats"]}, 422, "$.args", "questions"),
        ({"args": {"topic": "x" * 2_000}, "flowId": "x" * 201}, 400, "$.flowId", "$.flowId"),
        ({"flowId": ".."}, 400, "$.flowId", "$.flowId"),
        ({"flowId": "two words"}, 400, "$.flowId", "$.flowId"),
        ({"type": "unknown"}, 422, None, "there is"),
        ({"status": "completed"}, 400, "$", "status"),
    ],
)
def test_what_does_not_fit_starts_nothing(  # noqa: PLR0913, PLR0917 - a table
    client: Client, system: FlowSystem, change: dict[str, Any], status: int, path: str | None, said: str
) -> None:
    answer = client.post("/flows", json=NEW | change)

    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert [culprit["path"] for culprit in answer.json().get("errors", [])] == ([path] if path else [])
    assert system.flows() == []


# -------------------------------------------------------------------------------------------- looking
def test_flows_are_listed_page_by_page_in_the_order_of_their_start(client: Client) -> None:
    started = [client.post("/flows", json={"type": "anything"}).json()["flowId"] for _ in range(7)]
    client.post("/flows", json=NEW)

    page: str | None = "/flows?type=anything&limit=3"
    listed: list[list[str]] = []
    while page:
        answer = client.get(page).json()
        listed.append([found["flowId"] for found in answer["flows"]])
        page = answer["next"]

    assert listed == [started[:3], started[3:6], started[6:]]


def test_flows_are_listed_by_status(client: Client) -> None:
    client.post("/flows", json=NEW)
    client.post("/flows", json=NEW | {"flowId": "q-2"})
    told(client, "q-2", "enough")
    wait_until(lambda: status_of(client, "q-2") == "completed")

    listed = client.get("/flows?status=completed").json()

    assert [found["flowId"] for found in listed["flows"]] == ["q-2"]
    assert listed["next"] is None
    assert client.get("/flows?type=nobody").json() == {"flows": [], "next": None}
    assert client.get("/flows?after=nobody").status_code == 404


def test_a_flow_is_shown_with_its_result(client: Client) -> None:
    client.post("/flows", json=NEW)
    waiting = client.get("/flows/q-1").json()
    told(client, "q-1", "purr", "enough")
    wait_until(lambda: status_of(client, "q-1") == "completed")

    shown = client.get("/flows/q-1").json()

    assert "result" not in waiting
    assert shown["result"] == ["purr"]
    assert (shown["type"], shown["wakeAt"]) == ("questions", None)
    assert waiting["startedAt"] == shown["startedAt"] < shown["updatedAt"]


def test_a_failed_flow_is_shown_with_its_error_and_no_stack_trace(client: Client, system: FlowSystem) -> None:
    client.post("/flows", json=NEW)
    told(client, "q-1", "fail")
    wait_until(lambda: status_of(client, "q-1") == "failed")

    answers = [client.get(f"/flows/q-1{path}") for path in ("", "/result", "/events", "/follow")]

    assert answers[0].json()["error"]["type"] == "StepError"
    assert "nobody knows about cats" in answers[1].json()["error"]["message"]
    assert "Traceback" in str(system.flow("q-1").events())
    for answer in answers:
        assert answer.status_code == 200
        assert "Traceback" not in answer.text
        assert str(Path(__file__).parents[1]) not in answer.text


def test_events_are_listed_page_by_page(client: Client) -> None:
    client.post("/flows", json=NEW)
    told(client, "q-1", "purr", "enough")
    wait_until(lambda: status_of(client, "q-1") == "completed")

    page: str | None = "/flows/q-1/events?limit=4"
    listed: list[Any] = []
    while page:
        answer = client.get(page).json()
        assert 0 < len(answer["events"]) <= 4
        listed += answer["events"]
        page = answer["next"]

    assert [event["version"] for event in listed] == list(range(1, len(listed) + 1))
    assert (listed[0]["event"]["type"], listed[-1]["event"]["type"]) == ("flow_started", "flow_completed")
    assert not {"seed", "traceback"} & {name for event in listed for name in event["event"]}


def test_a_page_of_large_events_is_shorter(client: Client) -> None:
    client.post("/flows", json=NEW | {"args": {"topic": "cats", "most": 100}})
    for _ in range(40):
        told(client, "q-1", "x" * 100_000)

    page = client.get("/flows/q-1/events?limit=1000")

    assert len(page.content) < 20_000_000
    assert page.json()["next"] is not None


def test_a_result_is_waited_for_a_while(client: Client) -> None:
    client.post("/flows", json=NEW)

    at_once = client.get("/flows/q-1/result")
    waited, _ = client.together(
        client.asking("GET", "/flows/q-1/result?wait=20"),
        client.asking("POST", "/flows/q-1/signals/answer", json={"payload": {"text": "enough"}}),
    )

    assert at_once.status_code == 202
    assert at_once.json()["flowId"] == "q-1"
    assert (waited.status_code, waited.json()) == (
        200,
        {"flowId": "q-1", "status": "completed", "result": []},
    )
    assert client.get("/flows/q-1/result?wait=31").status_code == 400


def test_a_result_that_does_not_come_is_not_waited_for_longer(client: Client) -> None:
    client.post("/flows", json=NEW)

    answer = client.get("/flows/q-1/result?wait=1")

    assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
    assert client.get("/flows/nobody/result?wait=20").status_code == 404


def test_an_id_with_a_slash_is_one_segment(client: Client) -> None:
    made = client.post("/flows", json=NEW | {"flowId": "cats/50%/../1?x=#"})

    place = made.headers["location"]
    assert place == "/flows/cats%2F50%25%2F..%2F1%3Fx%3D%23"
    assert client.get(place).json()["flowId"] == "cats/50%/../1?x=#"
    page = client.get(f"{place}/events?limit=1").json()["next"]
    assert client.get(page).json()["events"][0]["version"] == 2
    assert client.get("/flows/cats/50%25").status_code == 404


def test_actors_of_the_program_are_no_flows(client: Client, system: FlowSystem) -> None:
    system._actor_types.add(definition_of(Account))
    system.actor(Account, "account-ada").ask(Account.deposit, 5)

    for path in ("", "/events", "/result", "/follow"):
        assert client.get(f"/flows/account-ada{path}").status_code == 404
    assert client.post("/flows/account-ada/signals/go").status_code == 404
    assert client.post("/flows/account-ada/pause").status_code == 404
    assert client.post("/flows", json=NEW | {"flowId": "account-ada"}).status_code == 409
    assert client.get("/flows").json()["flows"] == []
    assert "deposited" not in client.get("/follow?after=0&seconds=0").text


class Before(Flow):
    @flow(name="changing")
    async def run(self) -> None:
        await self.one()
        await wait_for("go", int)

    @step
    def one(self) -> None: ...


class After(Flow):
    @flow(name="changing")
    async def run(self) -> None:
        await self.two()

    @step
    def two(self) -> None: ...


def test_a_parked_flow_says_why_without_the_folders_of_the_server(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    with FlowSystem(path, flows=[Before]) as system:
        system.start(Before.run, flow_id="c-1")
        wait_until(lambda: system.flow("c-1").status == "waiting")

    with FlowSystem(path, flows=[After]) as system:
        client = Client.of(system)
        client.post("/flows/c-1/signals/go", json={"payload": 1})
        wait_until(lambda: status_of(client, "c-1") == "parked")

        parked = client.get("/flows/c-1").json()["parked"]
        assert parked["reason"] == "nondeterminism"
        assert "test_flows.py:" in parked["message"]
        for tail in ("", "/events", "/result?wait=20", "/follow?seconds=0"):
            assert str(Path(__file__).parent) not in client.get(f"/flows/c-1{tail}").text
        assert client.get("/flows/c-1/result?wait=20").json()["status"] == "parked"
        retried = client.post("/flows/c-1/retry")
        assert retried.status_code == 409
        assert retried.json()["type"].endswith(":nondeterminism-error")
        assert "attempted: step 1 'two'" in retried.json()["detail"]


@pytest.mark.parametrize(
    "event",
    [
        events.Parked("crashing", "it broke", "Traceback (most recent call last): secret"),
        events.FlowFailed(events.Failure("ValueError", "it broke", "Traceback: secret")),
        events.StepFailed(1, 1, events.Failure("ValueError", "it broke", "Traceback: secret")),
        events.FlowStarted("questions", msgspec.Raw(b'{"topic":"cats"}'), 4711),
    ],
)
def test_what_is_the_servers_own_is_shown_to_nobody(event: events.Event) -> None:
    shown = msgspec.json.encode(event_view(Record(1, 0, events.kind(event), events.encode(event))))

    assert b"it broke" in shown or b"cats" in shown
    assert b"secret" not in shown
    assert b"4711" not in shown


def test_flows_whose_code_is_not_there_can_be_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    with FlowSystem(path, flows=[Anything]) as system:
        system.start(Anything.wait, flow_id="a-1").signal("thing", 7)
        assert system.flow("a-1").result(20) == 7

    with FlowSystem(path) as system:
        client = Client.of(system)

        assert client.get("/flows/a-1").json()["result"] == 7
        assert client.get("/flows/a-1/result?wait=1").json()["result"] == 7
        assert client.post("/flows/a-1/queries/x").status_code == 422
        assert client.post("/flows", json={"type": "anything"}).status_code == 422


def test_what_the_store_reports_as_damaged_is_not_shown_as_if_it_were_whole(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    with FlowSystem(path, flows=[Anything]) as system:
        system.start(Anything.wait, flow_id="a-1").signal("thing", 7)
        system.flow("a-1").result(20)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE record SET data = replace(data, '7', '8') WHERE version = 4")
    connection.close()

    with FlowSystem(path, flows=[Anything]) as system:
        client = Client.of(system)
        details = client.get("/flows/a-1")
        page = client.get("/flows/a-1/events").json()
        one, everything = client.get("/flows/a-1/follow").text, client.get("/follow?after=0&seconds=1").text

    assert details.status_code == 503
    assert "retry-after" in details.headers
    assert str(tmp_path) not in details.text
    reason = "It cannot be read: its checksum does not match"
    damaged = {"flowId": "a-1", "version": 4, "detail": reason}
    assert [event["version"] for event in page["events"]] == [1, 2, 3]
    assert page["unreadable"] == [damaged]
    for text in (one, everything):
        parts = [part.splitlines() for part in text.split("\n\n") if part]
        frames = [dict(line.split(": ", 1) for line in part) for part in parts]
        (problem,) = [frame for frame in frames if frame.get("event") == "problem"]
        assert problem["id"] == "4"
        assert json.loads(problem["data"]).items() >= damaged.items()
    assert frames[-1]["id"] == "4"
    assert one.rstrip().splitlines()[-2] == "event: end"


@pytest.mark.parametrize("instant", [2**63 - 1, 253_402_300_800_000_000, -(2**63)])
def test_an_instant_that_no_calendar_has_breaks_no_list(tmp_path: Path, instant: int) -> None:
    path = tmp_path / "flows.db"
    with FlowSystem(path, flows=[Anything]) as system:
        for flow_id in ("odd", "innocent"):
            handle = system.start(Anything.wait, flow_id=flow_id)
            wait_until(lambda handle=handle: handle.status == "waiting")
        client = Client.of(system)
        with apsw.Connection(str(path)) as connection:
            connection.execute("UPDATE stream SET wake_at = ? WHERE name = 'odd'", (instant,))

        listed = client.get("/flows").json()["flows"]
        assert [shown["flowId"] for shown in listed] == ["odd", "innocent"]
        assert listed[0]["wakeAt"][:4] == ("9999" if instant > 0 else "0001")
        assert client.get("/flows/odd").json()["wakeAt"] == listed[0]["wakeAt"]
