"""What is measured of the engine alone. Run by `run.py` in a process of its own, on a fresh folder:

    python measures.py MEASURE FOLDER usual|quick [WAITING]

A measure prints figures by name as JSON. What cannot be measured here prints why, and exits with SKIPPED.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw
from bench_actors import actors
from bench_flows import FLOWS, Pacing, Pausing, Ringing, Sequence, Waiting, rang
from contenders.engine import until_at_rest
from disk import percentile
from meter import Meter
from persistasaurus import FlowSystem, Limits, SignalTo, SupervisorRules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from persistasaurus.flows import FlowCall

Figures = dict[str, float]

AT_WORK = 256
ENDLESS = Limits(events=10**9, history_bytes=10**12)
MEMORY = Path("/dev/shm")
"""A file system in memory: what is synced there is not waited for."""
SKIPPED = 75


class Skipped(Exception):
    """A measure is left out; the text says why."""


class Size(NamedTuple):
    """How much is done."""

    waiting: int = 100_000
    timers: int = 100_000
    long: int = 100_000
    turns: int = 16
    http_s: int = 8
    flood: int = 20_000
    asks: int = 10_000


QUICK = Size(waiting=10_000, timers=10_000, long=10_000, turns=2, http_s=2, flood=3_000, asks=2_000)


def opened(folder: Path, rules: SupervisorRules | None = None) -> FlowSystem:
    return FlowSystem(folder / "bench.db", flows=FLOWS, limits=ENDLESS, rules=rules)


def counts(_: Path, __: Size) -> Figures:
    """What a five-step flow, a step of a long flow, a signal to a passivated flow and an opening cost.

    Statements of SQL, commits, and context switches where no disk is waited for. Statements are counted in a
    pass of their own, since whoever counts them is in the way.
    """
    if not MEMORY.is_dir():
        raise Skipped(f"there is no {MEMORY}")
    found: Figures = {}
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        for of, (items, work) in COUNTED.items():
            with counted_system(Path(folder)) as system:
                ready = work(system, items)
                commits = system.statistics().commits
                with Meter() as meter:
                    ready()
                found[f"{of}_switches"] = meter.switches / items
                found[f"{of}_commits"] = (system.statistics().commits - commits) / items
        with statements() as so_far:
            for of, (items, work) in COUNTED.items():
                with counted_system(Path(folder)) as system:
                    ready = work(system, items)
                    before = so_far()
                    ready()
                    found[f"{of}_statements"] = (so_far() - before) / items
            before = so_far()
            with opened(Path(folder)):
                found["new_open_statements"] = so_far() - before
            before, threads = so_far(), threading.active_count()
            with opened(Path(folder)):
                found["open_threads"] = threading.active_count() - threads
            found["open_close_statements"] = so_far() - before
    return found


@contextmanager
def counted_system(folder: Path) -> Iterator[FlowSystem]:
    """Open a fresh store whose flows are passivated soon, and warm it up."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        rules = SupervisorRules(idle_s=0.1)
        with FlowSystem(Path(place) / "bench.db", flows=FLOWS, limits=ENDLESS, rules=rules) as system:
            system.run(Sequence.count, 100)
            yield system


@contextmanager
def statements() -> Iterator[Callable[[], int]]:
    """Count the statements of all connections that are opened meanwhile."""
    seen: list[None] = []

    def hook(connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda _event: seen.append(None))

    apsw.connection_hooks.append(hook)
    try:
        yield lambda: len(seen)
    finally:
        apsw.connection_hooks.remove(hook)


def flows_alone(system: FlowSystem, flows: int) -> Callable[[], None]:
    """Prepare flows of five steps, one after the other."""

    def work() -> None:
        for _flow in range(flows):
            system.run(Sequence.count, 5)

    return work


def long_flow(system: FlowSystem, steps: int) -> Callable[[], None]:
    """Prepare one flow of many steps."""
    return lambda: system.run(Sequence.count, steps) and None


def signals(system: FlowSystem, flows: int) -> Callable[[], None]:
    """Prepare signals to passivated flows, each to its result."""
    handles = [system.start(Waiting.wait, "signal") for _flow in range(flows)]
    until_at_rest(system)

    def work() -> None:
        for handle in handles:
            handle.signal("go", 1)
            handle.result()

    return work


COUNTED: dict[str, tuple[int, Callable[[FlowSystem, int], Callable[[], None]]]] = {
    "flow": (100, flows_alone),
    "step": (1000, long_flow),
    "signal": (100, signals),
}


def open_close(folder: Path, _: Size) -> Figures:
    """Open a store without flows, and close it."""
    times: list[float] = []
    opened(folder).close()
    for _time in range(30):
        began = time.perf_counter()
        opened(folder).close()
        times.append(time.perf_counter() - began)
    return {"ms": percentile(times, 0.5) * 1e3}


def beside_spinning(folder: Path, _: Size) -> Figures:
    """200 flows of 50 steps, and one of five alone, beside a thread of the host that computes without end."""
    flows, steps, alone = 200, 50, 30
    with opened(folder) as system:
        steps_per_s(system, flows, steps)
        undisturbed, quiet_ms = steps_per_s(system, flows, steps), flow_ms(system, alone)
        with spinning():
            disturbed, spinning_ms = steps_per_s(system, flows, steps), flow_ms(system, alone)
    return {
        "share_left": disturbed / undisturbed,
        "steps_per_s": disturbed,
        "one_flow_ms": spinning_ms,
        "one_flow_times_as_long": spinning_ms / quiet_ms,
    }


@contextmanager
def spinning() -> Iterator[None]:
    """Let a thread of this process compute."""
    done = threading.Event()

    def spin() -> None:
        while not done.is_set():
            sum(range(1000))

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def flow_ms(system: FlowSystem, flows: int) -> float:
    """Return what a flow of five steps takes, alone."""
    times: list[float] = []
    for _flow in range(flows):
        began = time.perf_counter()
        system.run(Sequence.count, 5)
        times.append(time.perf_counter() - began)
    return percentile(times, 0.5) * 1e3


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


def reader_beside(folder: Path, size: Size) -> Figures:
    """256 flows at work, by turns beside a process that looks 20 times a second, and one that idles.

    Both are started in the same way before the clock runs: in that pause the engine tidies up, and what
    comes after it would be faster than what comes without.
    """
    lost: list[float] = []
    more_cpu: list[float] = []
    looked: list[Beside] = []
    with opened(folder) as system:
        steps_per_s(system)
        for number in range(size.turns):
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


def steps_per_s(system: FlowSystem, flows: int = AT_WORK, steps: int = 25) -> float:
    """Run many flows to their end."""
    began = time.perf_counter()
    # At once: else each start is waited for, and that is what is measured beside a thread that computes.
    for handle in system.start_many([Sequence.count(steps) for _ in range(flows)]):
        handle.result()
    return flows * steps / (time.perf_counter() - began)


def resident() -> float:
    """Return the process's resident memory in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def start_all(system: FlowSystem, calls: Iterable[tuple[str, FlowCall[Any]]]) -> None:
    """Start flows, given by id and call, a thousand at a time."""
    calls = iter(calls)
    while batch := dict(islice(calls, 1000)):
        system.start_many(batch)


def waits(first: int, last: int) -> Iterator[tuple[str, FlowCall[int]]]:
    """Name flows that wait: by turns for a timer that is far away, and for a signal."""
    return ((f"w-{n}", Waiting.wait("signal" if n % 2 else "timer")) for n in range(first, last))


def waiting_flows(folder: Path, size: Size) -> Figures:
    """Flows that wait: how fast they start, memory beyond that of none, threads, bytes on disk."""
    warm = 3000
    with opened(folder) as system:
        start_all(system, waits(0, warm))
        until_at_rest(system)
        none = resident()
        began = time.perf_counter()
        start_all(system, waits(warm, size.waiting))
        took = time.perf_counter() - began
        until_at_rest(system)
        more = resident() - none
        threads = threading.active_count()
        woken = wake(system)
    on_disk = sum(path.stat().st_size for path in folder.glob("bench.db*"))
    rate = (size.waiting - warm) / took
    return {
        "flows": size.waiting,
        "starts_per_s": rate,
        "start_all_s": size.waiting / rate,
        "more_memory_mib": more,
        "share_of_memory": more / (15 if size.waiting <= 100_000 else 64),
        "threads": threads,
        "disk_mib": on_disk / 2**20,
        "bytes_each": on_disk / size.waiting,
        "wake_p50_ms": percentile(woken, 0.5) * 1e3,
        "wake_p99_ms": percentile(woken, 0.99) * 1e3,
    } | reopened(folder, size.waiting)


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
    handle = system.flow(sys.argv[2])
    handle.signal("go", 7)
    assert handle.result() == 7
    print(time.perf_counter() - began)
"""


def reopened(folder: Path, flows: int) -> Figures:
    """Open the store in a fresh process, up to the first answer."""
    done = subprocess.run(
        [sys.executable, "-c", REOPEN, str(folder.resolve()), f"w-{flows - 1}"],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return {"open_to_answer_s": float(done.stdout)}


def timers(folder: Path, size: Size) -> Figures:
    """Flows whose timers are due within one second: how late they are, and when all have ended."""
    pause = threading.Event()
    with opened(folder) as system:
        rate = start_rate(system)
        # By then all have been started. Should it take longer, the clock runs from the last start.
        due = time.time() + 5 + 1.3 * size.timers / rate
        times = (due + number / size.timers for number in range(size.timers))
        start_all(system, ((f"t-{n}", Ringing.ring(at)) for n, at in enumerate(times)))
        began = max(due, time.time())
        while len(rang) < size.timers or system.statistics().live_flows:
            pause.wait(0.02)
        took = time.time() - began
    return {
        "flows": size.timers,
        "early": sum(late < 0 for late in rang),
        "all_within_s": took,
        "late_p50_s": percentile(rang, 0.5),
        "per_s": size.timers / took,
        "started_late": began > due,
    }


def beside_floods(folder: Path, size: Size) -> Figures:
    """New flows of one step beside more work than fits, in turn: timers that are due, signals, and starts."""
    found: Figures = {}
    with opened(folder, SupervisorRules(max_active=500)) as system:
        latencies(system, lambda: False, least=100)
        usual = percentile(latencies(system, lambda: False), 0.99)
        for name, flood in FLOODS.items():
            goes_on = flood(system, size.flood)
            beside = latencies(system, goes_on)
            found[f"{name}_p99_ratio"] = percentile(beside, 0.99) / usual
            found[f"{name}_asked"] = len(beside)
            while goes_on():
                threading.Event().wait(0.02)
    return found | {"usual_p99_ms": usual * 1e3}


def latencies(system: FlowSystem, goes_on: Callable[[], bool], least: int = 300) -> list[float]:
    """Return what a new flow took, with a pause after each: some, and more while something goes on."""
    pause = threading.Event()
    times: list[float] = []
    while len(times) < least or (goes_on() and len(times) < 5000):
        began = time.perf_counter()
        system.run(Sequence.count, 1)
        times.append(time.perf_counter() - began)
        pause.wait(0.002)
    return times


def flood_of_timers(system: FlowSystem, flows: int) -> Callable[[], bool]:
    """Have timers be due at the same time."""
    due = time.time() + 2 + flows / start_rate(system)
    start_all(system, ((f"t-{n}", Ringing.ring(due)) for n in range(flows)))
    until_at_rest(system)
    threading.Event().wait(max(0.0, due - time.time()))
    return lambda: len(rang) < flows


def flood_of_signals(system: FlowSystem, flows: int) -> Callable[[], bool]:
    """Send signals to flows at rest."""
    start_all(system, ((f"s-{n}", Waiting.wait("signal")) for n in range(flows)))
    until_at_rest(system)
    for first in range(0, flows, 1000):
        system.signal_many([SignalTo(f"s-{n}", "go", n) for n in range(first, min(first + 1000, flows))])
    return lambda: any(system.flow(f"s-{n}").status != "completed" for n in (flows // 2, flows - 1))


def flood_of_starts(system: FlowSystem, flows: int) -> Callable[[], bool]:
    """Start more flows of long steps than may be at work."""
    start_all(system, ((f"b-{n}", Pausing.rest(0.01)) for n in range(flows)))
    return lambda: system.flow(f"b-{flows - 1}").status != "completed"


FLOODS: dict[str, Callable[[FlowSystem, int], Callable[[], bool]]] = {
    "timers": flood_of_timers,
    "signals": flood_of_signals,
    "starts": flood_of_starts,
}


def start_rate(system: FlowSystem, flows: int = 2000) -> float:
    """Return how many flows that wait can be started in a second."""
    began = time.perf_counter()
    start_all(system, waits(0, flows))
    return flows / (time.perf_counter() - began)


def long_history(folder: Path, size: Size) -> Figures:
    """A flow with many events: its replay, and what a step costs it compared with a new flow."""
    steps = size.long // 2 - 1
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


def http_confirm(folder: Path, size: Size) -> Figures:
    """Sign-ups confirmed over HTTP, by wrk."""
    from http_load import confirm  # noqa: PLC0415 - the only measure that needs the server

    found = confirm(folder, size.http_s)
    if not found:
        raise Skipped("there is no wrk in the PATH")
    return found


IMPORT = "import time; t = time.perf_counter(); import persistasaurus; print(time.perf_counter() - t)"


def core_import(folder: Path, _: Size) -> Figures:
    """The import of the core, in fresh processes."""
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True, cwd=folder
            ).stdout
        )
        for _time in range(7)
    ]
    return {"import_ms": percentile(times, 0.5) * 1e3}


MEASURES: dict[str, Callable[[Path, Size], Figures]] = {
    "counts": counts,
    "open_close": open_close,
    "beside_spinning": beside_spinning,
    "core_import": core_import,
    "actors": lambda folder, size: actors(folder, size.asks),
    "reader_beside": reader_beside,
    "http_confirm": http_confirm,
    "long_history": long_history,
    "waiting_flows": waiting_flows,
    "timers": timers,
    "beside_floods": beside_floods,
}


def main(measure: str, folder: str, size: str, waiting: str = "") -> int:
    """Measure one thing."""
    sizes = QUICK if size == "quick" else Size()
    if waiting:
        sizes = sizes._replace(waiting=int(waiting))
    try:
        figures = MEASURES[measure](Path(folder), sizes)
    except Skipped as reason:
        print(json.dumps(str(reason)))
        return SKIPPED
    print(json.dumps({"figures": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
