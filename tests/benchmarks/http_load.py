"""The HTTP API under load: sign-ups confirmed by wrk, beside what the disk can do.

As a program, it is the server: python http_load.py STORE COUNT
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from disk import limit, mean
from persistasaurus import FlowSystem
from persistasaurus.api.examples.routes import EXAMPLE_ROUTES
from persistasaurus.api.http.access import OpenToAll
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.middleware.limits import ServerLimits
from persistasaurus.api.http.server import serve
from persistasaurus.flows.examples import SignupFlow, signup_flow

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SIGNUPS = 20_000
CONNECTIONS = 64
MOST = 1e9
UNLIMITED = ServerLimits(caller_rate=MOST, caller_burst=10**9, flow_signal_rate=MOST, flow_signal_burst=10**9)


def confirm(folder: Path, seconds: int) -> dict[str, float]:
    """`POST .../confirm` of many sign-ups, each once: the rate, and the rate of commits of the disk alone.

    Nothing, if there is no wrk in the PATH.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        return {}
    with served(folder / "bench.db") as url:
        before = limit(folder)
        done = subprocess.run(
            [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", HERE / "confirm.lua", url],
            check=True,
            capture_output=True,
            text=True,
        )
        bound = mean(before, limit(folder))
    said = json.loads(done.stdout.splitlines()[-1])
    assert not said["failed"], said
    assert said["confirmed"] < SIGNUPS, "more sign-ups are needed"
    rate = said["confirmed"] / said["seconds"]
    return {
        "confirms_per_s": rate,
        "confirms_per_fdatasync": rate / bound.rate,
        "p50_ms": said["p50_ms"],
        "p99_ms": said["p99_ms"],
        "fdatasync_per_s": bound.rate,
    }


@contextmanager
def served(store: Path) -> Iterator[str]:
    """Serve sign-ups that wait to be confirmed, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, __file__, store, str(SIGNUPS)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


async def sign_up(system: FlowSystem, flow: type[SignupFlow], count: int) -> None:
    """Start sign-ups, a few hundred at a time."""
    for first in range(0, count, 500):
        await asyncio.gather(
            *(
                system.start_async(flow.sign_up(f"user {n}", "ada@example.com"), flow_id=f"s{n}")
                for n in range(first, min(first + 500, count))
            )
        )


def main(store: str, count: int) -> None:
    """Serve until told to stop."""
    said, flow = sys.stdout, signup_flow(timedelta(0))
    pause = threading.Event()

    def say(url: str) -> None:
        said.write(f"{url}\n")
        said.flush()

    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        FlowSystem(store, flows=[flow]) as system,
    ):
        asyncio.run(sign_up(system, flow, count))
        while system.statistics().live_flows:
            pause.wait(0.1)
        serve(
            asgi_app(system, routes=EXAMPLE_ROUTES, access=OpenToAll(), limits=UNLIMITED),
            port=0,
            on_bound=say,
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
