"""Event-sourced actors of one's own: what is answered is durable, and what fails was not recorded."""

from __future__ import annotations

import asyncio
import logging
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import (
    ActorDefinitionError,
    ActorFailed,
    ActorStateError,
    ActorTypeMismatch,
    EventSourcedActor,
    Flow,
    FlowNotFound,
    FlowSystem,
    Limits,
    PayloadError,
    PayloadLimits,
    Ref,
    Refused,
    StaleWriterError,
    StoreUnavailable,
    SystemClosed,
    command,
    flow,
    query,
    step,
)
from persistasaurus.actors.runtime.actor import EscapedError
from persistasaurus.flows.entities.actor import definition_of
from persistasaurus.store import (
    Append,
    CommitUnknown,
    HeaderChange,
    NewRecord,
    StoreFull,
    StoreHalted,
    StreamState,
)
from system.doubles import DEAD_MAN_S, FaultyStore, Gate, memory_store, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Deposited(msgspec.Struct, tag="deposited"):
    amount: int


class Closed(msgspec.Struct, tag="closed"):
    pass


class AccountState(msgspec.Struct):
    balance: int = 0
    is_closed: bool = False


class Account(EventSourcedActor[AccountState, Deposited | Closed], name="account"):
    def apply(self, state: AccountState, event: Deposited | Closed) -> None:
        if isinstance(event, Closed):
            state.is_closed = True
        elif event.amount == 13:
            state.balance //= 0
        else:
            state.balance += event.amount

    @command
    def deposit(self, amount: int) -> int:
        if amount <= 0:
            raise Refused("a deposit is more than nothing")
        self.record(Deposited(amount))
        return self.state.balance

    @command
    def close(self) -> int:
        self.record(Closed())
        self.record(Deposited(-self.balance()))
        return self.state.balance

    @command
    def withdraw(self, amount: int) -> int:
        self.record(Deposited(-amount))
        if self.state.balance < 0:
            raise Refused(f"it would be {self.state.balance}")
        return self.state.balance

    @command
    def fail(self, amount: int) -> None:
        self.record(Deposited(amount))
        raise SystemExit(3) if amount == 3 else ValueError("not today")

    @command
    def wait(self) -> int:
        Held.gate()
        return self.state.balance

    @query
    def balance(self) -> int:
        return self.state.balance

    @query
    def peek(self) -> AccountState:
        self.state.balance += 0
        return self.state

    @query
    def spoil(self) -> None:
        self.state.balance += 1


class Savings(Account, name="savings"):
    @command
    def deposit(self, amount: int) -> int:
        return super().deposit(2 * amount)


class Vault(EventSourcedActor[AccountState, Deposited], name="vault"):
    def apply(self, state: AccountState, event: Deposited) -> None:
        state.balance += event.amount

    @command
    def deposit(self, amount: int) -> None:
        self.record(Deposited(amount))


class Transfer(Flow):
    @flow
    async def main(self) -> int:
        return await self.pay()

    @step
    def pay(self) -> int:
        return accounts[0].ask(Account.deposit, 5)


class Held:
    """What holds the command `wait` up."""

    gate = Gate()


accounts: list[Ref[Account]] = []


@pytest.fixture(autouse=True)
def _anew(caplog: pytest.LogCaptureFixture) -> None:
    Held.gate = Gate()
    accounts.clear()
    caplog.set_level(logging.INFO, "persistasaurus")


@pytest.fixture
def make(make_system: Callable[..., FlowSystem]) -> Callable[..., FlowSystem]:
    return lambda *flows, **options: make_system(*flows, actors=[Account, Savings, Vault], **options)


def asks(ref: Ref[Any], *calls: tuple[Any, ...]) -> list[Any]:
    """Send all of them before any is answered; return replies, or errors."""
    replies = [ref._sent(call, args, {}) for call, *args in calls]
    return [_outcome(reply) for reply in replies]


def _outcome(reply: Any) -> Any:
    try:
        return reply.get(timeout=DEAD_MAN_S)
    except Exception as error:  # noqa: BLE001 - it is looked at
        return error


# ------------------------------------------------------------------------------------------- durable
def test_what_was_answered_is_durable_and_recovered(make: Callable[..., FlowSystem], path: Path) -> None:
    system = make(path=path)
    ada = system.actor(Account, "ada")
    assert ada.ask(Account.deposit, 10) == 10
    assert ada.ask(Account.deposit(amount=5), timeout=DEAD_MAN_S) == 15
    assert ada.ask(Account.balance()) == ada.ask(Account.balance, timeout=DEAD_MAN_S) == 15
    assert ada.ask(Account.close) == 0
    assert [r.kind for r in system.store.read("ada")] == ["deposited", "deposited", "closed", "deposited"]
    system.close()

    ada = make(path=path).actor(Account, "ada")
    assert ada.ask(Account.peek) == AccountState(0, is_closed=True)
    assert ada.ask(Account.deposit, 1) == 1


def test_asks_in_flight_are_answered_in_order_and_share_commits(make: Callable[..., FlowSystem]) -> None:
    store = FaultyStore(memory_store())
    system = make(store=store)
    ada = system.actor(Account, "ada")
    before = store.commits

    Held.gate.open()
    asked = asks(ada, (Account.wait,), *[(Account.deposit, 1), (Account.balance,)] * 100)

    assert asked == [0, *(n for number in range(1, 101) for n in (number, number))]
    assert store.commits - before < 50
    assert ada.ask(Account.balance) == 100


def test_neither_a_reply_nor_an_answer_nor_a_refusal_leaves_before_its_commit(
    make: Callable[..., FlowSystem],
) -> None:
    arrived, release = Event(), Event()

    def slow(_: int, store: FaultyStore) -> None:
        store.fail = None
        arrived.set()
        assert release.wait(DEAD_MAN_S)

    store = FaultyStore(memory_store())
    ada = make(store=store, workers=2).actor(Account, "ada")
    assert ada.ask(Account.balance) == 0
    store.fail = slow
    calls = [
        (Account.deposit, (1,)),
        (Account.balance, ()),
        (Account.withdraw, (9,)),
        (Account.deposit, (1,)),
    ]
    replies = [ada._sent(call, args, {}) for call, args in calls]
    assert arrived.wait(DEAD_MAN_S)
    later = ada._sent(Account.balance, (), {})
    wait_until(lambda: not ada._directory._live["ada"].actor_inbox.has_mail())

    assert not any(reply.is_done for reply in (*replies, later))
    release.set()
    found = [_outcome(reply) for reply in (*replies, later)]
    assert [found[0], found[1], str(found[2]), found[3], found[4]] == [1, 1, "it would be -8", 2, 2]


# -------------------------------------------------------------------------------------------- failing
def test_what_a_handler_raises_goes_to_the_asker_and_leaves_the_state_as_it_was(
    make: Callable[..., FlowSystem],
) -> None:
    system = make()
    ada = system.actor(Account, "ada")
    first = ada.ask(Account.deposit, 7)
    found = asks(
        ada,
        (Account.deposit, 0),
        (Account.withdraw, 8),
        (Account.fail, 1),
        (Account.fail, 3),
        (Account.deposit, 13),
        (Account.deposit, 1),
        (Account.balance,),
    )

    assert first == 7
    assert [type(error) for error in found[:5]] == [
        Refused,
        Refused,
        ValueError,
        EscapedError,
        ZeroDivisionError,
    ]
    assert [str(found[1]), str(found[3])] == ["it would be -1", "command 'Account.fail' raised SystemExit: 3"]
    assert found[5:] == [8, 8]
    assert [record.data for record in system.store.read("ada")] == [
        b'{"type":"deposited","amount":7}',
        b'{"type":"deposited","amount":1}',
    ]


def test_what_is_told_is_handled_and_its_failure_logged(
    make: Callable[..., FlowSystem], caplog: pytest.LogCaptureFixture
) -> None:
    ada = make().actor(Account, "ada")
    ada.tell(Account.deposit, 5)
    ada.tell(Account.deposit(amount=1))
    ada.tell(Account.deposit, -5)
    ada.tell(Account.fail, 1)

    assert ada.ask(Account.balance) == 6
    assert "Actor account 'ada' has refused deposit: a deposit is more than nothing" in caplog.text
    assert "Actor account 'ada' failed in fail" in caplog.text
    assert "ValueError: not today" in caplog.text


@pytest.mark.parametrize("is_unknown", [False, True])
def test_a_failed_commit_fails_all_who_depend_on_it_and_the_actor_goes_on_from_its_log(
    make: Callable[..., FlowSystem], caplog: pytest.LogCaptureFixture, *, is_unknown: bool
) -> None:
    store = FaultyStore(memory_store())
    system = make(store=store)
    ada = system.actor(Account, "ada")
    assert ada.ask(Account.deposit, 1) == 1

    def fail(_: int, store: FaultyStore) -> None:
        store.fail = None
        if is_unknown:
            raise CommitUnknown("injected")
        error = store.inner._halted = StoreFull("the disk is full, injected")
        raise error

    store.fail = fail
    ada.tell(Account.deposit, 100)
    found = asks(ada, (Account.deposit, 2), (Account.balance,), (Account.deposit, 3))

    assert [type(error) for error in found] == [StoreUnavailable] * 3
    assert "Dead letter for Actor account 'ada': deposit was lost: " in caplog.text
    wait_until(lambda: system.statistics().is_writable)
    assert ada.ask(Account.balance) == 1
    assert ada.ask(Account.deposit, 4) == 5


def test_while_the_store_is_halted_nothing_is_recovered_from_it(
    make: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = make(store=FaultyStore(memory_store()))
    system._is_writable = False
    with pytest.raises(StoreUnavailable, match="'ada' cannot be recovered: the store is halted"):
        system.actor(Account, "ada").ask(Account.balance)
    system._is_writable = True

    def halted(_: str) -> Any:
        raise StoreHalted("not now, injected")

    with monkeypatch.context() as patch:
        patch.setattr(system.store, "header", halted, raising=False)
        with pytest.raises(StoreUnavailable, match="'ada' cannot be looked up: not now"):
            system.actor(Account, "ada").ask(Account.balance)
    assert system.actor(Account, "ada").ask(Account.balance) == 0


def test_an_actor_whose_stream_somebody_else_has_written_to_goes_on_from_its_log(
    make: Callable[..., FlowSystem],
) -> None:
    store = FaultyStore(memory_store())
    ada = make(store=store).actor(Account, "ada")
    assert ada.ask(Account.deposit, 1) == 1
    store.inner.commit([Append("ada", 1, (NewRecord(1, "deposited", b'{"type":"deposited","amount":5}'),))])

    with pytest.raises(StaleWriterError):
        ada.ask(Account.deposit, 2)
    assert ada.ask(Account.deposit, 2) == 8


def test_an_actor_that_cannot_be_recovered_says_at_which_event_and_is_tried_again(
    make: Callable[..., FlowSystem], caplog: pytest.LogCaptureFixture
) -> None:
    store = FaultyStore(memory_store())
    system = make(store=store)
    ada = system.actor(Account, "ada")
    ada.ask(Account.deposit, 1)
    store.inner.commit([Append("ada", 1, (NewRecord(1, "deposited", b'{"type":"deposited","amount":13}'),))])
    system.entities._live["ada"]._recover()
    ada.tell(Account.deposit, 4)
    said = r"'ada' cannot be recovered from its events: ZeroDivisionError: .*while event 2, 'deposited', was"
    for _ in range(2):
        with pytest.raises(ActorFailed, match=said):
            ada.ask(Account.balance)
    wait_until(lambda: system.entities.live == 0)
    assert "Dead letter for Actor account 'ada': deposit was lost" in caplog.text

    store.inner.commit([Append("bob", 0, (NewRecord(1, "gone", b'{"type":"gone"}'),), *_header("account"))])
    with pytest.raises(PayloadError, match=r"an event of Account: the value at \$.type"):
        system.actor(Account, "bob").ask(Account.balance)


def _header(stream_type: str) -> tuple[Any, str]:
    return HeaderChange("actor", StreamState.OPEN, None), stream_type


def test_an_actor_of_which_the_engine_has_crashed_answers_all_and_the_next_message_starts_it(
    make: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    system = make()
    ada = system.actor(Account, "ada")
    waits = ada._sent(Account.wait, (), {})
    Held.gate.wait()
    deposits = [ada._sent(Account.deposit, (n,), {}) for n in (1, 2)]
    ada.tell(Account.deposit, 3)

    def crash(*_: Any) -> None:
        raise AssertionError("injected")

    monkeypatch.setattr(type(system.entities._live["ada"]), "_append", crash)
    Held.gate.open()
    assert _outcome(waits) == 0
    assert [type(_outcome(reply)) for reply in deposits] == [ActorFailed] * 2
    monkeypatch.undo()

    assert ada.ask(Account.balance) in {0, 3}
    assert "injected" in caplog.text


def test_a_message_that_its_crashed_actor_never_came_to_is_answered_or_a_dead_letter(
    make: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    system = make()
    ada = system.actor(Account, "ada")
    waits = ada._sent(Account.wait, (), {})
    Held.gate.wait()
    asked = ada._sent(Account.deposit, (1,), {})
    ada.tell(Account.deposit, 3)

    def crash(*_: Any) -> None:
        raise AssertionError("injected")

    monkeypatch.setattr(type(system.entities._live["ada"]), "_answer", crash)
    Held.gate.open()
    assert isinstance(_outcome(asked), ActorFailed)
    wait_until(
        lambda: "Dead letter: command 'Account.deposit' was lost: its actor has crashed" in caplog.text
    )
    monkeypatch.undo()
    assert ada.ask(Account.balance) == 0
    del waits


# --------------------------------------------------------------------------------------------- values
def test_arguments_and_replies_are_values(make: Callable[..., FlowSystem]) -> None:
    small = make(limits=Limits(payload=PayloadLimits(size=40)))
    ada = small.actor(Account, "ada")
    state = ada.ask(Account.peek)
    state.balance = 99

    assert ada.ask(Account.balance) == 0
    with pytest.raises(PayloadError, match=r"command 'Account.deposit': the value at \$.amount"):
        ada.ask(Account.deposit, "1")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"command 'Account.deposit': .*missing|Missing"):
        ada.ask(Account.deposit)  # type: ignore[call-overload]
    with pytest.raises(PayloadError, match="exceed the limit of 40"):
        ada.ask(Account.deposit, 10**50)
    with pytest.raises(PayloadError, match="exceed the limit of 40"):
        ada.ask(Account.deposit(10**50))


def test_in_debug_mode_a_change_without_an_event_costs_the_handler_that_has_made_it(
    make: Callable[..., FlowSystem],
) -> None:
    ada = make(debug=True).actor(Account, "ada")
    assert ada.ask(Account.deposit, 2) == 2

    with pytest.raises(
        ActorStateError, match=r"query 'Account.spoil' changed state.balance outside of apply"
    ):
        ada.ask(Account.spoil)
    assert ada.ask(Account.deposit, 1) == 3


def test_a_subclass_takes_the_commands_of_its_base_and_runs_its_own(make: Callable[..., FlowSystem]) -> None:
    sue = make().actor(Savings, "sue")

    assert sue.ask(Account.deposit, 1) == 2
    assert sue.ask(Savings.deposit, 1) == sue.ask(Account.balance) == 4


# --------------------------------------------------------------------------------------------- misuse
def test_what_is_no_call_of_this_actor_is_refused(make: Callable[..., FlowSystem]) -> None:
    ada: Any = make().actor(Account, "ada")

    refused: list[tuple[Callable[[], Any], str]] = [
        (lambda: ada.ask(Vault.deposit, 1), "'Vault.deposit'> is not of Account, which takes balance, close"),
        (lambda: ada.ask(Vault.deposit(1)), "is not of Account"),
        (lambda: ada.ask("deposit", 1), "'deposit' is neither a command nor a query"),
        (lambda: ada.ask(Account.deposit(1), 2), "has its arguments already"),
        (lambda: ada.tell(Account.balance), "a query is of no use without its answer"),
        (lambda: ada.ask(Account.deposit, 1, timeout="2"), "give seconds, or None"),
        (ada.proxy, "has no proxy, which would read and change its state"),
    ]
    for call, said in refused:
        with pytest.raises(TypeError, match=said):
            call()
    with pytest.raises(AttributeError, match=r"write ref.ask\(Account.deposit, ...\)"):
        ada.deposit(3)
    with pytest.raises(AttributeError, match="has no 'balnce'"):
        _ = ada.balnce
    assert ada.ask(Account.balance) == 0


def test_a_reference_is_a_class_and_an_id(make: Callable[..., FlowSystem]) -> None:
    system = make()
    ada = system.actor(Account, "ada")

    assert {ada, system.actor(Account, "ada")} == {ada}
    assert ada not in (
        system.actor(Account, "bob"),
        system.actor(Savings, "ada"),
        make().actor(Account, "ada"),
        3,
    )
    assert (ada.id, repr(ada)) == ("ada", "<Ref account 'ada'>")
    assert (
        repr(Account.deposit(1)) == "<call of <command 'Account.deposit'>; send it to an actor: ref.ask(...)>"
    )
    for wrong in ("", 3, "a\nb"):
        with pytest.raises(ValueError, match="not a valid actor id"):
            system.actor(Account, wrong)  # type: ignore[arg-type]


def test_only_registered_classes_have_actors(make_system: Callable[..., FlowSystem]) -> None:
    with pytest.raises(
        ActorDefinitionError, match=r"Vault is not registered: FlowSystem\(..., actors=\[Vault\]\)"
    ):
        make_system(actors=[Account]).actor(Vault, "v")
    with pytest.raises(
        ActorDefinitionError, match=r"actors=Account is not a list of classes: write actors=\[Acc"
    ):
        FlowSystem(actors=Account)  # type: ignore[arg-type]
    with pytest.raises(ActorDefinitionError, match="not a class that derives from EventSourcedActor"):
        FlowSystem(actors=[Transfer])  # type: ignore[list-item]


def test_an_actor_is_no_flow_nor_of_another_class(make: Callable[..., FlowSystem], path: Path) -> None:
    system = make(Transfer, path=path)
    accounts.append(system.actor(Account, "ada"))
    assert system.run(Transfer.main, flow_id="transfer") == 5

    assert [f.stream for f in system.flows()] == ["transfer"]
    with pytest.raises(FlowNotFound):
        system.flow("ada")
    with pytest.raises(
        ActorTypeMismatch, match="'transfer' cannot be opened as the actor 'account': it is a flow"
    ):
        system.actor(Account, "transfer").ask(Account.balance)
    with pytest.raises(
        ActorTypeMismatch, match="'ada' cannot be opened as the actor 'vault': it is an actor 'account'"
    ):
        system.actor(Vault, "ada").tell(Vault.deposit, 1)
    system.close()
    system = make(path=path)
    with pytest.raises(ActorTypeMismatch, match="as the actor 'savings': it is an actor 'account'"):
        system.actor(Savings, "ada").ask(Account.balance)
    assert system.actor(Account, "ada").ask(Account.balance) == 5


def test_an_actor_that_was_new_to_two_classes_belongs_to_the_one_that_records_first(
    make: Callable[..., FlowSystem],
) -> None:
    store = FaultyStore(memory_store())
    ada = make(store=store).actor(Account, "ada")
    assert ada.ask(Account.balance) == 0
    store.inner.commit([Append("ada", 0, (NewRecord(1, "x", b"{}"),), *_header("vault"))])

    with pytest.raises(StaleWriterError):
        ada.ask(Account.deposit, 1)
    with pytest.raises(ActorTypeMismatch, match="it is an actor 'vault'"):
        ada.ask(Account.balance)


# ------------------------------------------------------------------------------------------- awaiting
def test_asks_can_be_awaited_many_at_a_time(make: Callable[..., FlowSystem]) -> None:
    system = make()

    async def main() -> list[int]:
        ada = system.actor(Account, "ada")
        replies = await asyncio.gather(*[ada.ask_async(Account.deposit, 1) for _ in range(200)])
        with pytest.raises(Refused):
            await ada.ask_async(Account.deposit(0), timeout=DEAD_MAN_S)
        with pytest.raises(TimeoutError, match=r"<Ref account 'ada'> has not replied within 0.01 s"):
            await ada.ask_async(Account.wait, timeout=0.01)
        Held.gate.open()
        assert await ada.ask_async(Account.balance) == 200
        return replies

    assert asyncio.run(main()) == list(range(1, 201))


def test_an_ask_that_comes_too_late_says_so(make: Callable[..., FlowSystem]) -> None:
    ada = make().actor(Account, "ada")
    with pytest.raises(TimeoutError, match=r"<Ref account 'ada'> has not replied within 0.01 s"):
        ada.ask(Account.wait, timeout=0.01)
    Held.gate.open()
    assert ada.ask(Account.balance) == 0


# -------------------------------------------------------------------------------------------- closing
def test_an_orderly_close_answers_everything_that_was_accepted(
    make: Callable[..., FlowSystem], path: Path
) -> None:
    system = make(path=path)
    refs = [system.actor(Account, name) for name in ("ada", "bob")]
    replies = [ref._sent(Account.deposit, (1,), {}) for ref in refs for _ in range(100)]
    system.close()

    assert [_outcome(reply) for reply in replies] == [*range(1, 101), *range(1, 101)]
    for ref in refs:
        with pytest.raises(SystemClosed):
            ref.ask(Account.balance)
    system = make(path=path)
    assert [system.actor(Account, ref.id).ask(Account.balance) for ref in refs] == [100, 100]


def test_a_close_that_has_no_time_left_says_that_the_outcome_is_unknown(
    make: Callable[..., FlowSystem], caplog: pytest.LogCaptureFixture
) -> None:
    system = make()
    ada = system.actor(Account, "ada")
    waits = ada._sent(Account.wait, (), {})
    Held.gate.wait()
    later = ada._sent(Account.deposit, (1,), {})
    closing = Thread(target=system.close, kwargs={"timeout": 0.1})
    closing.start()
    wait_until(lambda: "not all actors answered in time" in caplog.text)
    with pytest.raises(SystemClosed):
        system.entities.send(definition_of(Account), "ada", later)  # type: ignore[arg-type]
    closing.join(DEAD_MAN_S)
    Held.gate.open()

    assert isinstance(_outcome(later), (ActorFailed, StoreUnavailable))
    assert _outcome(waits) == 0
