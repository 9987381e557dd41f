"""The disk is really full: the engine says so, keeps what it has, and goes on when there is room."""

from __future__ import annotations

import os
import subprocess

import pytest
from persistasaurus import FlowSystem, StoreUnavailable
from persistasaurus.store import StoreReader
from system.reference import Reference, check, drive

SIZE = 2 * 1024 * 1024
BALLAST = 256 * 1024


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"a disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(place, mode):
    subprocess.run(["mount", "-o", f"remount,{mode}", str(place)], check=True)


def fill(place):
    """Take what room there is; return the ballast that gives it back."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return ballast


def test_a_full_disk_is_told_and_everything_goes_on_when_there_is_room(small_disk):
    path = small_disk / "flows.db"
    with FlowSystem(path, flows=[Reference]) as system:
        check(drive(system, "before"))
        ballast = fill(small_disk)
        accepted, refused = [], []
        for number in range(60):
            try:
                accepted.append(system.start(Reference.main, number, flow_id=f"meanwhile-{number}").id)
            except StoreUnavailable as error:
                refused.append(str(error))
        assert refused
        assert any("full" in message for message in refused)
        assert system.start(Reference.main, 1, flow_id="before").status == "completed"

        os.truncate(ballast, 0)
        check(drive(system, "afterwards"))
        known = {header.stream for header in system.store.headers(limit=1000)}
        assert known >= {"before", "afterwards", *accepted}
        for number in range(60):
            assert (f"meanwhile-{number}" in known) == (f"meanwhile-{number}" in accepted)
    with StoreReader.open(path) as reader:
        assert reader.verify() == []


def test_a_disk_that_can_only_be_read_is_told_and_everything_goes_on_when_it_can_be_written(small_disk):
    """As the kernel makes it when it has met an error."""
    path = small_disk / "flows.db"
    with FlowSystem(path, flows=[Reference]) as system:
        check(drive(system, "before"))
    remount(small_disk, "ro")
    with pytest.raises(Exception, match=r"cannot open|read-only|Read-only"):
        FlowSystem(path, flows=[Reference])
    with StoreReader.open(path) as reader:
        assert reader.verify() == []
    remount(small_disk, "rw")
    with FlowSystem(path, flows=[Reference]) as system:
        check(drive(system, "afterwards"))
