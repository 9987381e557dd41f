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
from typing import TYPE_CHECKING, NamedTuple

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


BESIDE = """
import select, sys, time
from persistasaurus.store import StoreReader
reader, seen, polls = StoreReader.open(sys.argv[1]), None, 0
looks = sys.argv[2] == "looks"
print("ready", flush=True)
began = time.process_time()
while not select.select([sys.stdin], [], [], 0.05 if looks else None)[0]:
    polls += 1
    version = reader.data_version()
    if version != seen:
        seen = version
        page = reader.headers(limit=100)
        reader.read(page[-1].stream)
print(polls, time.process_time() - began)
"""


def reader_beside(folder: Path) -> Figures:
    """256 flows at work, by turns beside a process that looks 20 times a second, and one that idles.

    Both are started in the same way before the clock runs: in that pause the engine tidies up, and what
    comes after it would be faster than what comes without.
    """
    lost: list[float] = []
    more_cpu: list[float] = []
    looked: list[Beside] = []
    with opened(folder) as system:
        steps_per_s(system)
        for number in range(16):
            # Either comes first as often as the other: what drifts falls on both.
            order = ("looks", "idles") if number % 2 else ("idles", "looks")
            found = {what: beside(system, folder, what) for what in order}
            looks, idles = found["looks"], found["idles"]
            lost.append(1 - looks.rate / idles.rate)
            more_cpu.append(looks.cpu / idles.cpu - 1)
            looked.append(looks)
    return {
        "share_lost": percentile(lost, 0.5),
        "share_lost_q1": percentile(lost, 0.25),
        "share_lost_q3": percentile(lost, 0.75),
        "more_engine_cpu_a_step": percentile(more_cpu, 0.5),
        "reader_share_of_a_core": percentile([one.reader_cpu for one in looked], 0.5),
        "polls_per_s": percentile([one.polls for one in looked], 0.5),
    }


class Beside(NamedTuple):
    """What the engine did beside a process, and what that process did."""

    rate: float
    cpu: float
    polls: float
    reader_cpu: float


def beside(system: FlowSystem, folder: Path, what: str) -> Beside:
    """Let the engine work beside a process."""
    with subprocess.Popen(
        [sys.executable, "-c", BESIDE, str(folder / "bench.db"), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        began, cpu = time.perf_counter(), time.process_time()
        rate = steps_per_s(system)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        said, _ = reader.communicate(b"enough")
    polls, reader_cpu = said.split()
    return Beside(rate, cpu, int(polls) / took, float(reader_cpu) / took)


def steps_per_s(system: FlowSystem, steps: int = 25) -> float:
    """Run 256 flows to their end."""
    began = time.perf_counter()
    handles = [system.start(Sequence.count, steps) for _ in range(AT_WORK)]
    for handle in handles:
        handle.result()
    return AT_WORK * steps / (time.perf_counter() - began)


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


def http_confirm(folder: Path) -> Figures:
    """Sign-ups confirmed over HTTP, by wrk."""
    from http_load import confirm  # noqa: PLC0415 - the only measure that needs the server

    return confirm(folder)


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
    "reader_beside": reader_beside,
    "one_flow": one_flow,
    "signal_receipt": signal_receipt,
    "waiting_flows": waiting_flows,
    "long_history": long_history,
    "core_import": core_import,
    "http_confirm": http_confirm,
}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(MEASURES[sys.argv[1]](Path(sys.argv[2]))) + "\n")
