"""Real processes on a real disk, killed and stopped at any moment, with clients that insist.

PERSISTASAURUS_KILLS=2000 pytest tests/attacks/kills is a campaign;
PERSISTASAURUS_SEED=7 chooses other moments,
PERSISTASAURUS_SOAK=3600 lets one process work for an hour. Moments are only as repeatable as processes are.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from random import Random
from statistics import quantiles
from threading import active_count

import pytest
from kills.served import Customers, Insisting, Served, pause
from kills.server import result_of
from persistasaurus.flows import events
from persistasaurus.store import StoreReader

KILLS = int(os.environ.get("PERSISTASAURUS_KILLS", "8"))
SEED = int(os.environ.get("PERSISTASAURUS_SEED", "1"))
SOAK_S = float(os.environ.get("PERSISTASAURUS_SOAK", "4"))
STEPS = {"reserve", "pack", "bill", "ship"}
MIB = 1024 * 1024


def bring_to_an_end(served: Served, flow_id: str) -> int:
    """Wait for a result; one that was found at work by three kills is parked, and let go on."""
    client = Insisting(served)
    try:
        while True:
            answer = client.ask("GET", f"/flows/{flow_id}/result", params={"wait": 4}).json()
            if answer.get("status") == "completed":
                return answer["result"]
            if answer.get("status") == "parked":
                client.ask("POST", f"/flows/{flow_id}/retry", json={"why": "it was not its fault"})
    finally:
        client.close()


@pytest.mark.timeout(0 if KILLS > 50 else 120)
def test_nothing_acknowledged_is_lost_however_often_the_server_is_killed(tmp_path: Path) -> None:
    served, rng = Served(tmp_path), Random(SEED)
    try:
        with Customers(served, 3) as customers:
            served.torment(rng, KILLS)
        assert not customers.errors, customers.errors
        results = {flow_id: bring_to_an_end(served, flow_id) for flow_id in customers.placed}
    finally:
        kills = served.kills
        served.kill()

    assert results == {flow_id: result_of(amount) for flow_id, amount in customers.placed.items()}
    assert len(results) >= KILLS, "hardly anything was ordered"
    _look_at_the_log(served, customers)
    _look_at_the_effects(served, customers, kills)
    times = quantiles(served.recoveries, n=20)
    print(  # noqa: T201 - the figures
        f"seed {SEED}: {kills} kills, {served.stops} stops, {len(results)} orders; until answered:"
        f" median {times[9]:.2f} s, 95 % {times[18]:.2f} s, longest {max(served.recoveries):.2f} s"
    )


def _look_at_the_log(served: Served, customers: Customers) -> None:
    with StoreReader.open(served.store) as reader:
        assert reader.verify() == []
        assert reader.dead_letters() == []
        for flow_id in customers.placed:
            records = reader.read(flow_id)
            assert [record.version for record in records] == list(range(1, len(records) + 1))
            history = [events.decode(record.data) for record in records]
            completed = Counter(e.step for e in history if isinstance(e, events.StepCompleted))
            assert set(completed.values()) == {1}, flow_id
            received = [e.key for e in history if isinstance(e, events.SignalReceived)]
            assert received == [f"{flow_id}-paid"]
            assert sum(isinstance(e, events.TimerFired) for e in history) == 1
            assert isinstance(history[-1], events.FlowCompleted)
    assert customers.paid == customers.placed.keys()


def _look_at_the_effects(served: Served, customers: Customers, kills: int) -> None:
    found = Counter(served.effects.read_text().splitlines())
    assert found.keys() == {f"{flow_id} {step}" for flow_id in customers.placed for step in STEPS}
    assert max(found.values()) <= 1 + kills
    assert found.total() <= len(found) + (kills + 1) * 64, "far more is done twice than was under way"


@pytest.mark.timeout(0 if SOAK_S > 60 else 120)
def test_a_server_that_works_on_and_on_takes_no_more_room(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.launch()
    served.wait_until_bound()
    assert served.process is not None
    pid = served.process.pid
    samples: list[dict[str, float]] = []
    try:
        with Customers(served, 4) as customers:
            for _ in range(10):
                pause(SOAK_S / 10)
                samples.append(_room(pid, served.store))
        assert not customers.errors, customers.errors
    finally:
        served.kill()
    print(f"{len(customers.placed)} orders in {SOAK_S} s: {samples[2]} -> {samples[-1]}")  # noqa: T201
    early, late = samples[2], samples[-1]
    assert late["descriptors"] <= early["descriptors"] + 10
    assert late["threads"] <= early["threads"] + 70  # threads for steps are made as they are needed
    assert late["memory"] <= early["memory"] + 64 * MIB
    assert late["log"] <= 80 * MIB
    assert late["requests"] == 0
    assert active_count() < 50


def _room(pid: int, store: Path) -> dict[str, float]:
    """Return what a process takes: bytes, where it is not said otherwise."""
    process = Path("/proc") / str(pid)
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    requests = store.with_name(store.name + "-requests")
    log = store.with_name(store.name + "-wal")
    return {
        "memory": int(status["VmRSS"].split()[0]) * 1024,
        "threads": int(status["Threads"]),
        "descriptors": len(list((process / "fd").iterdir())),
        "log": log.stat().st_size if log.exists() else 0,
        "requests": requests.stat().st_size if requests.exists() else 0,
    }
