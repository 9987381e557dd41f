"""What is used of uvicorn and h11 beyond their documents: a version without it is named here first."""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version

import h11
import pytest
import uvicorn
from persistasaurus.api.http.server import Server
from serving.doubles import Wire, protected_application, request
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

INSTALLED = f"uvicorn {version('uvicorn')}, h11 {version('h11')}"
METHODS = {
    H11Protocol: {
        "__init__": ["config", "server_state", "app_state", "_loop"],
        "connection_made": ["transport"],
        "data_received": ["data"],
        "connection_lost": ["exc"],
        "pause_writing": [],
        "resume_writing": [],
        "on_response_complete": [],
        "send_400_response": ["msg"],
    },
    uvicorn.Server: {
        "serve": ["sockets"],
        "startup": ["sockets"],
        "shutdown": ["sockets"],
        "capture_signals": [],
        "handle_exit": ["sig", "frame"],
    },
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in METHODS.items() for name in names]
)
def test_what_is_overridden_is_still_called_so(kind: type, name: str) -> None:
    found = getattr(kind, name, None)

    assert found is not None, f"{INSTALLED}: {kind.__name__} has no {name}"
    given = [parameter for parameter in inspect.signature(found).parameters if parameter != "self"]
    assert given == METHODS[kind][name], f"{INSTALLED}: {kind.__name__}.{name} takes something else"


def test_what_a_connection_looks_at_is_still_there() -> None:
    config = uvicorn.Config(app=lambda: None, log_config=None)

    async def look() -> H11Protocol:
        return H11Protocol(config, uvicorn.server.ServerState(), {})

    protocol = asyncio.run(look())
    for name in ("conn", "cycle", "flow", "loop", "client", "transport", "connections"):
        assert hasattr(protocol, name), f"{INSTALLED}: a connection has no {name}"
    assert isinstance(protocol.conn, h11.Connection), INSTALLED
    assert hasattr(protocol.conn, "trailing_data"), INSTALLED


def test_what_a_request_is_asked_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cycles: list[RequestResponseCycle] = []
    complete = H11Protocol.on_response_complete

    def remembered(self: H11Protocol) -> None:
        cycles.append(self.cycle)
        complete(self)

    monkeypatch.setattr(H11Protocol, "on_response_complete", remembered)
    with Server(protected_application()) as server, Wire(server.url) as wire:
        wire.send(request("GET", "/flows"))
        assert wire.answer().status == 200

    assert cycles, f"{INSTALLED}: nobody is told that an answer is complete"
    for name in ("disconnected", "message_event", "response_complete"):
        assert hasattr(cycles[0], name), f"{INSTALLED}: a request has no {name}"
    assert cycles[0].response_complete, INSTALLED
