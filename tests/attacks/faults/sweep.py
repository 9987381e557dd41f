"""Cuts the power at every operation of a recorded workload, and judges what is left."""

from __future__ import annotations

import random
import shutil
import tempfile
import traceback
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from faults.disk import POLICIES, Disk
from faults.judging import OK, Duty, judge_quickly, judge_thoroughly
from faults.workloads import record_workload
from persistasaurus.store import Durability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from faults.disk import Image, Operation
    from faults.workloads import Recorded

COMMITS = 18
PAGES_EVERY = 4
THOROUGH_EVERY = 40
PROCESSES = 2


class Cut(NamedTuple):
    """An image that is not what it should be, and where it came from."""

    seed: int
    number: int
    policy: str
    verdict: str

    def __str__(self) -> str:
        return f"seed {self.seed}, cut {self.number}, {self.policy}: {self.verdict}"


class Swept(NamedTuple):
    """What came of the images of one workload."""

    seed: int
    images: int
    thorough: int
    bad: list[Cut]


def folder() -> Path:
    """Make a folder in memory, where there is one: thousands of images are laid out in it."""
    root = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="faults-", dir=root if root.is_dir() else None))


def images(
    log: list[Operation], seed: int, *, powersafe: bool, disk: Disk | None = None
) -> Iterator[tuple[int, str, Image]]:
    """Give each image of a record, with the number of its cut and its policy; equal ones only once."""
    disk = disk or Disk(powersafe=powersafe)
    for number, operation in enumerate(log):
        if operation[0] == "mark":
            continue
        disk.apply(operation, random.Random(f"{seed}/{number}"))
        following = next((later for later in log[number + 1 :] if later[0] != "mark"), None)
        for policy in POLICIES:
            if disk.is_settled and policy in ("none", "sectors", "garbage"):
                continue
            if policy == "torn" and (following is None or following[0] != "write"):
                continue
            rng = random.Random(f"{seed}/{number}/{policy}")
            yield number, policy, disk.image(policy, rng, following)


def sweep(
    seed: int, durability: Durability = Durability.FULL, commits: int = COMMITS, failing: float = 0
) -> Swept:
    """Record the workload of a seed, and judge all its images."""
    place = folder()
    try:
        recorded = record_workload(place / "work.db", seed, commits, durability, failing)
        return judge_all(recorded, seed, place)
    finally:
        shutil.rmtree(place)


def judge_all(recorded: Recorded, seed: int, place: Path) -> Swept:
    """Judge the images of a record: each one quickly, and some with the store itself."""
    duty, marks = Duty(), Marks(recorded.log)
    duty.learn([operation[2] for operation in recorded.log if operation[0] == "mark"])
    bad: list[Cut] = []
    seen = thorough = 0
    for number, policy, image in images(recorded.log, seed, powersafe=recorded.powersafe):
        marks.pass_to(number, duty.take)
        seen += 1
        verdict = judge_quickly(image, place / "image.db", duty, pages=seen % PAGES_EVERY == 0)
        if verdict == OK and seen % THOROUGH_EVERY == seed % THOROUGH_EVERY:
            thorough += 1
            # What lies in the shared memory's file says nothing, and must not be believed.
            shared = random.Random(number).randbytes(40_000) if number % 2 else b""
            verdict = judge_thoroughly(image, place / "image.db", duty, recorded, shared)
        if verdict != OK:
            bad.append(Cut(seed, number, policy, verdict))
    return Swept(seed, seen, thorough, bad)


class Marks:
    """The marks of a record, in order."""

    def __init__(self, log: list[Operation]) -> None:
        self._log = log
        self._at = 0

    def pass_to(self, number: int, take: Callable[[object], None]) -> None:
        """Take every mark before an operation."""
        while self._at < number:
            if self._log[self._at][0] == "mark":
                take(self._log[self._at][2])
            self._at += 1


def campaign(pool: Executor, wanted: int, first: int, job: Callable[[int], Swept] = sweep) -> Iterator[Swept]:
    """Sweep seed after seed, on all processes of a pool, until there were so many images, or a bad one."""
    seeds = count(first)
    job = partial(told, job)
    waiting = [pool.submit(job, next(seeds)) for _ in range(PROCESSES)]
    seen = 0
    while waiting:
        swept = waiting.pop(0).result()
        seen += swept.images
        yield swept
        if swept.bad:
            wanted = 0
        if seen + len(waiting) * swept.images < wanted:
            waiting.append(pool.submit(job, next(seeds)))


def told(job: Callable[[int], Swept], seed: int) -> Swept:
    """Do a job; an error that it does not expect is a bad image as well, and its seed is told."""
    try:
        return job(seed)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told with what replays it
        trace = "".join(traceback.format_exception(error))
        return Swept(seed, 0, 0, [Cut(seed, 0, "as it was", trace)])


def processes() -> Executor:
    """Start the processes of a campaign."""
    return ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))
