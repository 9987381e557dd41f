"""Projections: each event is in their tables once, whatever fails, and whoever waits sees his own writes."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, get_ident
from typing import TYPE_CHECKING, Any, ClassVar

import apsw
import msgspec
import pytest
from accounts import Account, Deposited
from persistasaurus import (
    EventSourcedActor,
    Flow,
    FlowSystem,
    NotInFlowError,
    Projection,
    ProjectionDatabase,
    ProjectionDefinitionError,
    ProjectionParked,
    SupervisorRules,
    SystemClosed,
    command,
    flow,
    step,
)
from persistasaurus.actors.flows.active_flow import RestartRules
from persistasaurus.actors.projections import projector
from persistasaurus.store import (
    Append,
    HeaderChange,
    NewRecord,
    SqliteStore,
    StoreError,
    StoreHalted,
    StreamState,
)
from persistasaurus.store.sqlite.projection_file import ProjectionFile, read_projection
from persistasaurus.store.sqlite.projection_place import FilePlace
from system.doubles import DEAD_MAN_S, FaultyStore, memory_store, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from persistasaurus import ProjectionHandle
    from persistasaurus.actors.runtime.environment import Environment
    from persistasaurus.actors.runtime.primitives import ManualClock


class Noted(msgspec.Struct, tag="noted"):
    text: str


class Nothing(msgspec.Struct):
    pass


class Diary(EventSourcedActor[Nothing, Noted], name="diary"):
    def apply(self, state: Nothing, event: Noted) -> None: ...

    @command
    def note(self, text: str) -> None:
        self.record(Noted(text))


SCHEMA = """
CREATE TABLE balance (id TEXT PRIMARY KEY, amount INT NOT NULL, at TEXT NOT NULL) STRICT;
CREATE TABLE seen (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, amount INT NOT NULL) STRICT;
"""


class Balances(Projection, name="balances", of=Account):
    schema = SCHEMA
    before: ClassVar[Callable[[str, Deposited], None] | None] = None
    """What a test has happen before an event is taken."""
    after: ClassVar[Callable[[str, Deposited], None] | None] = None

    def on(self, db: ProjectionDatabase, at: datetime, account: str, event: Deposited) -> None:
        if Balances.before is not None:
            Balances.before(account, event)
        db.execute("INSERT INTO seen (id, amount) VALUES (?, ?)", (account, event.amount))
        db.execute(
            "INSERT INTO balance VALUES (?, ?, ?) ON CONFLICT (id)"
            " DO UPDATE SET amount = amount + excluded.amount, at = excluded.at",
            (account, event.amount, at),
        )
        if Balances.after is not None:
            Balances.after(account, event)


class Everything(Projection, name="everything", of=[Account, Diary]):
    schema = "CREATE TABLE entry (number INTEGER PRIMARY KEY, stream TEXT, event TEXT)"

    def on(self, db: ProjectionDatabase, at: datetime, stream: str, event: Deposited | Noted) -> None:
        db.execute("INSERT INTO entry (stream, event) VALUES (?, ?)", (stream, type(event).__name__))


@pytest.fixture(autouse=True)
def _undisturbed() -> Iterator[None]:
    yield
    Balances.before = Balances.after = None


@pytest.fixture
def bank(make_system: Callable[..., FlowSystem]) -> Callable[..., FlowSystem]:
    def make(*projections: Any, **options: Any) -> FlowSystem:
        return make_system(actors=[Account, Diary], projections=projections or [Balances], **options)

    return make


def balances(handle: ProjectionHandle) -> dict[str, int]:
    return dict(handle.query("SELECT id, amount FROM balance ORDER BY id"))


def seen(handle: ProjectionHandle) -> list[tuple[str, int]]:
    return list(handle.query("SELECT id, amount FROM seen ORDER BY number"))


def deposit(system: FlowSystem, *amounts: int, account: str = "ada") -> None:
    for amount in amounts:
        system.actor(Account, account).ask(Account.deposit, amount)


def refuse(amount: int, error: Callable[[], BaseException] = lambda: ValueError("not this one")) -> Any:
    def before(_account: str, event: Deposited) -> None:
        if event.amount == amount:
            raise error()

    return before


# -------------------------------------------------------------------------------------------- promises
@pytest.mark.parametrize("is_file", [True, False])
def test_whoever_waits_sees_what_was_answered_before(
    bank: Callable[..., FlowSystem], path: Path, *, is_file: bool
) -> None:
    system = bank(path=path if is_file else ":memory:")
    handle = system.projection(Balances)
    ada = system.actor(Account, "ada")

    for number in range(1, 20):
        ada.ask(Account.deposit, 5)
        handle.wait_for(ada, timeout=DEAD_MAN_S)
        assert balances(handle) == {"ada": 5 * number}

    assert (handle.lag, handle.position, handle.status, handle.reason) == (0, 19, "following", "")
    assert handle.path == (path.with_name("flows.db-projection-balances") if is_file else None)
    assert (handle.name, repr(handle)) == ("balances", "<projection 'balances': following>")
    assert system.projections == (handle,)


def test_each_event_is_in_it_once_and_in_the_total_order(bank: Callable[..., FlowSystem]) -> None:
    system = bank(Everything, Balances)
    expected: list[tuple[str, str]] = []
    for number in range(30):
        deposit(system, number, account=f"a{number % 7}")
        system.actor(Diary, f"d{number % 3}").ask(Diary.note, "...")
        expected += [(f"a{number % 7}", "Deposited"), (f"d{number % 3}", "Noted")]
    everything, sums = system.projections
    everything.wait_for(timeout=DEAD_MAN_S)
    sums.wait_for(timeout=DEAD_MAN_S)

    assert list(everything.query("SELECT stream, event FROM entry ORDER BY number")) == expected
    assert [(s, "Deposited") for s, _ in seen(sums)] == [e for e in expected if e[1] == "Deposited"]


def test_it_goes_on_after_a_restart_where_it_was(bank: Callable[..., FlowSystem], path: Path) -> None:
    for number in range(1, 4):
        with bank(path=path) as system:
            deposit(system, 1, 2)
            handle = system.projection(Balances)
            handle.wait_for(timeout=DEAD_MAN_S)
            assert seen(handle) == [("ada", 1), ("ada", 2)] * number


def test_events_from_before_there_was_a_projection_are_in_it(
    bank: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "_PAGE", 7)
    with FlowSystem(path, actors=[Account]) as system:
        deposit(system, *range(100))

    handle = bank(path=path).projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)

    assert [amount for _, amount in seen(handle)] == list(range(100))


def test_another_process_reads_whole_transactions_of_the_file(
    bank: Callable[..., FlowSystem], path: Path
) -> None:
    system = bank(path=path)
    deposit(system, 1)
    handle = system.projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)
    other = apsw.Connection(str(handle.path), flags=apsw.SQLITE_OPEN_READONLY)
    half = Event()
    go_on = Event()

    def wait(_account: str, _event: Deposited) -> None:
        half.set()
        assert go_on.wait(DEAD_MAN_S)

    Balances.after = wait
    deposit(system, 10)
    assert half.wait(DEAD_MAN_S)
    within = other.execute("SELECT sum(amount) FROM seen").fetchall()
    go_on.set()
    handle.wait_for(timeout=DEAD_MAN_S)

    assert within == [(1,)]
    assert other.execute("SELECT sum(amount) FROM seen").fetchall() == [(11,)]
    other.close()


def test_on_runs_on_a_thread_of_its_own_and_a_slow_one_holds_up_nobody(
    bank: Callable[..., FlowSystem],
) -> None:
    go_on, threads = Event(), set()

    def wait(_account: str, _event: Deposited) -> None:
        threads.add(get_ident())
        assert go_on.wait(DEAD_MAN_S)

    Balances.before = wait
    system = bank(Balances, Everything)
    heard = Event()
    system.on_commit(heard.set)
    deposit(system, 1, 2, 3)
    assert heard.wait(DEAD_MAN_S)
    system.projection(Everything).wait_for(timeout=DEAD_MAN_S)

    with pytest.raises(TimeoutError, match=r"projection 'balances' has not come so far within 0.01 s"):
        system.projection(Balances).wait_for(timeout=0.01)
    go_on.set()
    system.projection(Balances).wait_for(timeout=DEAD_MAN_S)
    assert get_ident() not in threads
    assert len(threads) == 1


def test_waiting_does_not_block_an_event_loop(bank: Callable[..., FlowSystem]) -> None:
    system = bank()
    handle = system.projection(Balances)

    async def main() -> dict[str, int]:
        ada = system.actor(Account, "ada")
        await ada.ask_async(Account.deposit, 7)
        await handle.wait_for_async(ada, timeout=DEAD_MAN_S)
        with pytest.raises(TimeoutError):
            await handle.wait_for_async(10**9, timeout=0.01)
        return balances(handle)

    assert asyncio.run(main()) == {"ada": 7}


def test_a_position_of_the_store_may_be_waited_for(bank: Callable[..., FlowSystem]) -> None:
    system = bank()
    deposit(system, 1, 2, 3)
    handle = system.projection(Balances)

    handle.wait_for(2, timeout=DEAD_MAN_S)
    assert handle.position >= 2


# ------------------------------------------------------------------------------------------- failures
def test_what_raises_is_rolled_back_and_tried_again(
    bank: Callable[..., FlowSystem], caplog: pytest.LogCaptureFixture
) -> None:
    times: list[int] = []

    def fail(_account: str, event: Deposited) -> None:
        if event.amount == 2 and len(times) < 3:
            times.append(1)
            raise SystemExit(1)

    Balances.after = fail
    system = bank()
    deposit(system, 1, 2, 3)
    handle = system.projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)

    assert seen(handle) == [("ada", 1), ("ada", 2), ("ada", 3)]
    assert len(times) == 3
    assert "at event 2 of 'ada', 'deposited', position 2: SystemExit: 1; it is tried again" in caplog.text


def test_what_fails_for_good_is_parked_with_the_reason_and_goes_on_when_retried(
    bank: Callable[..., FlowSystem], path: Path
) -> None:
    Balances.before = refuse(2)
    system = bank(Balances, Everything, path=path)
    deposit(system, 1)
    handle = system.projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)
    deposit(system, 2, 3)

    with pytest.raises(ProjectionParked) as parked:
        handle.wait_for(timeout=DEAD_MAN_S)
    system.projection(Everything).wait_for(timeout=DEAD_MAN_S)
    with pytest.raises(ProjectionParked):
        handle.wait_for(timeout=DEAD_MAN_S)  # at once, now
    deposit(system, 4)

    at = Path(__file__).name
    assert f"(Balances.on at {at}:" in str(parked.value)
    assert "at event 2 of 'ada', 'deposited', position 2: ValueError: not this one" in str(parked.value)
    assert "retry() or rebuild()" in str(parked.value)
    assert (handle.status, handle.position, handle.lag) == ("parked", 1, 3)
    assert handle.reason in str(parked.value)
    assert seen(handle) == [("ada", 1)]
    kept = read_projection(handle.path or path)
    assert (kept.status, kept.reason) == ("parked", handle.reason)

    Balances.before = None
    handle.retry()
    handle.wait_for(timeout=DEAD_MAN_S)
    assert seen(handle) == [("ada", n) for n in (1, 2, 3, 4)]
    assert (handle.status, handle.reason) == ("following", "")
    assert read_projection(handle.path or path).status == "following"


def test_what_is_parked_is_tried_again_by_the_next_process(
    bank: Callable[..., FlowSystem], path: Path
) -> None:
    Balances.before = refuse(2)
    with bank(path=path) as system:
        deposit(system, 1, 2)
        with pytest.raises(ProjectionParked):
            system.projection(Balances).wait_for(timeout=DEAD_MAN_S)
    Balances.before = None

    handle = bank(path=path).projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)
    assert seen(handle) == [("ada", 1), ("ada", 2)]


def test_retries_wait_longer_each_time_by_the_clock_of_the_system(
    bank: Callable[..., FlowSystem], clock: ManualClock, environment: Environment
) -> None:
    tries: list[float] = []

    def fail(_account: str, _event: Deposited) -> None:
        tries.append(clock.elapsed())
        raise ValueError("no")

    Balances.before = fail
    rules = SupervisorRules(restart=RestartRules(initial_s=1, factor=10, jitter=0, max_restarts=2))
    system = bank(environment=environment, rules=rules)
    deposit(system, 1)
    handle = system.projection(Balances)
    wait_until(lambda: handle.status == "retrying")
    # In small steps, since its alarm may not be set yet.
    wait_until(lambda: clock.advance(0.1) or handle.status == "parked")

    assert len(tries) == 3
    assert tries[1] - tries[0] >= 1
    assert tries[2] - tries[1] >= 9


def test_a_wait_is_over_when_a_retry_is_asked_for(
    bank: Callable[..., FlowSystem], environment: Environment
) -> None:
    Balances.before = refuse(1)
    system = bank(environment=environment, rules=SupervisorRules(restart=RestartRules(initial_s=1000)))
    deposit(system, 1)
    handle = system.projection(Balances)
    wait_until(lambda: handle.status == "retrying")
    deposit(system, 2)  # a commit does not end it

    Balances.before = None
    handle.retry()
    handle.wait_for(timeout=DEAD_MAN_S)
    assert balances(handle) == {"ada": 3}


def test_an_event_that_cannot_be_decoded_parks_it_at_once(bank: Callable[..., FlowSystem]) -> None:
    store = memory_store()
    write(store, "ada", b'{"type":"minted","amount":3}')
    handle = bank(store=store).projection(Balances)

    with pytest.raises(ProjectionParked, match="at event 1 of 'ada', 'minted', position 1: PayloadError"):
        handle.wait_for(timeout=DEAD_MAN_S)


def write(store: SqliteStore, stream: str, *data: bytes, kind: str = "account", state: str = "actor") -> None:
    kinds = [msgspec.json.decode(one).get("type", "x") for one in data]
    store.commit(
        [
            Append(
                stream,
                0,
                tuple(NewRecord(1, tag, one) for tag, one in zip(kinds, data, strict=True)),
                HeaderChange(state, StreamState.OPEN, None),
                kind,
            )
        ]
    )


def test_the_events_of_others_are_passed_over(bank: Callable[..., FlowSystem]) -> None:
    store = memory_store()
    write(store, "flow", b'{"type":"deposited","amount":100}', kind="flows", state="completed")
    write(store, "savings", b'{"type":"deposited","amount":100}', kind="savings")
    write(store, "ada", b'{"type":"deposited","amount":1}')
    handle = bank(store=store).projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)

    assert seen(handle) == [("ada", 1)]
    assert handle.position == 3


def test_a_store_that_cannot_be_read_for_a_while_is_waited_for(bank: Callable[..., FlowSystem]) -> None:
    store: Any = FaultyStore(memory_store())
    system = bank(store=store)
    handle = system.projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)
    halted: list[int] = []

    def scan_all(**_: Any) -> Any:
        halted.append(1)
        raise StoreHalted("not now")

    store.scan_all = scan_all
    deposit(system, 1, 2)
    wait_until(lambda: len(halted) > 8)  # more often than what fails for good would be tried
    assert handle.status == "retrying"
    del store.scan_all
    handle.wait_for(timeout=DEAD_MAN_S)

    assert balances(handle) == {"ada": 3}


def test_an_error_of_another_store_that_on_uses_is_no_error_of_the_file(
    bank: Callable[..., FlowSystem],
) -> None:
    Balances.before = refuse(1, lambda: StoreHalted("another one"))
    system = bank()
    deposit(system, 1)

    with pytest.raises(ProjectionParked, match="StoreHalted: another one"):
        system.projection(Balances).wait_for(timeout=DEAD_MAN_S)


def test_whoever_asks_how_far_to_wait_hears_that_the_store_cannot_say(
    bank: Callable[..., FlowSystem],
) -> None:
    store: Any = FaultyStore(memory_store())
    handle = bank(store=store).projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)

    def position() -> int:
        raise StoreHalted("not now")

    store.position = position
    with pytest.raises(StoreHalted):
        handle.wait_for(timeout=DEAD_MAN_S)


def test_a_file_that_is_locked_by_another_process_is_waited_for(
    bank: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistasaurus.store.sqlite.projection_file._PATIENCE_MS", 1)
    system = bank(path=path)
    handle = system.projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)
    other = apsw.Connection(str(handle.path))
    other.execute("BEGIN IMMEDIATE")
    deposit(system, 1)
    wait_until(lambda: handle.status == "retrying")
    assert "another process keeps the file locked" in handle.reason
    other.execute("ROLLBACK")
    other.close()
    handle.wait_for(timeout=DEAD_MAN_S)

    assert balances(handle) == {"ada": 1}


def test_a_projection_that_is_closed_refuses_to_wait(bank: Callable[..., FlowSystem]) -> None:
    system = bank()
    handle = system.projection(Balances)
    go_on = Event()
    Balances.before = lambda _account, _event: go_on.wait(DEAD_MAN_S) and None
    deposit(system, 1)

    async def main() -> None:
        waiting = asyncio.ensure_future(handle.wait_for_async(10**6))
        await asyncio.sleep(0)
        go_on.set()
        await system.close_async()
        with pytest.raises(SystemClosed, match="the projection follows no more"):
            await waiting

    asyncio.run(main())
    assert handle.status == "stopped"
    for use in (handle.wait_for, handle.retry, handle.rebuild, lambda: handle.lag):
        with pytest.raises(SystemClosed):
            use()


# ----------------------------------------------------------------------------------- what `on` may do
class Trespasser(Projection, name="trespasser", of=Account):
    schema = "CREATE TABLE mine (x)"
    statement: ClassVar[str] = ""
    caught: ClassVar[bool] = False

    def on(self, db: ProjectionDatabase, at: datetime, stream: str, event: Deposited) -> None:
        db.execute("INSERT INTO mine VALUES (?)", (event.amount,))
        if Trespasser.statement:
            try:
                db.execute(Trespasser.statement)
            except Exception:
                if not Trespasser.caught:
                    raise


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("ATTACH '{folder}/other.db' AS other", "it may not attach another file"),
        ("DETACH main", "it may not detach a file"),
        ("COMMIT", "it may not begin or end a transaction"),
        ("ROLLBACK", "it may not begin or end a transaction"),
        ("SAVEPOINT a", "it may not use savepoints"),
        (
            "UPDATE persistasaurus_projection SET position = 0",
            "touch persistasaurus_projection: that is the engine's",
        ),
        ("SELECT * FROM Persistasaurus_Projection", "that is the engine's"),
        ("CREATE TABLE other (x)", "tables are defined in `schema`"),
        ("CREATE TEMP TABLE other (x)", "tables are defined in `schema`"),
        ("DROP TABLE mine", "tables are defined in `schema`"),
        ("DELETE FROM sqlite_schema", "may not be modified"),
        ("PRAGMA synchronous = OFF", "it may not use PRAGMA"),
        (
            "INSERT OR ROLLBACK INTO mine SELECT 1 UNION ALL SELECT load_extension('x')",
            "not authorized|no such",
        ),
        ("SELECT * FROM missing", "SQLError: no such table: missing"),
    ],
)
def test_on_is_kept_to_the_tables_of_its_projection(
    bank: Callable[..., FlowSystem],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    reason: str,
) -> None:
    monkeypatch.setattr(Trespasser, "statement", statement.format(folder=path.parent))
    system = bank(Trespasser, path=path)
    deposit(system, 1)
    handle = system.projection(Trespasser)

    with pytest.raises(ProjectionParked, match=reason):
        handle.wait_for(timeout=DEAD_MAN_S)
    assert list(handle.query("SELECT * FROM mine")) == []
    assert not path.with_name("other.db").exists()


class Unique(Projection, name="once", of=Account):
    schema = "CREATE TABLE mine (x UNIQUE)"
    conflict: ClassVar[str] = "ROLLBACK"

    def on(self, db: ProjectionDatabase, at: datetime, stream: str, event: Deposited) -> None:
        for _ in range(2):
            try:
                db.execute(f"INSERT OR {Unique.conflict} INTO mine VALUES (?)", (event.amount,))
            except apsw.ConstraintError:
                db.execute("SELECT 1") if Unique.conflict == "ABORT" else None


def test_a_statement_that_rolls_everything_back_is_never_committed_around(
    bank: Callable[..., FlowSystem],
) -> None:
    system = bank(Unique)
    deposit(system, 1)
    handle = system.projection(Unique)

    with pytest.raises(ProjectionParked, match="a statement has rolled back everything"):
        handle.wait_for(timeout=DEAD_MAN_S)
    assert list(handle.query("SELECT * FROM mine")) == []


def test_an_error_of_one_statement_may_be_caught(
    bank: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Unique, "conflict", "ABORT")
    system = bank(Unique)
    deposit(system, 1)
    handle = system.projection(Unique)
    handle.wait_for(timeout=DEAD_MAN_S)

    assert list(handle.query("SELECT * FROM mine")) == [(1,)]


class Keeper(Projection, name="keeper", of=Account):
    schema = "CREATE TABLE mine (x)"
    kept: ClassVar[list[ProjectionDatabase]] = []

    def on(self, db: ProjectionDatabase, at: datetime, stream: str, event: Deposited) -> None:
        if event.amount == 2:
            self.last = event
        db.executemany("INSERT INTO mine VALUES (?)", [(event.amount,), (at,)])
        Keeper.kept.append(db)


def test_the_database_is_lent_for_one_call_and_nothing_is_kept_in_the_projection(
    bank: Callable[..., FlowSystem],
) -> None:
    system = bank(Keeper)
    deposit(system, 1)
    handle = system.projection(Keeper)
    handle.wait_for(timeout=DEAD_MAN_S)

    with pytest.raises(RuntimeError, match="`db` is used after on"):
        Keeper.kept.pop().execute("SELECT 1")
    (first,), (at,) = handle.query("SELECT * FROM mine")
    assert first == 1
    assert datetime.fromisoformat(at).tzinfo == UTC
    deposit(system, 2)
    with pytest.raises(ProjectionParked, match="what it knows is in tables"):
        handle.wait_for(timeout=DEAD_MAN_S)


class Searched(Projection, name="searched", of=Diary):
    schema = "CREATE VIRTUAL TABLE entry USING fts5 (id, text)"

    def on(self, db: ProjectionDatabase, at: datetime, stream: str, event: Noted) -> None:
        db.execute("INSERT INTO entry VALUES (?, ?)", (stream, event.text))


def test_a_full_text_index_works(bank: Callable[..., FlowSystem], path: Path) -> None:
    system = bank(Searched, path=path)
    for number, text in enumerate(["ada met grace", "grace met nobody", "a long day"]):
        system.actor(Diary, f"page-{number}").ask(Diary.note, text)
    handle = system.projection(Searched)
    handle.wait_for(timeout=DEAD_MAN_S)
    handle.rebuild()
    handle.wait_for(timeout=DEAD_MAN_S)

    assert list(handle.query("SELECT id FROM entry WHERE entry MATCH 'grace' ORDER BY id")) == [
        ("page-0",),
        ("page-1",),
    ]
    with pytest.raises(StoreError, match="only reading is allowed"):
        handle.query("DELETE FROM entry")


# ------------------------------------------------------------------------------------- building anew
def test_readers_see_the_old_tables_until_the_new_ones_are_complete(
    bank: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "_PAGE", 3)
    system = bank(path=path)
    deposit(system, *range(1, 11))
    handle = system.projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)
    other = apsw.Connection(str(handle.path), flags=apsw.SQLITE_OPEN_READONLY)
    half, go_on = Event(), Event()

    def wait(_account: str, event: Deposited) -> None:
        if event.amount == 9:
            half.set()
            assert go_on.wait(DEAD_MAN_S)

    Balances.before = wait
    handle.rebuild()
    assert half.wait(DEAD_MAN_S)
    within = (other.execute("SELECT count(*) FROM seen").fetchall(), handle.status, handle.position)
    with pytest.raises(TimeoutError):
        handle.wait_for(timeout=0.01)
    go_on.set()
    deposit(system, 11)
    handle.wait_for(timeout=DEAD_MAN_S)

    assert within == ([(10,)], "rebuilding", 10)
    assert other.execute("SELECT amount FROM seen ORDER BY number").fetchall() == [(n,) for n in range(1, 12)]
    assert read_projection(handle.path or path).origin == "somebody has asked for it"
    assert not path.with_name(f"{path.name}-projection-balances-draft").exists()
    other.close()


def revised(**changes: Any) -> type[Projection]:
    """Return what somebody has made of the projection since."""

    def on(_self: Any, db: ProjectionDatabase, _at: datetime, stream: str, event: Deposited) -> None:
        if Balances.before is not None:
            Balances.before(stream, event)
        db.execute("INSERT INTO seen (id, amount) VALUES (?, ?)", (stream, -event.amount))

    members = {"schema": SCHEMA, "on": on, **changes}
    of = members.pop("of", Account)
    return type("Revised", (Projection,), members, name=members.pop("name", "balances"), of=of)


@pytest.mark.parametrize(
    "changes", [{"version": 2}, {"schema": SCHEMA + "CREATE INDEX i ON seen (id)"}, {"of": (Account, Diary)}]
)
def test_a_changed_projection_is_built_anew(
    bank: Callable[..., FlowSystem], path: Path, changes: dict[str, Any]
) -> None:
    with bank(path=path) as system:
        deposit(system, 1, 2)
        system.projection(Balances).wait_for(timeout=DEAD_MAN_S)

    kind = revised(**changes)
    handle = bank(kind, path=path).projection(kind)
    handle.wait_for(timeout=DEAD_MAN_S)
    assert seen(handle) == [("ada", -1), ("ada", -2)]
    assert "have changed" in read_projection(handle.path or path).origin


def test_a_projection_whose_code_alone_has_changed_goes_on(
    bank: Callable[..., FlowSystem], path: Path
) -> None:
    with bank(path=path) as system:
        deposit(system, 1)
        system.projection(Balances).wait_for(timeout=DEAD_MAN_S)

    kind = revised()
    system = bank(kind, path=path)
    deposit(system, 2)
    handle = system.projection(kind)
    handle.wait_for(timeout=DEAD_MAN_S)
    assert seen(handle) == [("ada", 1), ("ada", -2)]


def test_a_failure_while_it_is_built_anew_leaves_the_old_tables_and_is_gone_on_with(
    bank: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "_PAGE", 2)
    with bank(path=path) as system:
        deposit(system, 1, 2, 3, 4)
        system.projection(Balances).wait_for(timeout=DEAD_MAN_S)
    kind = revised(version=2)
    Balances.before = refuse(4)
    with bank(kind, path=path) as system:
        handle = system.projection(kind)
        with pytest.raises(ProjectionParked):
            handle.wait_for(timeout=DEAD_MAN_S)
        assert seen(handle) == [("ada", n) for n in (1, 2, 3, 4)]
        assert read_projection(handle.path or path).status == "parked"

    taken: list[int] = []
    Balances.before = lambda _account, event: taken.append(event.amount)
    handle = bank(kind, path=path).projection(kind)
    handle.wait_for(timeout=DEAD_MAN_S)
    assert taken == [4], "the draft was begun anew"
    assert seen(handle) == [("ada", -n) for n in (1, 2, 3, 4)]


def test_a_first_build_that_fails_says_so_and_shows_no_half_of_it(
    bank: Callable[..., FlowSystem], path: Path
) -> None:
    with FlowSystem(path, actors=[Account]) as system:
        deposit(system, 1, 2)
    Balances.before = refuse(2)
    handle = bank(path=path).projection(Balances)
    with pytest.raises(ProjectionParked):
        handle.wait_for(timeout=DEAD_MAN_S)

    assert read_projection(handle.path or path).status == "parked"
    assert balances(handle) == {}
    Balances.before = None
    handle.rebuild()
    handle.wait_for(timeout=DEAD_MAN_S)
    assert balances(handle) == {"ada": 3}


def test_a_build_after_damage_that_fails_says_so_in_its_draft(
    bank: Callable[..., FlowSystem], path: Path
) -> None:
    with bank(path=path) as system:
        deposit(system, 1, 2)
        system.projection(Balances).wait_for(timeout=DEAD_MAN_S)
    file = path.with_name(f"{path.name}-projection-balances")
    damage(file, "no database")
    Balances.before = refuse(2)
    handle = bank(path=path).projection(Balances)
    with pytest.raises(ProjectionParked):
        handle.wait_for(timeout=DEAD_MAN_S)

    assert read_projection(file.with_name(f"{file.name}-draft")).status == "parked"
    with pytest.raises(StoreError, match="no such table"):
        handle.query("SELECT * FROM seen")


@pytest.mark.parametrize("is_later", [False, True])
def test_a_store_that_was_restored_from_a_backup_is_noticed(
    bank: Callable[..., FlowSystem],
    path: Path,
    killed: Callable[[Path], Path],
    caplog: pytest.LogCaptureFixture,
    *,
    is_later: bool,
) -> None:
    with bank(path=path) as system:
        deposit(system, 1)
        backup = killed(path)
        deposit(system, 2, 3)
        system.projection(Balances).wait_for(timeout=DEAD_MAN_S)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
        if Path(f"{backup}{suffix}").exists():
            Path(f"{backup}{suffix}").rename(f"{path}{suffix}")
    if is_later:
        with FlowSystem(path, actors=[Account]) as system:  # others have taken the positions of what is lost
            deposit(system, 20, 30, 40)

    handle = bank(path=path).projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)
    assert balances(handle) == {"ada": 91 if is_later else 1}
    assert "the store does not have the event that it has come to" in caplog.text


# ------------------------------------------------------------------------------------ other files there
@pytest.mark.parametrize("what", ["no database", "cut", "no row", "two rows"])
def test_a_damaged_file_is_kept_and_built_anew(
    bank: Callable[..., FlowSystem], path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    file = path.with_name(f"{path.name}-projection-balances")
    with bank(path=path) as system:
        deposit(system, 1, 2)
        system.projection(Balances).wait_for(timeout=DEAD_MAN_S)
    damage(file, what)

    handle = bank(path=path).projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)
    assert balances(handle) == {"ada": 3}
    kept = [one for one in path.parent.iterdir() if "-damaged-" in one.name and not one.name.endswith("-wal")]
    assert len(kept) == 1
    assert str(kept[0]) in caplog.text


def damage(file: Path, what: str) -> None:
    connection = apsw.Connection(str(file))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    if what == "no row":
        connection.execute("DELETE FROM persistasaurus_projection")
    elif what == "two rows":
        connection.execute(
            "DROP TABLE persistasaurus_projection; CREATE TABLE persistasaurus_projection (name)"
        )
    connection.close()
    if what == "no database":
        file.write_bytes(b"not at all" * 1000)
    elif what == "cut":
        file.write_bytes(file.read_bytes()[: 4096 + 100])


def test_a_file_that_is_damaged_at_work_is_kept_and_built_anew(
    bank: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = bank(path=path)
    deposit(system, 1)
    handle = system.projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)
    damaged: list[int] = []
    apply = ProjectionFile.apply

    def fail(self: ProjectionFile, *args: Any) -> Any:
        if not damaged:
            damaged.append(1)
            raise projector.ProjectionDamaged("a page is not what it was")
        return apply(self, *args)

    monkeypatch.setattr(ProjectionFile, "apply", fail)
    deposit(system, 2)
    handle.wait_for(timeout=DEAD_MAN_S)

    assert seen(handle) == [("ada", 1), ("ada", 2)]
    assert any("-damaged-" in one.name for one in path.parent.iterdir())
    damaged.clear()
    handle.rebuild()
    handle.wait_for(timeout=DEAD_MAN_S)
    assert seen(handle) == [("ada", 1), ("ada", 2)]


def test_a_file_of_something_else_is_left_alone(bank: Callable[..., FlowSystem], path: Path) -> None:
    file = path.with_name(f"{path.name}-projection-balances")
    other = apsw.Connection(str(file))
    other.execute("CREATE TABLE precious (x); INSERT INTO precious VALUES (1)")
    other.close()
    handle = bank(path=path).projection(Balances)

    with pytest.raises(ProjectionParked, match="an SQLite database, but of no projection: move it away"):
        handle.wait_for(timeout=DEAD_MAN_S)
    with pytest.raises(StoreError, match="of no projection"):
        handle.rebuild()
    file.rename(file.with_name("precious"))
    handle.retry()
    handle.wait_for(timeout=DEAD_MAN_S)
    assert apsw.Connection(str(file.with_name("precious"))).execute("SELECT x FROM precious").fetchall() == [
        (1,)
    ]


def test_the_file_of_another_projection_is_left_alone(bank: Callable[..., FlowSystem], path: Path) -> None:
    first, second = revised(file="read-model.db"), revised(name="second", file="read-model.db")
    with bank(first, path=path) as system:
        system.projection(first).wait_for(timeout=DEAD_MAN_S)
        assert system.projection(first).path == path.with_name("read-model.db")

    handle = bank(second, path=path).projection(second)
    with pytest.raises(ProjectionParked, match="is the file of projection 'balances'"):
        handle.wait_for(timeout=DEAD_MAN_S)


def test_two_who_write_to_one_file_are_noticed(
    bank: Callable[..., FlowSystem], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    system = bank(path=path)
    deposit(system, 1)
    handle = system.projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)
    other = apsw.Connection(str(handle.path))
    other.execute("UPDATE persistasaurus_projection SET position = 0; DELETE FROM seen; DELETE FROM balance")
    other.close()
    deposit(system, 2)
    handle.wait_for(timeout=DEAD_MAN_S)

    assert "is no longer as of position 1" in caplog.text
    assert balances(handle) == {"ada": 3}


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_damaged_event_of_others_is_passed_over_and_one_of_its_own_parks_it(
    bank: Callable[..., FlowSystem], path: Path, *, is_ours: bool
) -> None:
    with FlowSystem(path, actors=[Account, Diary]) as system:
        deposit(system, 1)
        system.actor(Diary, "page").ask(Diary.note, "something")
        deposit(system, 2)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE record SET data = '{}' WHERE position = ?", (3 if is_ours else 2,))
    connection.close()
    handle = bank(path=path).projection(Balances)

    if is_ours:
        with pytest.raises(ProjectionParked, match="RecordCorrupt: record 2 of stream 'ada' is corrupt"):
            handle.wait_for(timeout=DEAD_MAN_S)
        assert handle.position == 0
    else:
        handle.wait_for(timeout=DEAD_MAN_S)
        assert balances(handle) == {"ada": 3}


def test_an_event_whose_stream_has_a_damaged_header_parks_it(
    bank: Callable[..., FlowSystem], path: Path
) -> None:
    with FlowSystem(path, actors=[Account]) as system:
        deposit(system, 1)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE stream SET type = type + 1000 WHERE name = 'ada'")
    connection.close()
    handle = bank(path=path).projection(Balances)

    with pytest.raises(ProjectionParked, match="RecordCorrupt: stream 'ada' is corrupt: its header"):
        handle.wait_for(timeout=DEAD_MAN_S)


# -------------------------------------------------------------------------------------------- bounds
def test_a_transaction_ends_after_a_while_so_that_others_see_something(
    bank: Callable[..., FlowSystem], clock: ManualClock, environment: Environment
) -> None:
    with bank(environment=environment) as system:
        handle = system.projection(Balances)
        handle.wait_for(timeout=DEAD_MAN_S)
        positions: list[int] = []

        def take_long(_account: str, _event: Deposited) -> None:
            positions.append(handle.position)
            clock.pass_over(0.03)

        Balances.before = take_long
        ada = system.actor(Account, "ada")

        async def main() -> None:
            await asyncio.gather(*(ada.ask_async(Account.deposit, 1) for _ in range(20)))

        asyncio.run(main())
        handle.wait_for(timeout=DEAD_MAN_S)

    assert max(positions.count(one) for one in positions) <= 2


def test_the_types_of_few_streams_are_kept_in_mind(
    bank: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "_TYPES_MAX", 3)
    system = bank()
    for number in range(20):
        deposit(system, number, account=f"a{number % 9}")
    handle = system.projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)

    assert [amount for _, amount in seen(handle)] == list(range(20))


# ---------------------------------------------------------------------------------------- definitions
def define(**members: Any) -> type[Projection]:
    options = {"name": "p", "of": Account, **members.pop("options", {})}
    good = {"schema": "CREATE TABLE t (x)", "on": lambda self, db, at, stream, event: None}
    members = {name: value for name, value in {**good, **members}.items() if value is not None}
    return type("P", (Projection,), members, **options)


async def _async_on(self: Any, db: Any, at: Any, stream: Any, event: Any) -> None: ...


def _generator_on(self: Any, db: Any, at: Any, stream: Any, event: Any) -> Any:
    yield


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"options": {"name": None}}, "it needs a name"),
        ({"options": {"name": "a-b"}}, "'a-b' cannot be its name"),
        ({"options": {"name": 3}}, "3 cannot be its name"),
        ({"options": {"version": 2}}, r"it takes no version=: write version = 2 in the class"),
        ({"options": {"of": None}}, "does not say of which actors it is"),
        ({"options": {"of": []}}, "of no actors at all"),
        ({"options": {"of": [Account, Account]}}, "two classes of actors that are named 'account'"),
        ({"options": {"of": int}}, "not a class that derives from EventSourcedActor"),
        ({"schema": None}, "it has no schema"),
        ({"schema": 3}, "give SQL as text"),
        ({"schema": "CREATE TABEL t (x)"}, r'the schema of projection \'p\': near "TABEL": syntax error'),
        ({"schema": "-- nothing"}, "defines no table"),
        ({"schema": "CREATE TABLE t (x); ATTACH 'a' AS b"}, "it may not attach another file"),
        ({"schema": "CREATE TABLE persistasaurus_x (x)"}, "it may not touch persistasaurus_x"),
        ({"schema": "CREATE TABLE t (x); PRAGMA journal_mode = DELETE"}, "it may not use PRAGMA"),
        ({"on": None}, r"it has no on\(\)"),
        ({"on": lambda self, db: None}, "must take db, at, stream and event"),
        ({"on": staticmethod(lambda a, b, c, d, e: None)}, "must be a plain method"),
        ({"on": _async_on}, "without `async` and `yield`"),
        ({"on": _generator_on}, "without `async` and `yield`"),
        ({"version": "2"}, "give a whole number"),
        ({"file": ""}, "give the path of a file"),
        ({"__init__": lambda self: None}, "keeps nothing but its tables"),
    ],
)
def test_what_cannot_work_is_refused_when_the_class_is_made(members: dict[str, Any], said: str) -> None:
    with pytest.raises(ProjectionDefinitionError, match=said) as refused:
        define(**members)

    assert f"class P at {os.path.basename(__file__)}:" in str(refused.value)  # noqa: PTH119


def test_what_cannot_be_registered_is_refused_before_anything_is_opened(path: Path) -> None:
    for projections, said in [
        ([define(), define()], "two projections have 'p'"),
        ([define(file="f"), define(file="f", options={"name": "q"})], "two projections have 'f'"),
        ([int], "not a class that derives from Projection"),
        ([Projection], "not a class that derives from Projection"),
        (Balances, r"write projections=\[Balances\]"),
    ]:
        with pytest.raises(ProjectionDefinitionError, match=said):
            FlowSystem(path, projections=projections)
    assert not path.exists()


def test_a_projection_that_is_not_registered_is_refused(bank: Callable[..., FlowSystem]) -> None:
    system = bank()

    with pytest.raises(ProjectionDefinitionError, match=r"FlowSystem\(..., projections=\[Everything\]\)"):
        system.projection(Everything)
    with pytest.raises(ProjectionDefinitionError, match="does not follow <Ref diary 'page'>, but 'account'"):
        system.projection(Balances).wait_for(system.actor(Diary, "page"))
    with pytest.raises(TypeError, match="give a reference to an actor, a position, or nothing"):
        system.projection(Balances).wait_for("ada")
    assert repr(Balances._definition) == "<projection 'balances'>"


class Waiting(Flow):
    system: ClassVar[FlowSystem]

    @flow
    async def in_the_body(self) -> str:
        try:
            Waiting.system.projection(Balances).wait_for()
        except NotInFlowError as error:
            return str(error)
        return "it waited"

    @flow
    async def in_a_step(self) -> int:
        return await self.count()

    @step
    def count(self) -> int:
        handle = Waiting.system.projection(Balances)
        handle.wait_for(timeout=DEAD_MAN_S)
        return len(seen(handle))


def test_a_step_may_wait_and_a_flow_s_body_may_not(make_system: Callable[..., FlowSystem]) -> None:
    system = Waiting.system = make_system(Waiting, actors=[Account], projections=[Balances])
    deposit(system, 1, 2)

    assert system.run(Waiting.in_a_step) == 2
    assert "do that in a step" in system.run(Waiting.in_the_body)


def test_a_projector_that_fails_of_its_own_says_so_to_all_who_wait(bank: Callable[..., FlowSystem]) -> None:
    system = bank()
    handle = system.projection(Balances)
    handle.wait_for(timeout=DEAD_MAN_S)

    def fail(_error: Exception) -> None:
        raise AssertionError("a bug")

    go_on = Event()
    Balances.before = lambda _account, _event: go_on.wait(DEAD_MAN_S) and 1 // 0
    handle._projector._failed = fail
    deposit(system, 1)

    async def main() -> None:
        waiting = asyncio.ensure_future(handle.wait_for_async(5))
        await asyncio.sleep(0)
        go_on.set()
        await waiting

    with pytest.raises(
        (ProjectionParked, SystemClosed), match=r"has crashed: AssertionError|follows no more|closed"
    ):
        asyncio.run(main())
    with pytest.raises(SystemClosed):
        handle.retry()
    assert handle.status == "stopped"


def test_an_empty_draft_and_one_that_was_taken_over_are_removed(
    bank: Callable[..., FlowSystem], path: Path
) -> None:
    with bank(path=path) as system:
        deposit(system, 1)
        handle = system.projection(Balances)
        handle.wait_for(timeout=DEAD_MAN_S)
    draft = path.with_name(f"{path.name}-projection-balances-draft")
    for fill in (copy_of(handle.path or path), lambda to: to.touch(), lambda to: to.write_bytes(b"x" * 5000)):
        fill(draft)
        with bank(path=path) as system:
            handle = system.projection(Balances)
            handle.wait_for(timeout=DEAD_MAN_S)
            assert seen(handle) == [("ada", 1)]
            assert handle.status == "following"
        assert not draft.exists()


def copy_of(file: Path) -> Callable[[Path], None]:
    def fill(to: Path) -> None:
        source, target = apsw.Connection(str(file)), apsw.Connection(str(to))
        with target.backup("main", source, "main") as copying:
            copying.step(-1)
        target.close()
        source.close()

    return fill


def test_a_place_in_a_folder_that_is_not_there_is_waited_for(
    bank: Callable[..., FlowSystem], path: Path
) -> None:
    kind = revised(file="later/read-model.db")
    handle = bank(kind, path=path).projection(kind)
    wait_until(lambda: handle.status == "retrying")
    path.with_name("later").mkdir()
    handle.wait_for(timeout=DEAD_MAN_S)

    assert FilePlace(path.parent / "later" / "read-model.db").exists()
