"""Flows for tests of the routes: one asks, and fails if it is told to; one waits for anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from persistasaurus import Flow, flow, query, signal, step, wait_for

if TYPE_CHECKING:
    from routes.client import Client

NEW = {"type": "questions", "args": {"topic": "cats"}, "flowId": "q-1"}


class Questions(Flow):
    """Asks until it hears "enough"; "fail" makes it fail."""

    broken = True

    def __init__(self) -> None:
        self.heard: list[str] = []

    @flow(name="questions")
    async def ask(self, topic: str, most: int = 3) -> list[str]:
        while len(self.heard) < most:
            text = await self.answer()
            if text == "enough":
                break
            self.heard.append(text)
            if text == "fail":
                await self.fail(topic)
        return self.heard

    @signal
    def answer(self, text: str) -> str:
        return text

    @step
    def fail(self, topic: str) -> None:
        if Questions.broken:
            raise ConnectionError(f"nobody knows about {topic}")

    @query
    def so_far(self, loud: bool = False) -> list[str]:  # noqa: FBT001, FBT002 - arguments of a query
        return [text.upper() if loud else text for text in self.heard]

    @query
    def mistaken(self) -> None:
        raise ValueError("this query never works")


class Anything(Flow):
    @flow(name="anything")
    async def wait(self) -> Any:
        return await wait_for("thing", Any)


def status_of(client: Client, flow_id: str) -> str:
    return client.get(f"/flows/{flow_id}").json()["status"]


def told(client: Client, flow_id: str, *texts: str) -> None:
    for text in texts:
        answer = client.post(f"/flows/{flow_id}/signals/answer", json={"payload": {"text": text}})
        assert answer.status_code == 202
