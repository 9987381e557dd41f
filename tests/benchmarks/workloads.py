"""What is done with each contender, in the same way. Run by `run.py` in a process of its own:

    python workloads.py CONTENDER FOLDER usual|quick WORKLOAD...

It prints figures as JSON: microseconds for each item of the work, what an item cost beside that, and what an
fdatasync took on the same disk right before and after. What cannot start prints why, and exits with SKIPPED.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from contenders import contender
from contenders.contender import CannotStart, spread
from disk import limit, mean
from meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable

    from contenders.contender import Contender

Figures = dict[str, float]
SKIPPED = 75
STEPS = 5
WIDE_STEPS = 50
WARM = 10
APPENDS = 100


def alone(who: Contender, flows: int) -> Figures:
    """Flows of five steps, one after the other: the time of each."""
    times: list[float] = []
    with Meter() as meter:
        for _ in range(flows):
            began = time.perf_counter()
            assert who.run(STEPS) == STEPS
            times.append(time.perf_counter() - began)
    return {"us": statistics.median(times) * 1e6} | spent(meter, flows)


def long(who: Contender, steps: int) -> Figures:
    """One flow of many steps: a step."""
    with Meter() as meter:
        assert who.run(steps) == steps
    return {"us": meter.wall_s / steps * 1e6} | spent(meter, steps)


def many(who: Contender, flows: int) -> Figures:
    """Many flows of five steps, started from 16 threads: a step."""
    return at_once(who, flows, STEPS)


def wide(who: Contender, flows: int) -> Figures:
    """Many flows of 50 steps: a step."""
    return at_once(who, flows, WIDE_STEPS)


def at_once(who: Contender, flows: int, steps: int) -> Figures:
    """Run flows beside each other."""
    with Meter() as meter:
        for handle in who.start_all(flows, steps):
            assert who.result(handle) == steps
    return {"us": meter.wall_s / (flows * steps) * 1e6} | spent(meter, flows * steps)


def start(who: Contender, flows: int) -> Figures:
    """Starts of flows that wait for a signal: a start."""
    with Meter() as meter:
        who.start_all_waiting(flows)
    return {"us": meter.wall_s / flows * 1e6} | spent(meter, flows)


def signal(who: Contender, flows: int) -> Figures:
    """Signals to flows that wait, one after the other: the time to the receipt, and to the flow's result."""
    handles = who.start_all_waiting(flows)
    who.until_waiting()
    acknowledged: list[float] = []
    times: list[float] = []
    with Meter() as meter:
        for number, handle in enumerate(handles):
            sent = time.perf_counter()
            who.signal(handle, number)
            acknowledged.append(time.perf_counter() - sent)
            assert who.result(handle) == number
            times.append(time.perf_counter() - sent)
    return {
        "us": statistics.median(times) * 1e6,
        "acknowledged_us": statistics.median(acknowledged) * 1e6,
    } | spent(meter, flows)


def burst(who: Contender, flows: int) -> Figures:
    """As many signals as flows, at once: until all are acknowledged, and until all results are there."""
    handles = who.start_all_waiting(flows)
    who.until_waiting()
    with Meter() as meter:
        began = time.perf_counter()
        who.signal_all(handles)
        acknowledged = time.perf_counter() - began
        for number, handle in enumerate(handles):
            assert who.result(handle) == number
    return {"us": meter.wall_s / flows * 1e6, "acknowledged_us": acknowledged / flows * 1e6} | spent(
        meter, flows
    )


def spent(meter: Meter, items: int) -> Figures:
    """Return what an item cost."""
    return {
        "items": items,
        "cpu_us": meter.cpu_s / items * 1e6,
        "switches": meter.switches / items,
    }


WORKLOADS: dict[str, Callable[[Contender, int], Figures]] = {
    "alone": alone,
    "long": long,
    "many": many,
    "wide": wide,
    "start": start,
    "signal": signal,
    "burst": burst,
}


def measure(who: Contender, workloads: list[str], folder: Path, *, quick: bool = False) -> dict[str, Figures]:
    """Let a contender do its work, each workload between two looks at the disk."""
    sizes = who.sizes.quick() if quick else who.sizes
    taken: dict[str, Figures] = {}
    with who:
        for handle in spread(WARM, lambda _: who.start(STEPS)):
            who.result(handle)
        for workload in workloads:
            gc.collect()
            who.mark()
            before = limit(folder, APPENDS)
            figures = WORKLOADS[workload](who, getattr(sizes, workload))
            disk = mean(before, limit(folder, APPENDS))
            figures |= {"fdatasync_us": disk.p50_s * 1e6, "fdatasync_per_s": disk.rate}
            commits = who.commits()
            if commits is not None:
                figures["commits"] = commits / figures["items"]
            taken[workload] = figures
    bare = who.bare_s()
    if bare is not None:  # of what came last
        figures["bare_us"] = bare / figures["items"] * 1e6
    return taken


def main(name: str, folder: str, size: str, *workloads: str) -> int:
    """Measure workloads of one contender."""
    try:
        who = contender(name, Path(folder))
    except CannotStart as reason:
        print(json.dumps(str(reason)))
        return SKIPPED
    figures = measure(who, list(workloads), Path(folder), quick=size == "quick")
    print(json.dumps({"figures": figures, "versions": who.versions()}), flush=True)
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    # At once: threads of flows that wait would be waited for, where flows are threads.
    os._exit(code)
