"""A server that is killed and started again while clients insist on being answered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Self

import httpx

if TYPE_CHECKING:
    from random import Random

SERVER = Path(__file__).with_name("server.py")
PATIENCE_S = 60.0
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_never = Event()


def pause(seconds: float) -> None:
    """Let a random moment go by. What is tested is that it does not matter which."""
    _never.wait(seconds)


class Served:
    """The server's processes, one after the other, at one store."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "flows.db"
        self.effects = folder / "effects"
        self.errors = folder / "errors"
        self.url = ""
        self.kills = 0
        self.stops = 0
        self.recoveries: list[float] = []
        """Seconds from the start of a process to its first answer."""
        self.process: subprocess.Popen[str] | None = None

    def launch(self) -> None:
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, SERVER, self.store, self.effects],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def wait_until_bound(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        began = perf_counter()
        line = self.process.stdout.readline().strip()
        assert line.startswith("http://"), f"the server did not start: {self.errors.read_text()[-2000:]}"
        self.url = line
        assert httpx.get(f"{line}/health", timeout=PATIENCE_S).status_code == 200
        self.recoveries.append(perf_counter() - began)

    def kill(self) -> None:
        process, self.process, self.url = self.process, None, ""
        if process is not None:
            process.kill()
            process.communicate(timeout=PATIENCE_S)
            self.kills += 1

    def stop_for(self, seconds: float) -> None:
        assert self.process is not None
        self.stops += 1
        os.kill(self.process.pid, signal.SIGSTOP)
        pause(seconds)
        os.kill(self.process.pid, signal.SIGCONT)

    def torment(self, rng: Random, kills: int) -> None:
        """Kill it so often, at any moment: while it starts, recovers, works, and after it stood still."""
        while self.kills < kills:
            if self.process is None:
                self.launch()
            if rng.random() < 0.2:
                pause(rng.uniform(0, 0.6))
            else:
                self.wait_until_bound()
                pause(rng.uniform(0.02, 0.5))
                if rng.random() < 0.3:
                    self.stop_for(rng.uniform(0.01, 0.2))
                    pause(rng.uniform(0, 0.05))
            self.kill()
        self.launch()
        self.wait_until_bound()


class Insisting:
    """A client that asks again, the same, until it is answered."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._client = httpx.Client(timeout=5)
        self.tries = 0

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        deadline = monotonic() + PATIENCE_S
        while True:
            assert monotonic() < deadline, f"{method} {path} was not answered in {PATIENCE_S} s"
            url = self._served.url
            if url:
                self.tries += 1
                try:
                    answer = self._client.request(method, url + path, **options)
                except httpx.TransportError:
                    pass
                else:
                    if answer.status_code not in _TRY_AGAIN:
                        return answer
            pause(0.01)

    def close(self) -> None:
        self._client.close()


class Customers:
    """Order things, and pay for them, each with a client of its own, until they are told to stop."""

    def __init__(self, served: Served, count: int) -> None:
        self._served = served
        self._is_over = Event()
        self._lock = Lock()
        self.placed: dict[str, int] = {}
        self.paid: set[str] = set()
        self.errors: list[BaseException] = []
        self._threads = [Thread(target=self._order, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE_S)

    def _order(self, customer: int) -> None:
        client, number = Insisting(self._served), 0
        try:
            while not self._is_over.is_set():
                number += 1
                self._one(client, f"order-{customer}-{number}", number)
        except BaseException as error:  # noqa: BLE001 - raised by the test
            self.errors.append(error)
        finally:
            client.close()

    def _one(self, client: Insisting, flow_id: str, amount: int) -> None:
        new = {"type": "order", "flowId": flow_id, "args": {"amount": amount}}
        placed = client.ask("POST", "/flows", json=new)
        assert placed.status_code in (200, 201, 202), placed.text
        with self._lock:
            self.placed[flow_id] = amount
        payment = {"payload": {"amount": 1}, "signalId": f"{flow_id}-paid"}
        paid = client.ask("POST", f"/flows/{flow_id}/signals/paid", json=payment)
        # Whose first answer was lost with the process is answered the same, also after the end.
        assert paid.status_code in (200, 202), paid.text
        with self._lock:
            self.paid.add(flow_id)
