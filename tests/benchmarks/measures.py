"""What is measured. Each measure is run by `run.py` in a process of its own, on a fresh folder.

A measure returns figures by name. Those that are compared with the disk measure its limit right
before and right after, in the same process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from bench_flows import FLOWS, Pacing, Sequence, Waiting
from disk import limit, mean, percentile
from persistasaurus import FlowSystem, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

Figures = dict[str, float]

AT_WORK = 256
WAITING = 100_000
LONG = 100_000
ENDLESS = Limits(events=10**9, history_bytes=10**12)


def opened(folder: Path) -> FlowSystem:
    return FlowSystem(folder / "bench.db", flows=FLOWS, limits=ENDLESS)


def many_flows(folder: Path) -> Figures:
    """256 flows at work: durable steps a second, and what a step costs of the processor."""
    steps = 400
    with opened(folder) as system:
        system.run(Sequence.count, 100)
        before = limit(folder)
        handles = [system.start(Pacing.follow, flow_id=f"busy-{n}") for n in range(AT_WORK)]
        wall, cpu = time.perf_counter(), time.process_time()
        for handle in handles:
            handle.signal("more", steps)
            handle.signal("more", 0)
        for handle in handles:
            handle.result()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        bound = mean(before, limit(folder))
    total = AT_WORK * steps
    return {
        "steps_per_s": total / wall,
        "steps_per_fdatasync": total / wall / bound.rate,
        "cpu_us_per_step": cpu / total * 1e6,
        "fdatasync_per_s": bound.rate,
    }


def one_flow(folder: Path) -> Figures:
    """One flow, steps in sequence: the time of a step."""
    steps = 1000
    with opened(folder) as system:
        system.run(Sequence.count, 100)
        before = limit(folder)
        handle = system.start(Sequence.count, steps)
        handle.result()
        bound = mean(before, limit(folder))
        times = [event.at for event in handle.events() if type(event.event).__name__ == "StepCompleted"]
    gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
    p50 = percentile(gaps, 0.5)
    return {
        "p50_us": p50 * 1e6,
        "allowed_us": 1.5 * bound.p50_s * 1e6 + 150,
        "share_of_allowed": p50 / (1.5 * bound.p50_s + 150e-6),
        "fdatasync_p50_us": bound.p50_s * 1e6,
    }


def signal_receipt(folder: Path) -> Figures:
    """A signal sent, until its receipt."""
    times: list[float] = []
    with opened(folder) as system:
        handles = [system.start(Waiting.wait, "signal", flow_id=f"w-{n}") for n in range(500)]
        before = limit(folder)
        for number, handle in enumerate(handles):
            sent = time.perf_counter()
            handle.signal("go", number)
            times.append(time.perf_counter() - sent)
            handle.result()
        bound = mean(before, limit(folder))
    p50 = percentile(times, 0.5)
    return {
        "p50_us": p50 * 1e6,
        "allowed_us": 1.5 * bound.p50_s * 1e6 + 150,
        "share_of_allowed": p50 / (1.5 * bound.p50_s + 150e-6),
        "fdatasync_p50_us": bound.p50_s * 1e6,
    }


def resident() -> float:
    """Return the process's resident memory in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def start_waiting(system: FlowSystem, count: int) -> None:
    """Start flows that wait, half for a signal and half for a timer, a few hundred at a time."""
    for first in range(0, count, 500):
        await asyncio.gather(
            *(
                system.start_async(Waiting.wait, "signal" if n % 2 else "timer", flow_id=f"w-{n}")
                for n in range(first, min(first + 500, count))
            )
        )


def until_at_rest(system: FlowSystem) -> None:
    """Wait until no flow has an actor any more."""
    pause = threading.Event()
    while system._working.live_actors:
        pause.wait(0.1)


def waiting_flows(folder: Path) -> Figures:
    """100,000 flows that wait: memory beyond that of none, threads, and bytes on disk."""
    with opened(folder) as system:
        asyncio.run(start_waiting(system, 1000))
        until_at_rest(system)
        none = resident()
        asyncio.run(start_waiting(system, 2000))
        began = time.perf_counter()
        asyncio.run(start_waiting(system, WAITING))
        took = time.perf_counter() - began
        until_at_rest(system)
        more = resident() - none
        threads = threading.active_count()
        woken = wake(system)
    size = sum(path.stat().st_size for path in folder.glob("bench.db*"))
    return {
        "more_memory_mib": more,
        "threads": threads,
        "bytes_each": size / WAITING,
        "starts_per_s": WAITING / took,
        "wake_p50_ms": percentile(woken, 0.5) * 1e3,
        "wake_p99_ms": percentile(woken, 0.99) * 1e3,
    } | reopened(folder)


def wake(system: FlowSystem) -> list[float]:
    """Wake flows by a signal, each to its result."""
    times: list[float] = []
    for number in range(1, 2001, 2):
        handle = system.flow(f"w-{number}")
        sent = time.perf_counter()
        handle.signal("go", number)
        handle.result()
        times.append(time.perf_counter() - sent)
    return times


REOPEN = """
import sys, time
from pathlib import Path
from measures import opened
began = time.perf_counter()
with opened(Path(sys.argv[1])) as system:
    handle = system.flow("w-99999")
    handle.signal("go", 7)
    assert handle.result() == 7
    print(time.perf_counter() - began)
"""


def reopened(folder: Path) -> Figures:
    """Open the store in a fresh process, up to the first answer."""
    done = subprocess.run(
        [sys.executable, "-c", REOPEN, str(folder)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return {"open_to_answer_s": float(done.stdout)}


def long_history(folder: Path) -> Figures:
    """A flow with 100,000 events: its replay, and what a step costs it compared with a new flow."""
    steps = LONG // 2 - 1
    with opened(folder) as system:
        old = system.start(Pacing.follow, flow_id="old")
        old.signal("more", steps)
        until_at_rest(system)
    with opened(folder) as system:
        began = time.perf_counter()
        old = system.flow("old")
        events = old.header().version
        old.signal("more", 1)
        until_events(old, events + 4)
        replay = time.perf_counter() - began
        new = system.start(Pacing.follow, flow_id="new")
        ratios = [paced(old) / paced(new) for _ in range(7)]
    return {"replay_s": replay, "events": events, "old_to_new": percentile(ratios, 0.5)}


def until_events(handle: object, count: int) -> None:
    """Wait until a flow has so many events."""
    waited = threading.Event()
    while handle.header().version < count or handle.status != "waiting":  # type: ignore[attr-defined]
        waited.wait(0.002)


def paced(handle: object, steps: int = 200) -> float:
    """Return what a step costs the processor, for a flow that is at work already."""
    target = handle.header().version + 2 * steps + 2  # type: ignore[attr-defined]
    before = time.process_time()
    handle.signal("more", steps)  # type: ignore[attr-defined]
    until_events(handle, target)
    return (time.process_time() - before) / steps


IMPORT = "import time; t = time.perf_counter(); import persistasaurus; print(time.perf_counter() - t)"


def core_import(folder: Path) -> Figures:
    """The import of the core, in fresh processes."""
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True, cwd=folder
            ).stdout
        )
        for _ in range(7)
    ]
    return {"import_ms": percentile(times, 0.5) * 1e3}


MEASURES: dict[str, Callable[[Path], Figures]] = {
    "many_flows": many_flows,
    "one_flow": one_flow,
    "signal_receipt": signal_receipt,
    "waiting_flows": waiting_flows,
    "long_history": long_history,
    "core_import": core_import,
}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(MEASURES[sys.argv[1]](Path(sys.argv[2]))) + "\n")
