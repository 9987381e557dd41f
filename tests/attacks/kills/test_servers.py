"""An answer means durable: a server is killed right after it, and its successor says the same."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from serving.doubles import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

CHILD = Path(__file__).parents[2] / "layers" / "api" / "routes" / "server_child.py"
ADA = {"userName": "ada", "email": "ada@example.com"}
AT = "2026-05-17T09:30:00Z"


@contextmanager
def served(store: Path) -> Iterator[httpx.Client]:
    """Serve a store in a process that is killed in the end, with whatever it is doing."""
    process = subprocess.Popen([sys.executable, CHILD, store], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        # Flows that go on say something, too.
        url = next((line.strip() for line in process.stdout if line.startswith("http://")), "")
        assert url, "the server did not start"
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            yield client
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def ended(client: httpx.Client, flow_id: str) -> dict[str, Any]:
    answer = client.get(f"/flows/{flow_id}/result", params={"wait": 20})
    assert answer.status_code == 200
    return answer.json()


def test_what_was_answered_survives_the_server(tmp_path: Path) -> None:
    store = tmp_path / "flows.db"
    key = {"Idempotency-Key": "ada-1"}
    with served(store) as client:
        accepted = client.post("/signups", json=ADA, headers=key)
    with served(store) as client:
        again = client.post("/signups", json=ADA, headers=key)
        place = accepted.headers["location"]
        confirmed = client.post(f"{place}/confirm", json={"confirmedAt": AT})
    with served(store) as client:
        repeated = client.post(f"{place}/confirm")
        result = ended(client, accepted.json()["flowId"])
        shown = client.get(place).json()
        after_the_end = client.post(f"{place}/confirm")

    assert (accepted.status_code, accepted.content) == (again.status_code, again.content)
    assert confirmed.json()["confirmedAt"] == AT
    assert confirmed.content == repeated.content == after_the_end.content
    assert result["status"] == "completed"
    assert shown == {
        **ADA,
        "flowId": accepted.json()["flowId"],
        "userId": result["result"],
        "status": "completed",
    }


def test_who_follows_goes_on_where_the_server_was_killed(tmp_path: Path) -> None:
    store, seen = tmp_path / "flows.db", []
    with served(store) as client:
        flow_id = client.post("/signups", json=ADA).json()["flowId"]
        with client.stream("GET", f"/flows/{flow_id}/follow") as followed:
            for line in followed.iter_lines():
                seen += [int(line[4:])] if line.startswith("id: ") and line != "id: 0" else []
                if '"signal_awaited"' in line:
                    break
    with served(store) as client:
        client.post(f"/signups/{flow_id}/confirm")
        headers = {"Last-Event-ID": str(seen[-1])}
        with client.stream("GET", f"/flows/{flow_id}/follow", headers=headers) as followed:
            lines = list(followed.iter_lines())
    seen += [int(line[4:]) for line in lines if line.startswith("id: ")][1:]

    assert lines[-3] == "event: end"
    assert seen == list(range(1, len(seen) + 1))
