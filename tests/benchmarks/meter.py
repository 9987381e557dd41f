"""What a stretch of work took: time, processor, and how often a thread was put to sleep for it."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


class Meter:
    """Measures what happens while it is open, in all threads of the process."""

    wall_s = 0.0
    cpu_s = 0.0
    switches = 0
    """Voluntary context switches: a thread waited for the disk, a lock, or another thread."""

    def __enter__(self) -> Self:
        self._switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        self._cpu = time.process_time()
        self._wall = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = time.perf_counter() - self._wall
        self.cpu_s = time.process_time() - self._cpu
        self.switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - self._switches
