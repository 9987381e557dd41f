"""Flows that hear from other processes, and what leaves requests for them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from persistasaurus import Flow, flow, query, signal, step, wait_for
from persistasaurus.actors.remote.protocol import (
    PauseRequest,
    ResumeRequest,
    SignalRequest,
    decode_response,
    encode,
)
from persistasaurus.actors.runtime.primitives import SystemClock, new_id
from persistasaurus.store.sqlite.requests import SqliteRequests

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from persistasaurus.actors.remote.protocol import RemoteRequest, RemoteResponse
    from persistasaurus.store.requests import StoredRefusal


class Hears(Flow):
    """Takes so many signals, and returns them in the order in which they came."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    @flow(name="hears")
    async def main(self, count: int) -> list[Any]:
        while len(self.heard) < count:
            self.heard.append(await wait_for("word", Any))
        return self.heard

    @query
    def so_far(self) -> list[Any]:
        return self.heard


class Declares(Flow):
    @flow(name="declares")
    async def main(self) -> int:
        return await self.confirm()

    @signal
    def confirm(self, amount: int) -> int:
        return amount


class Fails(Flow):
    """Fails for as long as somebody says so."""

    is_down: bool = True

    @flow(name="fails")
    async def main(self) -> str:
        return await self.risky()

    @step
    def risky(self) -> str:
        if Fails.is_down:
            raise ConnectionError("down")
        return "up"


FLOWS = (Hears, Declares, Fails)


def requests_of(path: Path) -> SqliteRequests:
    return SqliteRequests(path, SystemClock().now)


@contextmanager
def opened(path: Path) -> Generator[SqliteRequests]:
    requests = requests_of(path)
    try:
        yield requests
    finally:
        requests.close()


def word(flow_id: str, payload: Any, *, signal_id: str | None = None, name: str = "word") -> SignalRequest:
    raw = msgspec.Raw(msgspec.json.encode(payload))
    return SignalRequest(
        flow_id, "tests", name=name, signal_id=signal_id or new_id(), payload=raw, at=SystemClock().now()
    )


def pause(flow_id: str) -> PauseRequest:
    return PauseRequest(flow_id, "ada", why="lunch")


def resume(flow_id: str) -> ResumeRequest:
    return ResumeRequest(flow_id, "ada", why="it is over")


def leave(path: Path, *requests: RemoteRequest) -> list[str]:
    """Leave requests for whoever owns the store, and return their ids."""
    ids = [new_id() for _ in requests]
    with opened(path) as store:
        for request_id, request in zip(ids, requests, strict=True):
            store.add(request_id, encode(request))
    return ids


def response(path: Path, request_id: str) -> RemoteResponse | None:
    with opened(path) as store:
        data = store.take_response(request_id)
    return None if data is None else decode_response(data)


def pending(path: Path) -> list[str]:
    """Return the ids of the requests that wait, in order."""
    with opened(path) as store:
        found: list[str] = []
        while arrived := store.arrived():
            found += [request.id for request in arrived]
        return found


def refusals(path: Path) -> list[StoredRefusal]:
    with opened(path) as store:
        return store.refusals()
