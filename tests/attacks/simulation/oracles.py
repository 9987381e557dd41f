"""Oracles: what has to be true of a run that has come to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw
import msgspec
from persistasaurus.flows import Registry, events
from persistasaurus.flows.entities.actor import definition_of
from persistasaurus.flows.entities.incarnation import EntityIncarnation
from persistasaurus.flows.machine.history import Recorded
from persistasaurus.flows.machine.machine import FlowMachine
from persistasaurus.flows.values.sameness import Comparison, Pair
from simulation.reference_flows import Account

if TYPE_CHECKING:
    from persistasaurus.store import EventStore, Header
    from simulation.ledger import Chronicle
    from simulation.run import Run


def judge(run: Run) -> None:
    """Hold the store, the world outside and the ledger against each other, and against what was expected."""
    store: Any = run.simulation.system.store
    headers: dict[str, Header] = {header.stream: header for header in store.headers(limit=1000)}
    known = {stream for stream, chronicle in run.ledger.streams.items() if chronicle.records}
    run.must(set(headers) == known, f"the store has {sorted(headers)}, the ledger {sorted(known)}")
    run.must(store.verify() == [], f"verify() finds {store.verify()}")
    for stream, header in headers.items():
        judge_stream(run, store, header, run.ledger.of(stream))
    for flow_id, expected in run.scenario.results.items():
        judge_result(run, headers.get(flow_id), expected)
    for stream, balance in run.scenario.accounts.items():
        entered = [msgspec.json.decode(data)["amount"] for _, data in run.ledger.of(stream).records]
        run.must(sum(entered) == balance, f"{stream!r} holds {sum(entered)}, and not {balance}")
        judge_state(run, stream)
    judge_effects(run)
    run.must(not run.requests.waiting, f"nobody has responded to {sorted(run.requests.waiting)}")


def judge_state(run: Run, stream: str) -> None:
    """Find that a live actor's state is what its events make of it."""
    entity = run.simulation.system.entities._live.get(stream)
    if entity is None or entity.state is None:
        return
    recovered = EntityIncarnation(definition_of(Account), stream)
    for _, data in run.ledger.of(stream).records:
        recovered.replay(data)
    difference = Comparison().first_difference([Pair("state", entity.state, recovered.state)])
    run.must(difference is None, f"{stream!r} is not what is recovered: {difference}")


def judge_stream(run: Run, store: EventStore, header: Header, known: Chronicle) -> None:
    """Find in the store what the ledger says, and nothing else."""
    records = store.read(header.stream)
    found = [(record.kind, record.data) for record in records]
    run.must(found == known.records, f"{header.stream!r} differs from the ledger: {len(found)} records")
    versions = [record.version for record in records]
    run.must(versions == list(range(1, header.version + 1)), f"{header.stream!r} has versions {versions}")
    if header.stream.startswith("actor"):
        return
    unread = judge_history(run, header, [Recorded(r.version, r.at, events.decode(r.data)) for r in records])
    judge_signals(run, store, header, unread)


def judge_history(run: Run, header: Header, history: list[Recorded]) -> set[str]:
    """Replay a history on a fresh machine, which has to stand where the header says.

    Returns the keys of the signals in it that nobody has taken.
    """
    definition = Registry(tuple(run.simulation.flows)).find(header.type)
    if definition is None:
        run.must(False, f"{header.stream!r} is a {header.type!r}, which nobody knows")
        return set()
    machine = FlowMachine(header.stream, definition)
    unread: set[str] = set()
    try:
        machine.replay(history)
        stands = machine.status
        unread = set(machine._execution.signals.unread)
    except Exception as error:  # noqa: BLE001 - it is what is looked for
        stands = repr(error)
    finally:
        machine.close()
    run.must(stands == header.status, f"{header.stream!r} is {header.status}, and replays as {stands}")
    return unread


def judge_signals(run: Run, store: Any, header: Header, unread: set[str]) -> None:
    """Find each acknowledged signal once: consumed, unread, or a dead letter; and the view says the same."""
    flow_id, known = header.stream, run.ledger.of(header.stream)
    inbox = [entry.key for entry in store.inbox(flow_id)]
    letters = [letter for letter in store.dead_letters(limit=1000) if letter.stream == flow_id]
    dead = {letter.key for letter in letters}
    sent, received = sorted(known.keys), set(known.received)
    where = f"{flow_id!r}: sent {sent}, received {known.received}, inbox {inbox}, dead {sorted(dead)}"
    run.must(
        sorted([*received, *inbox, *(dead - received)]) == sent and len(dead) == len(letters),
        f"signals of {where}",
    )
    run.must(all(letter.reason for letter in letters), f"dead letters without a reason, of {where}")
    if header.status == "completed":
        run.must(unread <= dead and not inbox, f"{sorted(unread)} are unread, and not given up, of {where}")
    else:
        early = [letter for letter in letters if "ended" in letter.reason]
        run.must(not early, f"given up too early: {early}, of {where}")
        run.must(not unread & dead, f"unread, and given up: {where}")
    expected = {key: "refused" if key in dead else "consumed" for key in (*received, *dead)}
    expected |= dict.fromkeys((*inbox, *(unread - dead)), "unread")
    found = _shown(store, flow_id)
    run.must(found == expected, f"the view says {found}, and not {expected}, of {where}")


def _shown(store: Any, flow_id: str) -> dict[str, str]:
    """Return what the view `signals` says of a flow; the engine's own connection knows no views."""
    connection = store._ready().connection
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 1)
    try:
        told = "SELECT key, status FROM signals WHERE flow_id = ? AND key IS NOT NULL"
        return dict(connection.execute(told, (flow_id,)))
    finally:
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)


def judge_result(run: Run, header: Header | None, expected: Any) -> None:
    """Find that a flow has completed, with what was expected."""
    if header is None or header.status != "completed":
        run.must(False, f"a flow has not completed: {header}")
        return
    _, data = run.ledger.of(header.stream).records[-1]
    last = events.decode(data)
    if not isinstance(last, events.FlowCompleted):
        run.must(False, f"{header.stream!r} is completed, and ends with {last}")
        return
    result = msgspec.json.decode(last.result)
    is_right = expected(result) if callable(expected) else result == expected
    run.must(is_right, f"{header.stream!r} returned {result}, and not {expected}")


def judge_effects(run: Run) -> None:
    """Count effects: one for each completed step, and no more than deaths and failures explain."""
    # An orderly end during an outage cannot record how steps went.
    deaths = run.simulation.crashes + (run.stops if run.disturbance.original.outages else 0)
    for stream, known in run.ledger.streams.items():
        unseen = known.completed - {step for step, _ in known.run}
        run.must(not unseen, f"{stream!r}: steps {sorted(unseen)} are completed, and never ran")
        if run.is_calm:
            unheard = known.attempts - known.run
            run.must(not unheard, f"{stream!r}: nothing went wrong, and attempts {unheard} never ran")
    for key, times in run.outside.effects.items():
        flow_id, _, step = key.rpartition("/")
        known = run.ledger.of(flow_id)
        failures = known.failures[int(step)]
        most = 1 if int(step) in known.exactly_once else 1 + failures + deaths
        run.must(
            times <= most, f"effect {key!r} happened {times} times: {failures} failures, {deaths} deaths"
        )
    for key, times in run.scenario.effects.items():
        found = run.outside.effects[key]
        run.must(
            times <= found <= times + deaths,
            f"effect {key!r} happened {found} times, not {times} (+{deaths})",
        )
