"""Power that fails again: while the store recovers, or after it was killed, started anew and has answered."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import apsw
from conformance.builders import AT
from conformance.recorder import Recorder
from faults.contents import contents
from faults.disk import Disk, lay_out
from faults.judging import OK, Duty, judge_quickly
from faults.sweep import Cut, Marks, Swept, folder, images
from faults.workloads import Acknowledged, drop, record_workload
from persistasaurus.store import Durability, SqliteStore, StoreUnusable

if TYPE_CHECKING:
    from pathlib import Path

    from faults.disk import Image, Operation
    from faults.workloads import Recorded

COMMITS = 12
RECOVERED_EVERY = 101
RESTARTED_EVERY = 23
PAGES_EVERY = 4


class Recovery:
    """What opening the store over an image has done to the disk, and what it then answered."""

    def __init__(self, image: Image, path: Path, recorder: Recorder) -> None:
        lay_out(image, path)
        self.answered: bytes | None = None
        try:
            store = SqliteStore.open(path, now=lambda: AT, vfs=recorder.vfs_name)
            self.answered, self.epoch = store._lent(contents), store.epoch
            self.log: list[Operation] = list(recorder.log)
            drop(store)
        except StoreUnusable:
            self.log = list(recorder.log)
        finally:
            recorder.unregister()


def cut_recoveries(seed: int) -> Swept:
    """Cut the power while the store recovers from an image, at each of its operations.

    What is owed is what was owed before; and what the recovered store has answered.
    """
    place = folder()
    try:
        recorded = record_workload(place / "work.db", seed, COMMITS)
        duty, marks = _duty(recorded), Marks(recorded.log)
        judged = Judged(seed, place / "again.db")
        for count, (number, policy, image) in enumerate(
            images(recorded.log, seed, powersafe=recorded.powersafe)
        ):
            marks.pass_to(number, duty.take)
            if count % RECOVERED_EVERY == seed % RECOVERED_EVERY:
                recovery = Recovery(image, place / "image.db", _same_disk(recorded))
                # What lies on a disk when the power comes back is there.
                disk = Disk(image, powersafe=recorded.powersafe)
                judged.cut(recovery, disk, duty, f"{number}/{policy}")
        return judged.swept
    finally:
        shutil.rmtree(place)


def cut_after_restart(seed: int, durability: Durability = Durability.MAY_LOSE_LAST_COMMITS) -> Swept:
    """Kill the process at any operation, start it anew, have it answer, and cut the power.

    A killed process leaves writes that were never synced, and the next one answers from them.
    """
    place = folder()
    try:
        recorded = record_workload(place / "work.db", seed, COMMITS, durability)
        disk, judged = Disk(powersafe=recorded.powersafe), Judged(seed, place / "again.db")
        for number, operation in enumerate(recorded.log):
            if operation[0] == "mark":
                continue
            rng = random.Random(number)
            disk.apply(operation, rng)
            if number % RESTARTED_EVERY == seed % RESTARTED_EVERY:
                duty = _duty(recorded, may_lose=True)
                recovery = Recovery(disk.image("all", rng), place / "image.db", _same_disk(recorded))
                judged.cut(recovery, disk.copy(), duty, f"{number}/killed")
        return judged.swept
    finally:
        shutil.rmtree(place)


def _same_disk(recorded: Recorded) -> Recorder:
    # A journal whose header is shorter than the sectors of the disk that it is found on is taken for none.
    return Recorder(sector=recorded.sector, powersafe=recorded.powersafe)


def _duty(recorded: Recorded, *, may_lose: bool = False) -> Duty:
    duty = Duty()
    marks = [operation[2] for operation in recorded.log if operation[0] == "mark"]
    duty.learn(marks)
    if may_lose:
        # Everything has begun, and nothing is owed, until somebody answers.
        duty.expect_anything()
    return duty


def cut_migration(image: Image, held: bytes, seed: int) -> Swept:
    """Cut the power while a store of an older release, with these contents, is brought up to date."""
    place = folder()
    try:
        judged, duty = Judged(seed, place / "again.db"), Duty()
        duty.learn([Acknowledged(0, held, 1)])
        duty.take(Acknowledged(0, held, 1))
        judged.cut(Recovery(image, place / "image.db", Recorder()), Disk(image), duty, "migration")
        return judged.swept
    finally:
        shutil.rmtree(place)


class Judged:
    """Counts images of second cuts, and keeps the bad ones."""

    def __init__(self, seed: int, path: Path) -> None:
        self._path = path
        self._seed = seed
        self._images = 0
        self._bad: list[Cut] = []

    @property
    def swept(self) -> Swept:
        """What came of all of them."""
        return Swept(self._seed, self._images, 0, self._bad)

    def cut(self, recovery: Recovery, disk: Disk, duty: Duty, where: str) -> None:
        """Judge each image of a disk while the store recovers, and when it has answered."""
        for number, policy, image in images(recovery.log, self._seed, powersafe=disk.powersafe, disk=disk):
            self._judge(image, duty, f"{where}, then {number}/{policy}")
        if recovery.answered is not None:
            answered = duty.after(recovery.answered, recovery.epoch)
            for policy in ("none", "sectors", "garbage"):
                image = disk.image(policy, random.Random(f"{self._seed}/{where}/{policy}"))
                self._judge(image, answered, f"{where}, then answered/{policy}")

    def _judge(self, image: Image, duty: Duty, where: str) -> None:
        self._images += 1
        try:
            verdict = judge_quickly(image, self._path, duty, pages=self._images % PAGES_EVERY == 0)
        except apsw.Error as error:
            verdict = f"unreadable: {error!r}"
        if verdict != OK:
            self._bad.append(Cut(self._seed, self._images, where, verdict))
