"""The endpoints of the example flows: all of it from the log, so each answers the same after a restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import FlowSystem, step
from persistasaurus.flows.examples import HelloWorldFlow, SignupFlow, signup_flow
from routes.client import OTHER_TOKEN, Client
from scenario.world import World
from system.doubles import Gate, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

ADA = {"userName": "ada", "email": "ada@example.com"}
AT = "2026-05-17T09:30:00Z"


def signed_up(client: Client, **options: Any) -> str:
    """Sign ada up, and return where her sign-up is."""
    answer = client.post("/signups", json=ADA, **options)
    assert answer.status_code == 202
    return answer.headers["location"]


def test_the_hello_world_flow_has_completed_when_it_is_answered(client: Client, system: FlowSystem) -> None:
    answer = client.post("/flows/hello-world")

    assert answer.status_code == 200
    assert answer.json().keys() == {"flowId", "message"}
    greeting = system.flow(answer.json()["flowId"])
    assert (greeting.status, greeting.result(20)) == ("completed", 10)


def test_a_sign_up_is_accepted_and_can_be_found(client: Client, system: FlowSystem) -> None:
    answer = client.post("/signups", json=ADA)

    flow_id = answer.json()["flowId"]
    assert (answer.status_code, answer.headers["location"]) == (202, f"/signups/{flow_id}")
    assert answer.json() == {"flowId": flow_id, "message": answer.json()["message"], "userName": "ada"}
    wait_until(lambda: client.get(f"/signups/{flow_id}").json()["status"] == "waiting")
    shown = client.get(f"/signups/{flow_id}")
    assert shown.status_code == 200
    assert shown.json().keys() == {"flowId", "userName", "email", "userId", "status"}
    assert shown.json()["email"] == "ada@example.com"


def test_a_sign_up_is_confirmed_and_completes(client: Client, system: FlowSystem) -> None:
    place = signed_up(client)

    answer = client.post(f"{place}/confirm", json={"confirmedAt": AT})

    assert answer.status_code == 200
    assert answer.json() | {"message": ""} == {
        "flowId": answer.json()["flowId"],
        "message": "",
        "confirmedAt": AT,
    }
    user_id = system.flow(answer.json()["flowId"]).result(20)
    assert client.get(place).json() | ADA == client.get(place).json()
    assert client.get(place).json()["userId"] == user_id
    assert client.get(place).json()["status"] == "completed"


def test_the_user_id_is_null_until_the_record_is_created() -> None:
    gate = Gate()

    class Held(SignupFlow):
        @step
        def create_user_record(self, user_name: str, email: str) -> int:
            gate()
            return 4711

    with FlowSystem(flows=[Held]) as system:
        client = Client.of(system)
        place = signed_up(client)
        gate.wait()
        assert client.get(place).json()["userId"] is None
        gate.open()
        wait_until(lambda: client.get(place).json()["userId"] == 4711)


def test_without_a_body_it_is_confirmed_now(tmp_path: Path) -> None:
    world = World(tmp_path / "flows.db")
    client = Client.of(world.open(SignupFlow))

    answer = client.post(f"{signed_up(client)}/confirm")

    at = datetime.fromisoformat(answer.json()["confirmedAt"])
    assert at == datetime.fromtimestamp(world.clock.now() / 1_000_000, UTC)
    world.close()


def test_confirming_twice_gives_the_same_answer_twice(client: Client, system: FlowSystem) -> None:
    place = signed_up(client)

    first = client.post(f"{place}/confirm", json={"confirmedAt": AT})
    again = client.post(f"{place}/confirm", json={"confirmedAt": "2027-01-01T00:00:00Z"})
    system.flow(first.json()["flowId"]).result(20)
    after_the_end = client.post(f"{place}/confirm")

    assert [answer.status_code for answer in (first, again, after_the_end)] == [200] * 3
    assert first.json() == again.json() == after_the_end.json()


def test_who_confirms_at_the_same_time_hears_the_same(client: Client, system: FlowSystem) -> None:
    for _ in range(10):
        path = f"{signed_up(client)}/confirm"
        bodies = [{"confirmedAt": f"2026-05-17T09:30:0{second}Z"} for second in range(8)]

        answers = client.together(*(client.asking("POST", path, json=body) for body in bodies))

        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        flow_id = answers[0].json()["flowId"]
        system.flow(flow_id).result(20)
        assert client.post(path).content == answers[0].content


def test_a_confirmation_that_came_by_another_door_counts(client: Client) -> None:
    place = signed_up(client)
    path = place.replace("/signups/", "/flows/") + "/signals/confirm_email_address"

    sent = client.post(path, json={"payload": {"confirmed_at": AT}, "signalId": "mail-1"})

    assert sent.status_code == 202
    assert client.post(f"{place}/confirm").json()["confirmedAt"] == AT


def test_a_confirmation_that_came_by_another_door_and_is_still_waiting_counts(
    client: Client, system: FlowSystem
) -> None:
    place = signed_up(client)
    path = place.replace("/signups/", "/flows/")
    flow_id = place.rpartition("/")[2]
    client.post(f"{path}/pause")
    client.post(f"{path}/signals/confirm_email_address", json={"payload": AT, "signalId": "mail-1"})

    assert client.post(f"{place}/confirm").json()["confirmedAt"] == AT
    client.post(f"{path}/resume")
    system.flow(flow_id).result(20)
    assert client.post(f"{place}/confirm").json()["confirmedAt"] == AT
    assert system.store.dead_letters() == []


def test_a_confirmation_comes_early_and_is_kept_while_the_flow_is_paused(tmp_path: Path) -> None:
    world = World(tmp_path / "flows.db")
    client = Client.of(world.open(SignupFlow))
    place = signed_up(client)
    flow_id = place.rpartition("/")[2]
    assert client.post(f"/flows/{flow_id}/pause").status_code == 200

    first = client.post(f"{place}/confirm", json={"confirmedAt": AT})
    again = client.post(f"{place}/confirm")

    assert first.content == again.content
    assert client.post(f"/flows/{flow_id}/resume").status_code == 200
    world.clock.advance(10)
    assert world.result(flow_id) == client.get(place).json()["userId"]
    world.close()


def test_each_of_them_answers_the_same_after_a_restart(tmp_path: Path) -> None:
    flows = [HelloWorldFlow, signup_flow(timedelta(0))]

    def answers(client: Client) -> list[httpx.Response]:
        return [
            client.post("/flows/hello-world", key="greet-1"),
            client.post("/signups", json=ADA, key="ada-1"),
            client.post(f"{place}/confirm"),
            client.get(place),
            client.get("/health"),
        ]

    with FlowSystem(tmp_path / "flows.db", flows=flows) as system:
        client = Client.of(system)
        place = signed_up(client, key="ada-1")
        client.post(f"{place}/confirm", json={"confirmedAt": AT})
        system.flow(place.rpartition("/")[2]).result(20)
        before = answers(client)
    with FlowSystem(tmp_path / "flows.db", flows=flows) as system:
        after = answers(Client.of(system))

    assert [(a.status_code, a.content) for a in after] == [(b.status_code, b.content) for b in before]
    assert [a.status_code for a in after] == [200, 202, 200, 200, 200]


def test_the_same_key_again_is_the_same_request(client: Client, system: FlowSystem) -> None:
    first, again = (client.post("/signups", json=ADA, key="k-1") for _ in range(2))
    quoted = client.post("/signups", json=ADA, key='"k-1"')

    assert first.content == again.content == quoted.content
    assert first.headers["location"] == again.headers["location"]
    assert len(system.flows()) == 1


def test_the_same_key_with_something_else_is_refused(client: Client, system: FlowSystem) -> None:
    client.post("/signups", json=ADA, key="k-1")

    other_name = client.post("/signups", json=ADA | {"userName": "eve"}, key="k-1")
    other_flow = client.post("/flows/hello-world", key="k-1")

    assert (other_name.status_code, other_flow.status_code) == (409, 409)
    assert other_name.json()["type"] == "urn:persistasaurus:problem:flow-already-exists"
    assert len(system.flows()) == 1


def test_the_same_key_of_somebody_else_is_another_key(client: Client, system: FlowSystem) -> None:
    mine = client.post("/signups", json=ADA, key="k-1").json()
    theirs = client.with_token(OTHER_TOKEN).post("/signups", json=ADA, key="k-1").json()

    assert mine["flowId"] != theirs["flowId"]
    assert len(system.flows()) == 2


def test_at_once_with_the_same_key_there_is_one_sign_up(client: Client, system: FlowSystem) -> None:
    answers = client.together(*(client.asking("POST", "/signups", json=ADA, key="k-1") for _ in range(8)))

    assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
    assert len(system.flows()) == 1


@pytest.mark.parametrize("key", ["", " ", "two words", "x" * 201, '"half', "ümlaut"])
def test_a_key_that_is_none_is_refused(client: Client, system: FlowSystem, key: str) -> None:
    answer = client.post("/signups", json=ADA, headers={"Idempotency-Key": key.encode()})

    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]
    assert system.flows() == []


@pytest.mark.parametrize("path", ["/signups/{}", "/signups/{}/confirm"])
def test_what_is_no_sign_up_is_not_found(client: Client, system: FlowSystem, path: str) -> None:
    method = "POST" if path.endswith("confirm") else "GET"
    hello = client.post("/flows/hello-world").json()["flowId"]

    for flow_id in ("unknown", hello, "%0Aforged", "a%00b", "%2F", "x" * 201, "%ff"):
        answer = client.ask(method, path.format(flow_id))
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert system.store.dead_letters() == []


def test_a_sign_up_that_failed_unconfirmed_cannot_be_confirmed() -> None:
    class Broken(SignupFlow):
        @step
        def create_user_record(self, user_name: str, email: str) -> int:
            raise ConnectionError("no database")

    with FlowSystem(flows=[Broken]) as system:
        client = Client.of(system)
        place = signed_up(client)
        wait_until(lambda: client.get(place).json()["status"] == "failed")

        answer = client.post(f"{place}/confirm")

        assert (answer.status_code, answer.json()["type"]) == (409, "urn:persistasaurus:problem:flow-ended")
        assert client.get(place).json()["userId"] is None


def test_an_application_that_does_not_mount_the_examples_has_none_of_their_endpoints() -> None:
    with FlowSystem(flows=[HelloWorldFlow, SignupFlow]) as system:
        client = Client.of(system, routes=())
        assert client.post("/signups", json=ADA).status_code == 404
        assert client.post("/flows/hello-world").status_code == 405
        assert not [path for path in client.get("/openapi.json").json()["paths"] if "signup" in path]


def test_who_signs_up_can_set_nothing_else(client: Client, system: FlowSystem) -> None:
    for extra in ({"userId": 1}, {"status": "completed"}, {"flowId": "mine"}, {"user_name": "eve"}):
        answer = client.post("/signups", json=ADA | extra)
        assert answer.status_code == 400
        assert next(iter(extra)) in answer.json()["detail"]
    assert system.flows() == []


def test_a_flow_with_the_name_of_the_endpoint_can_be_looked_at(client: Client, system: FlowSystem) -> None:
    system.start(HelloWorldFlow.say_hello, flow_id="hello-world").result(20)

    assert client.get("/flows/hello-world").json()["status"] == "completed"
    assert client.get("/flows/hello-world/events").status_code == 200
    assert client.post("/flows/other").status_code == 404
