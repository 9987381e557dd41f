"""Where a server may listen, who reaches it there, and how it stops."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from persistasaurus.api.http import server as server_module
from persistasaurus.api.http.access import Access, OpenToAll
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.listener import TcpListener, UnixListener
from persistasaurus.api.http.middleware.hosts import Hosts
from persistasaurus.api.http.middleware.limits import ServerLimits
from persistasaurus.api.http.server import CannotServe, Server, serve
from persistasaurus.api.http.tokens import Tokens
from routes.flows import Anything
from serving.doubles import (
    PATIENCE,
    Effects,
    Wire,
    application,
    protected_application,
    request,
    tokens,
)
from system.doubles import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persistasaurus import FlowSystem
    from persistasaurus.api.http.middleware.asgi import ASGIScope

TESTS = Path(__file__).resolve().parents[1]
NAMED = Hosts(["flows.example.org"])


@pytest.fixture
def folder() -> Iterator[Path]:
    # Paths of unix sockets have some hundred letters at most, and those of pytest's folders may have more.
    with tempfile.TemporaryDirectory(prefix="pst-") as name:
        yield Path(name)


def made_in_passing(folder: Path) -> Tokens:
    return Tokens.beside(folder / "flows.db")


def of_the_host(_scope: ASGIScope) -> Access | None:
    return None


LOCAL = ["127.0.0.1", "localhost", "::1", "127.0.0.7", "unix"]
OPEN = ["0.0.0.0", "::"]


@pytest.mark.parametrize(
    ("places", "access", "hosts", "reason"),
    [
        (LOCAL, "made", None, None),
        (LOCAL, "chosen", None, None),
        (LOCAL, "own", None, None),
        (LOCAL, "none", None, None),
        (OPEN, "made", None, "list the accepted tokens"),
        (OPEN, "made", NAMED, "list the accepted tokens"),
        (OPEN, "none", None, "without authentication"),
        (OPEN, "none", NAMED, "without authentication"),
        (OPEN, "chosen", None, "pass the host names"),
        (OPEN, "own", None, "pass the host names"),
        (OPEN, "chosen", NAMED, None),
        (OPEN, "own", NAMED, None),
    ],
)
def test_what_other_machines_reach_needs_tokens_and_names_that_somebody_chose(
    folder: Path, places: list[str], access: str, hosts: Hosts | None, reason: str | None
) -> None:
    check: Any = {
        "made": lambda: made_in_passing(folder),
        "chosen": tokens,
        "own": lambda: of_the_host,
        "none": OpenToAll,
    }[access]()
    app = protected_application(access=check, hosts=hosts)

    for host in places:
        if reason is None:
            # All that comes before it accepts connections.
            server_module._listen(app, host, 0, folder / "socket" if host == "unix" else None).close()
        else:
            with pytest.raises(CannotServe, match=f"other machines: {reason}"):
                Server(app, host=host).start()
            with pytest.raises(CannotServe, match=reason):
                serve(app, host=host, port=0)


def test_a_name_that_leads_elsewhere_is_not_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("0.0.0.0", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: elsewhere)

    with pytest.raises(CannotServe, match="localhost can be reached from other machines"):
        Server(protected_application(access=OpenToAll()), host="localhost").start()


def test_a_parser_that_is_known_to_be_fooled_is_not_served_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _name: "0.14.0")

    with pytest.raises(CannotServe, match=r"h11 0\.14\.0 can take two requests for one"):
        serve(protected_application(), port=0)


def test_a_server_is_on_loopback_unless_told_otherwise() -> None:
    with Server(protected_application()) as server:
        assert server.url.startswith("http://127.0.0.1:")


def test_it_is_served_on_all_addresses_when_somebody_has_thought_about_it() -> None:
    with Server(protected_application(hosts=NAMED), host="0.0.0.0") as server:
        port = server.url.rpartition(":")[2]
        with Wire(f"http://127.0.0.1:{port}") as wire:
            wire.send(request("GET", "/flows").replace(b"localhost", b"flows.example.org"))
            assert wire.answer().status == 200
            wire.send(request("GET", "/flows"))
            assert wire.answer().status == 403


def test_a_port_in_use_is_told_clearly() -> None:
    with Server(protected_application()) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(
            CannotServe, match=f"cannot listen on 127.0.0.1 port {port}: another program"
        ) as raised:
            serve(protected_application(), port=port)

    assert "Errno" not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "choose a port above 1023"),
        (OSError(99, "x"), "does not have"),
    ],
)
def test_what_the_system_refuses_is_told_clearly(
    monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str
) -> None:
    class Refusing(socket.socket):
        def bind(self, _address: Any) -> None:
            raise error

    monkeypatch.setattr(socket, "socket", Refusing)

    with pytest.raises(CannotServe, match=reason):
        TcpListener("127.0.0.1", 80)


@pytest.mark.parametrize(
    ("host", "port"),
    [("no.such.host.invalid", 0), ("256.0.0.1", 0), ("", -1), ("127.0.0.1", 70_000), ("a" * 300, 0)],
)
def test_an_address_that_is_none_is_told_clearly(host: str, port: int) -> None:
    with pytest.raises(CannotServe, match="cannot listen on"):
        TcpListener(host, port)


def over_unix(path: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(PATIENCE)
        one.connect(str(path))
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: one.recv(65536), b""))


def test_a_unix_socket_is_its_owners_alone_and_goes_with_the_server(folder: Path) -> None:
    path = folder / "socket"
    before = os.umask(0)
    try:
        with Server(protected_application(), uds=path) as server:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert server.url == f"http+unix://{path}"
            assert b"200 OK" in over_unix(path, request("GET", "/flows", "Connection: close"))
            assert b"401 " in over_unix(path, request("GET", "/flows", "Connection: close", token=""))
    finally:
        os.umask(before)

    assert not path.exists()


def test_connections_of_a_unix_socket_are_counted_too(folder: Path) -> None:
    path = folder / "socket"
    app = protected_application(limits=ServerLimits(connections=1))
    with Server(app, uds=path), socket.socket(socket.AF_UNIX) as held:
        held.connect(str(path))

        assert b"503 " in over_unix(path, request("GET", "/flows", "Connection: close"))


def test_a_socket_that_a_dead_server_left_is_replaced(folder: Path) -> None:
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))

    with Server(protected_application(), uds=path):
        assert b"200 OK" in over_unix(path, request("GET", "/flows", "Connection: close"))


def test_a_socket_that_answers_is_left_alone(folder: Path) -> None:
    path = folder / "socket"
    with Server(protected_application(), uds=path):
        with pytest.raises(CannotServe, match="another server answers there"):
            serve(protected_application(), uds=path)
        assert b"200 OK" in over_unix(path, request("GET", "/flows", "Connection: close"))


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_not_touched(folder: Path, kind: str) -> None:
    path = folder / "socket"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(folder / "elsewhere")

    with pytest.raises(CannotServe, match="was not touched"):
        UnixListener(path)

    assert path.is_symlink() or path.exists()


def test_a_folder_that_is_not_there_is_told_clearly(folder: Path) -> None:
    with pytest.raises(CannotServe, match="its folder does not exist"):
        UnixListener(folder / "missing" / "socket")


def test_a_socket_that_is_another_servers_by_now_stays(folder: Path) -> None:
    path = folder / "socket"
    first = UnixListener(path)
    path.unlink()
    second = UnixListener(path)

    first.close()

    assert path.exists()
    second.close()


def test_nothing_tells_which_software_answers() -> None:
    with Server(protected_application()) as server, Wire(server.url) as wire:
        for path in ("/flows", "/nowhere", "/broken"):
            wire.send(request("GET", path))
            heard = wire.answer()
            assert not {"server", "x-powered-by", "via"} & heard.headers.keys()
        wire.send(b"nonsense\r\n\r\n")
        heard = wire.answer()

    assert "server" not in heard.headers
    assert b"uvicorn" not in heard.body.lower()


def test_an_application_that_does_not_start_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("not today")

    framework = application()
    framework.on_startup.append(fail)
    app = protected_application()
    app._app = framework

    with pytest.raises(CannotServe, match="did not start"):
        Server(app).start()


def test_a_server_that_is_stopped_can_be_started_again() -> None:
    app = protected_application()
    for _ in range(2):
        with Server(app) as server, Wire(server.url) as wire:
            wire.send(request("GET", "/stream"))
            wire.until(b"data: first")


def test_streams_end_properly_when_the_server_stops() -> None:
    with Server(protected_application()) as server:
        wire = Wire(server.url)
        wire.send(request("GET", "/stream"))
        wire.until(b"data: first")

    with wire:
        assert wire.rest().endswith(b"\r\n0\r\n\r\n")


class Child:
    """The process of `serving/child.py`."""

    def __init__(self, drain: float = PATIENCE) -> None:
        code = "import sys; from serving.child import main; main(*sys.argv[1:])"
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        command = [sys.executable, "-W", "error", "-c", code, str(drain)]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.strip(), err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_and_the_program_goes_on(number: signal.Signals) -> None:
    with Child() as child, Wire(child.url) as wire:
        wire.send(request("GET", "/stream"))
        wire.until(b"data: first")

        child.process.send_signal(number)

        assert wire.rest().endswith(b"\r\n0\r\n\r\n")
        assert child.ended() == (0, str(int(number)), "")


def test_a_request_under_way_is_answered_before_the_server_stops() -> None:
    with Child() as child, Wire(child.url) as wire:
        wire.send(request("POST", "/flows", "Content-Length: 7", "Content-Type: application/json"))
        wire.send(b'{"a"')
        wait_for_request(child.url)

        child.process.send_signal(signal.SIGTERM)
        wait_until_closed(child.url)
        wire.send(b":1}")

        assert wire.answer().json() == {"a": 1}
        assert child.ended()[:2] == (0, str(int(signal.SIGTERM)))


def test_a_request_that_takes_too_long_is_told_that_the_server_stops() -> None:
    with Child(drain=0.2) as child, Wire(child.url) as wire:
        wire.send(request("GET", "/slow"))
        wait_for_request(child.url)

        child.process.send_signal(signal.SIGTERM)

        heard = wire.answer()
        assert heard.status == 503
        assert "the server is stopping" in heard.json()["detail"]
        assert child.ended()[0] == 0


def test_a_second_signal_ends_it_at_once() -> None:
    with Child() as child, Wire(child.url) as wire:
        wire.send(request("GET", "/slow"))
        wait_for_request(child.url)

        child.process.send_signal(signal.SIGINT)
        wait_until_closed(child.url)
        child.process.send_signal(signal.SIGINT)

        assert child.ended()[1] == str(int(signal.SIGINT))


def wait_for_request(url: str) -> None:
    """Return when what was sent on other connections before has been read: they are served in turn."""
    for _ in range(2):
        with Wire(url) as wire:
            wire.send(request("GET", "/health"))
            wire.answer()


def wait_until_closed(url: str) -> None:
    while True:
        with contextlib.suppress(OSError), Wire(url) as wire:
            wire.socket.settimeout(0.05)
            continue
        return


def test_threads_do_not_take_the_signals_of_the_program() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Server(protected_application(Effects())):
        assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("place", ["127.0.0.1", "::1"])
def test_what_is_sent_in_two_pieces_does_not_wait_for_the_client_to_acknowledge_the_first(place: str) -> None:
    heard: list[int] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        heard.append(_nodelay(scope["client"][1]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    around = protected_application()
    around._app = app
    with Server(around, host=place) as server, Wire(server.url) as wire:
        wire.send(request("GET", "/flows"))
        assert wire.answer().status == 204

    assert heard == [1]


def _nodelay(peer: int) -> int:
    """Ask this process's sockets for the one that is connected to a port."""
    for number in (int(path.name) for path in Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as one:
            if one.family in (socket.AF_INET, socket.AF_INET6) and one.getpeername()[1] == peer:
                return bool(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    raise AssertionError("there is no such connection")


def test_whoever_waits_for_a_flow_is_answered_at_once_when_the_server_stops(
    system: FlowSystem, caplog: pytest.LogCaptureFixture
) -> None:
    system.start(Anything.wait, flow_id="waits")
    wait_until(lambda: system.flow("waits").status == "waiting")
    app = asgi_app(system, access=tokens())
    with Server(app) as server:
        wire = Wire(server.url)
        wire.send(request("GET", "/flows/waits/result?wait=30"))
        wait_until(lambda: len(app.rules.in_flight) == 1)
        wait_until(lambda: vars(app.rules.streams)["_waits"])

    with wire:
        heard = wire.answer()
    assert (heard.status, heard.json()["status"]) == (202, "waiting")
    assert not [record for record in caplog.records if record.exc_info]
