"""A store that was copied, or written down and read back, goes on where it stood."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from accounts import Account
from persistasaurus import Flow, FlowSystem, flow, sleep, step, wait_for
from persistasaurus.actors.runtime.primitives import SystemClock
from persistasaurus.store import StoreReader
from persistasaurus.store.tools.backup import backup
from persistasaurus.store.tools.export import export, export_file
from persistasaurus.store.tools.importer import import_
from persistasaurus.store.tools.transcript_reader import read_export
from system.moving_targets import Sums, expected

BACKUPS = 3


@pytest.fixture
def busy(path):
    """An engine at work on the store, in another process."""
    command = [sys.executable, "-m", "system.moving_targets", str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as process:
        assert process.stdout.readline()
        yield process
        process.kill()


def histories(path):
    with StoreReader.open(path) as reader:
        assert reader.verify() == []
        return {header.stream: reader.read(header.stream) for header in reader.headers(limit=100_000)}


def test_a_copy_of_a_store_at_full_load_has_no_gap_and_runs_to_the_end(path, tmp_path, busy):
    copies = [tmp_path / f"copy-{n}.db" for n in range(BACKUPS)]
    for copy in copies:
        backup(path, copy)
        assert busy.stdout.readline(), "the engine has stopped"
    busy.kill()
    original = histories(path)
    sizes = []

    for copy in copies:
        copied = histories(copy)
        sizes.append(len(copied))
        for stream, records in copied.items():
            assert original[stream][: len(records)] == records
        with FlowSystem(copy, flows=[Sums]) as system:
            for stream in copied:
                handle = system.flow(stream)
                handle.signal("bonus", 1000, signal_id="only")
                assert handle.result(30) == expected(int(stream.removeprefix("sum-")))

    assert sizes == sorted(set(sizes))


class Trip(Flow):
    @flow(name="trip")
    async def main(self, city: str) -> str:
        booked = await self.book(city)
        await sleep(timedelta(milliseconds=50))
        name = await wait_for("traveller", str)
        return f"{booked} for {name}"

    @step
    def book(self, city: str) -> str:
        return f"a room in {city}"


@pytest.fixture
def moved(path, tmp_path):
    """A store that an engine has left, and one that was made of its text."""
    with FlowSystem(path, flows=[Trip], actors=[Account]) as system:
        system.start(Trip.main, "Oslo", flow_id="done").signal("traveller", "Ada", signal_id="m-1")
        assert system.flow("done").result(30) == "a room in Oslo for Ada"
        system.start(Trip.main, "Rome", flow_id="waits")
        system.start(Trip.main, "Bern", flow_id="paused").pause(by="ada", why="holidays")
        system.flow("paused").signal("traveller", "Bob", signal_id="m-2")
        account = system.actor(Account, "account-1")
        assert [account.ask(Account.deposit, 10), account.ask(Account.deposit, 5)] == [10, 15]
    text, other = tmp_path / "text.jsonl", tmp_path / "other.db"
    export_file(path, text)
    import_(text, other, now=SystemClock().now)
    return text, other


def test_imported_flows_go_on_where_they_stood(moved):
    _, other = moved

    with FlowSystem(other, flows=[Trip], actors=[Account]) as system:
        waits, paused = system.flow("waits"), system.flow("paused")
        assert paused.status == "paused"
        paused.resume(by="ada", why="back")
        waits.signal("traveller", "Eve", signal_id="m-3")
        assert waits.result(30) == "a room in Rome for Eve"
        assert paused.result(30) == "a room in Bern for Bob"
        assert system.flow("done").result(30) == "a room in Oslo for Ada"
        assert system.flow("done").signal("traveller", "Ada", signal_id="m-1").duplicate
        assert system.actor(Account, "account-1").ask(Account.deposit, 1) == 16


def test_a_history_is_read_back_as_the_flow_wrote_it(path, moved):
    text, _ = moved

    flows = {flow.stream: flow for flow in read_export(text)}

    assert flows["done"].type == "trip"
    with StoreReader.open(path) as reader:
        written = reader.read("done")
    assert [(r.kind, r.data) for r in flows["done"].records] == [(r.kind, r.data) for r in written]


def test_an_export_is_taken_while_the_engine_runs(path, tmp_path, busy):
    pieces = []

    written = export(path, pieces.append)

    text = tmp_path / "text.jsonl"
    text.write_bytes(b"".join(pieces))
    assert written.flows == len(read_export(text)) > 0
    assert busy.stdout.readline(), "the engine has stopped"
