"""`serve`: the engine with its HTTP API, from the command line."""

from __future__ import annotations

import http.client
import json
import re
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

from cli.terminal import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.terminal import Running

    Begin = Callable[..., Running]

SHOP = __file__.replace("test_serving.py", "shop.py")


def request(port: int, method: str, path: str, token: str = "") -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told


def port_of(server: Running) -> int:
    server.until("curl")
    found = re.search(r"Serving at http://127\.0\.0\.1:(\d+)", server.said)
    assert found is not None
    return int(found[1])


def free_port() -> int:
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        return asking.getsockname()[1]


def test_it_serves_at_the_port_that_was_asked_for(begin: Begin, tmp_path: Path) -> None:
    port = free_port()
    server = begin("serve", "--store", tmp_path / "flows.db", "--port", str(port))

    assert port_of(server) == port
    assert request(port, "GET", "/health")[0] == 200


def test_a_port_that_is_taken_is_told_in_one_line(begin: Begin, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        server = begin("serve", "--store", tmp_path / "flows.db", "--port", str(taken))

        assert server.end() == 1
    assert f"cannot listen on 127.0.0.1 port {taken}" in server.said
    assert "Traceback" not in server.said


def test_it_serves_the_examples_and_says_how_to_ask(begin: Begin, tmp_path: Path) -> None:
    store = tmp_path / "flows.db"
    server = begin("serve", "--store", store, "--port", "0")
    port = port_of(server)
    beside = tmp_path / "flows.db.token"
    token = beside.read_text().strip()

    assert stat.S_IMODE(beside.stat().st_mode) == 0o600
    assert token not in server.said
    assert str(beside) in server.said
    assert request(port, "GET", "/health") == (200, {"status": "ok"})
    assert request(port, "GET", "/flows")[0] == 401
    assert request(port, "POST", "/flows/hello-world", token)[0] == 200
    server.until("flow completed")
    assert "Hello, World (4)" in server.said
    server.interrupt()
    assert server.end() == 130
    assert "Traceback" not in server.said


def test_it_serves_the_flows_of_a_module(begin: Begin, store: Path) -> None:
    server = begin("serve", SHOP, "--store", store, "--port", "0")
    port = port_of(server)
    token = store.with_name("flows.db.token").read_text().strip()

    status, told = request(port, "GET", "/flows/order-1", token)

    assert status == 200
    assert "order-1" in json.dumps(told)


def test_where_it_may_not_listen_it_says_what_to_do_and_lets_go_of_the_store(tmp_path: Path) -> None:
    told = run("serve", "--store", tmp_path / "flows.db", "--host", "0.0.0.0", "--port", "0")

    assert told.returncode == 1
    assert "--tokens" in told.stderr
    assert "Traceback" not in told.stderr


def test_without_the_extra_it_tells_in_one_line_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['litestar'] = None; from persistasaurus.api.cli.main import main; main()"
    )
    command = [sys.executable, "-c", program, "serve", "--store", str(tmp_path / "flows.db")]

    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert told.returncode == 2
    assert told.stderr == "persistasaurus: serve needs litestar: pip install 'persistasaurus[server]'\n"
    assert not (tmp_path / "flows.db").exists()
