"""Event-sourced actors of one's own."""

from __future__ import annotations

import logging
from threading import Event
from typing import TYPE_CHECKING, Any

import msgspec
import persistasaurus.actors.persistence.event_sourced as module
import pytest
from persistasaurus import EventSourcedActor, Flow, FlowNotFound, StoreUnavailable, SystemClosed, flow
from persistasaurus.actors.persistence.persistent_actor import StaleWriterError
from persistasaurus.store import Append, StoreFull
from pykka import ActorDeadError
from system.doubles import DEAD_MAN_S, FaultyStore, memory_store, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from persistasaurus import FlowSystem


class Deposited(msgspec.Struct, tag="deposited"):
    amount: int


class Closed(msgspec.Struct, tag="closed"):
    pass


class Account(EventSourcedActor[Deposited | Closed]):
    events = Deposited | Closed
    stream_type = "account"

    def __init__(self, stream_id: str, access: Any, hold: Event | None = None) -> None:
        super().__init__(stream_id, access)
        self.balance = 0
        self.recovered: int | None = None
        self.hold = hold

    def apply(self, event: Deposited | Closed) -> None:
        if isinstance(event, Deposited):
            self.balance += event.amount

    def on_recovered(self) -> None:
        self.recovered = self.balance

    def on_command(self, message: Any) -> Any:
        if self.hold is not None:
            assert self.hold.wait(DEAD_MAN_S)
        match message:
            case "balance" | "recovered":
                return getattr(self, message)
            case "then fails":
                return self.persist(Deposited(1), then=lambda: 1 // 0)
            case "wrong":
                return self.persist(Other(1))  # type: ignore[arg-type]
            case int() if message > 0:
                return self.persist(Deposited(message), then=lambda: self.balance)
            case ("write", int() as version, list() as written):
                append = Append(self.stream_id, version, (self._record(Closed()),))
                return self.write(append, lambda: written.append(version))
            case (int(), int()):
                return self.persist(*map(Deposited, message), then=lambda: self.balance)
        raise ValueError("a deposit is more than nothing")


class Untyped(EventSourcedActor[Deposited]):
    events = Deposited


class Other(msgspec.Struct, tag="other"):
    n: int


def test_the_example_of_the_docstring(make_system: Callable[..., FlowSystem]) -> None:
    text = (module.__doc__ or "").partition("\n\n")[2].partition("\n\nThe three movements")[0]
    code = "\n".join(line.removeprefix("    ") for line in text.splitlines())
    names = {"msgspec": msgspec, "EventSourcedActor": EventSourcedActor, "system": make_system()}

    exec(compile(code, "docstring", "exec"), names)

    assert names["account"].ask(5) == 15


def test_what_was_answered_is_durable_and_recovered(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    system = make_system(path=path)
    account = system.actor(Account, "ada")
    assert account.ask(10) == 10
    assert account.ask((1, 2)) == 13
    assert account.ask("recovered") == 0
    assert system.actor(Account, "ada") is account
    system.close()
    account = make_system(path=path).actor(Account, "ada")

    assert account.ask("recovered") == account.ask("balance") == 13
    assert account.ask(1) == 14


def test_two_asks_in_flight_are_answered_in_order_and_queries_see_what_came_before(
    make_system: Callable[..., FlowSystem],
) -> None:
    hold = Event()
    account = make_system().actor(Account, "ada", hold)
    asked = [account.ask(m, block=False) for m in (1, "balance", 2, "balance", 3)]
    account.tell(4)
    last = account.ask("balance", block=False)
    hold.set()

    assert [future.get(timeout=DEAD_MAN_S) for future in (*asked, last)] == [1, 1, 3, 3, 6, 10]


def test_an_exception_goes_to_the_asker_and_leaves_the_state_as_it_was(
    make_system: Callable[..., FlowSystem],
) -> None:
    hold = Event()
    account = make_system().actor(Account, "ada", hold)
    asked = [account.ask(m, block=False) for m in (1, -1, "wrong", 2, -1)]
    hold.set()

    assert asked[0].get(timeout=DEAD_MAN_S) == 1
    with pytest.raises(ValueError, match="more than nothing"):
        asked[1].get(timeout=DEAD_MAN_S)
    with pytest.raises(TypeError, match="none of the events"):
        asked[2].get(timeout=DEAD_MAN_S)
    assert asked[3].get(timeout=DEAD_MAN_S) == 3
    with pytest.raises(ValueError, match="more than nothing"):
        asked[4].get(timeout=DEAD_MAN_S)
    assert account.ask("balance") == 3


@pytest.mark.parametrize("is_stashed", [False, True])
def test_an_exception_at_a_message_that_was_told_ends_the_actor_and_the_next_one_recovers(
    make_system: Callable[..., FlowSystem], caplog: pytest.LogCaptureFixture, *, is_stashed: bool
) -> None:
    system = make_system()
    hold = Event()
    account = system.actor(Account, "ada", hold)
    if is_stashed:
        account.tell(5)
    account.tell(-1)
    hold.set()
    wait_until(lambda: not account.is_alive())

    assert "a deposit is more than nothing" in caplog.text
    assert system.actor(Account, "ada").ask("balance") == (5 if is_stashed else 0)


def test_what_then_raises_goes_to_the_asker_and_the_events_stand(
    make_system: Callable[..., FlowSystem],
) -> None:
    account = make_system().actor(Account, "ada")

    with pytest.raises(ZeroDivisionError):
        account.ask("then fails")
    assert account.ask("balance") == 1


def test_what_then_raises_with_nobody_to_hear_it_ends_the_actor_and_the_events_stand(
    make_system: Callable[..., FlowSystem], caplog: pytest.LogCaptureFixture
) -> None:
    system = make_system()
    account = system.actor(Account, "ada")
    account.tell("then fails")
    wait_until(lambda: not account.is_alive())

    assert "ZeroDivisionError" in caplog.text
    assert system.actor(Account, "ada").ask("balance") == 1


def test_a_failed_commit_ends_the_actor_and_the_next_one_knows_what_is_on_disk(
    make_system: Callable[..., FlowSystem],
) -> None:
    store = FaultyStore(memory_store())
    system = make_system(store=store)
    account = system.actor(Account, "ada")
    assert account.ask(1) == 1

    def full(_: int, store: FaultyStore) -> None:
        store.fail = None
        raise _halted(store)

    store.fail = full
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        account.ask(2)
    with pytest.raises(ActorDeadError):
        account.ask("balance")
    wait_until(lambda: store.inner._halted is None)
    assert system.actor(Account, "ada").ask(4) == 5


def test_a_write_of_ones_own_that_fails_ends_the_actor_also_when_nobody_is_to_hear_of_it(
    make_system: Callable[..., FlowSystem],
) -> None:
    account = make_system().actor(Account, "ada")
    assert account.ask(1) == 1
    written: list[int] = []

    account.ask(("write", 1, written))
    wait_until(lambda: written == [1])
    account.ask(("write", 7, written))
    wait_until(lambda: not account.is_alive())

    assert written == [1]


def _halted(store: FaultyStore) -> StoreFull:
    error = StoreFull("the disk is full, injected")
    store.inner._halted = error
    return error


def test_an_actor_whose_stream_somebody_else_has_written_to_ends(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system()
    first = system.actor(Account, "ada")
    assert first.ask(1) == 1
    second = Account.start_on(system._working, "ada", system._access)
    assert second.ask(2) == 3

    with pytest.raises(StaleWriterError):
        first.ask(4)
    wait_until(lambda: not first.is_alive())
    assert system.actor(Account, "ada").ask("balance") == 3


def test_an_actor_is_no_flow_and_a_flow_is_no_actor(make_system: Callable[..., FlowSystem]) -> None:
    class Quick(Flow):
        @flow
        async def main(self) -> int:
            return 1

    system = make_system(Quick)
    system.actor(Account, "ada").ask(1)
    system.run(Quick.main, flow_id="quick")

    assert [f.stream for f in system.flows()] == ["quick"]
    with pytest.raises(FlowNotFound):
        system.flow("ada")
    handle = system.flow("quick")
    handle.id = "ada"
    for refused in (lambda: handle.signal("n", 1), lambda: handle.result(1), handle.pause):
        with pytest.raises(FlowNotFound):
            refused()
    with pytest.raises(Exception, match="already exists"):
        system.start(Quick.main, flow_id="ada")
    with pytest.raises(ValueError, match="is a flow"):
        system.actor(Account, "quick")
    with pytest.raises(ValueError, match="has a Account, not a Untyped"):
        system.actor(Untyped, "ada")
    with pytest.raises(ValueError, match="is a 'account', not a 'actor'"):
        system._user_actors._check_kind(Untyped, "ada")
    assert system.actor(Account, "ada").ask("balance") == 1


def test_a_closed_system_gives_no_actors(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system()
    account = system.actor(Account, "ada")
    system.close()

    with pytest.raises(ActorDeadError):
        account.ask(1)
    with pytest.raises(SystemClosed):
        system.actor(Account, "ada")


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
