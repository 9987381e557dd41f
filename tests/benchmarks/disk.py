"""The disk's own limit, measured beside everything that is compared with it."""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = b"\0" * 4096


class Limit(NamedTuple):
    """Appends of 4 KiB, each made durable by fdatasync."""

    p50_s: float
    rate: float


def limit(folder: Path, appends: int = 400) -> Limit:
    """Measure the limit on the disk that a folder is on."""
    path = folder / "limit"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    times: list[float] = []
    for _ in range(appends):
        before = time.perf_counter()
        os.write(handle, BLOCK)
        os.fdatasync(handle)
        times.append(time.perf_counter() - before)
    os.close(handle)
    path.unlink()
    return Limit(statistics.median(times), appends / sum(times))


def mean(*limits: Limit) -> Limit:
    """Return the middle of what was measured before and after."""
    return Limit(statistics.fmean(one.p50_s for one in limits), statistics.fmean(one.rate for one in limits))


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of all values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
