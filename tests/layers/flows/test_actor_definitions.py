"""Classes of event-sourced actors: what cannot work is refused when it is defined, and says what to write."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from types import resolve_bases
from typing import Any, Generic, TypeVar

import msgspec
import pytest
from persistasaurus import ActorDefinitionError, EventSourcedActor, FlowDefinitionError, command, query
from persistasaurus.flows.entities.actor import definition_of
from persistasaurus.flows.entities.actor_types import ActorTypes

S = TypeVar("S")
numbers = count()


class Deposited(msgspec.Struct, tag="deposited"):
    amount: int


class Withdrawn(msgspec.Struct, tag="withdrawn"):
    amount: int


class State(msgspec.Struct):
    balance: int = 0


class Account(EventSourcedActor[State, Deposited | Withdrawn], name="account"):
    def apply(self, state: State, event: Deposited | Withdrawn) -> None:
        state.balance += event.amount

    @command
    def deposit(self, amount: int) -> int:
        self.record(Deposited(amount))
        return self.state.balance

    @query
    def balance(self) -> int:
        return self.state.balance


class Savings(Account, name="savings"):
    passivate_after = None
    MOST = 5

    @command
    def deposit(self, amount: int, note: str = "") -> int:
        return 0


def applied(self: Any, state: Any, event: Any) -> None: ...


def defined(name: Any = "it", /, *, of: Any = None, bases: Any = None, **members: Any) -> Any:
    """Define a class of actors, and prepare it as a system does."""
    base = bases or (EventSourcedActor[of or (State, Deposited)],)
    options = {} if name is None else {"name": name}
    made = {"apply": applied, "__orig_bases__": base, "__module__": __name__} | members
    kind: Any = type("It", resolve_bases(base), made, **options)
    definition_of(kind).prepare()
    return kind


class Untagged(msgspec.Struct):
    n: int


class Numbered(msgspec.Struct, tag=1):
    n: int


class Twice(msgspec.Struct, tag="deposited"):
    n: int


class WithLock(msgspec.Struct, tag="lock"):
    lock: complex


class Needs(msgspec.Struct):
    n: int


class Frozen(msgspec.Struct, frozen=True):
    n: int = 0


@dataclass(frozen=True)
class FrozenToo:
    n: int = 0


class Unstorable(msgspec.Struct):
    n: complex = 0j


class Misfit(msgspec.Struct):
    n: int = "none"  # type: ignore[assignment]


@dataclass
class Moody:
    n: int = field(default_factory=lambda: next(numbers))


@command
def renamed(self: Any) -> None: ...


@command
def deposit(self: Any, amount: int) -> int:
    return amount


@command
def with_timeout(self: Any, timeout: int) -> None: ...


@query
def with_id(self: Any, id: str) -> None: ...  # noqa: A002 - as a user may write


@command
def with_key(self: Any, *, key: str) -> None: ...


@command
def with_lock(self: Any, lock: complex) -> None: ...


@command
def state(self: Any) -> None: ...


@query
def unstorable(self: Any) -> complex:
    return 0j


async def applied_later(self: Any, state: Any, event: Any) -> None: ...


def applied_to_less(self: Any, event: Any) -> None: ...


REFUSED: dict[str, tuple[Any, str]] = {
    "no name": (lambda: defined(None), r"needs a name.*even if the class is renamed.*name=\"account\""),
    "a name that is none": (lambda: defined(""), "not a valid name for a class of actors"),
    "a setting beside the name": (
        lambda: type("It", (Account,), {}, name="it", mailbox=3),
        "takes no mailbox=: write mailbox = 3 in the class",
    ),
    "an option that is none": (
        lambda: type("It", (Account,), {}, nam="it"),
        "takes no nam=: such as in class",
    ),
    "a misspelt setting": (
        lambda: defined(passivate_afer=timedelta(1)),
        "no setting 'passivate_afer'; did you mean 'passivate_after'",
    ),
    "a mailbox for nothing": (lambda: defined(mailbox=0), r"mailbox=0\): give 1 or more"),
    "a time without a unit": (lambda: defined(passivate_after=3), "give a timedelta"),
    "no time at all": (lambda: defined(passivate_after=timedelta(0)), "give more than nothing, or None"),
    "neither state nor events": (
        lambda: defined(bases=(EventSourcedActor,)),
        "must say its state and its events",
    ),
    "a state to come": (lambda: defined(of=(S, Deposited)), "must name classes that are defined before"),
    "a state with values to come": (
        lambda: defined(of=(Needs, Deposited)),
        "each of its fields needs a default.*n",
    ),
    "a frozen state": (lambda: defined(of=(Frozen, Deposited)), "is frozen: apply\\(\\) could not change it"),
    "a frozen dataclass": (lambda: defined(of=(FrozenToo, Deposited)), "FrozenToo, is frozen"),
    "a dict for a state": (lambda: defined(of=(dict, Deposited)), "must be a msgspec.Struct or a dataclass"),
    "a state that cannot be stored": (
        lambda: defined(of=(Unstorable, Deposited)),
        "Unstorable.n: complex cannot",
    ),
    "a state that is not as annotated": (
        lambda: defined(of=(Misfit, Deposited)),
        r"value at \$\.n is not what",
    ),
    "a state that begins as it likes": (
        lambda: defined(of=(Moody, Deposited)),
        "begins in another way each time",
    ),
    "an event without a tag": (
        lambda: defined(of=(State, Untagged)),
        'Untagged of It has no tag.*tag="untagged"',
    ),
    "a number for a tag": (lambda: defined(of=(State, Numbered)), "Numbered of It has no tag"),
    "a tag for two": (
        lambda: defined(of=(State, Deposited | Twice)),
        "Deposited and Twice of It have the same tag",
    ),
    "an event that is no struct": (lambda: defined(of=(State, Deposited | int)), "int cannot be an event"),
    "an event that cannot be stored": (
        lambda: defined(of=(State, WithLock)),
        "WithLock.lock: complex cannot",
    ),
    "no apply": (
        lambda: defined(apply=EventSourcedActor.apply),
        r"has no apply\(\).*def apply\(self, state, event\)",
    ),
    "an apply that waits": (lambda: defined(apply=applied_later), r"apply at test_.*without `async`"),
    "an apply without a state": (lambda: defined(apply=applied_to_less), "must take the state and an event"),
    "an apply without an actor": (lambda: defined(apply=staticmethod(applied)), "must be a plain method"),
    "an __init__": (
        lambda: defined(__init__=lambda self: None),
        r"has __init__\(\): an actor begins with its state",
    ),
    "a command by another name": (lambda: defined(other=renamed), "is called 'other' in the class"),
    "a parameter like an option": (
        lambda: defined(with_timeout=with_timeout),
        "a parameter 'timeout', which is an",
    ),
    "a parameter of a query": (lambda: defined(with_id=with_id), "'id', which is an option"),
    "a parameter by keyword": (lambda: defined(with_key=with_key), "'key', which is an option"),
    "a parameter that cannot be stored": (
        lambda: defined(with_lock=with_lock),
        "parameter 'lock': complex cannot",
    ),
    "a reply that cannot be stored": (
        lambda: defined(unstorable=unstorable),
        "its result: complex cannot be",
    ),
    "a command in the place of the state": (lambda: defined(state=state), "'state' means something else"),
    "a plain method over a command": (
        lambda: defined(bases=(Account,), deposit=lambda self: 1),
        "overrides <command 'Account.deposit'>, and is none itself: put @command over it",
    ),
    "a constant over a query": (
        lambda: defined(bases=(Account,), balance=1),
        "balance at test_.*put @query over it",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused_with_class_line_and_remedy(what: str) -> None:
    define, said = REFUSED[what]

    with pytest.raises(ActorDefinitionError, match=said) as raised:
        define()

    assert str(raised.value).startswith("class It at test_actor_definitions.py:")


def test_a_query_may_not_take_the_place_of_a_command() -> None:
    @query
    def deposit(self: Any) -> int:
        return 1

    with pytest.raises(
        ActorDefinitionError, match=r"overrides <command 'Account.deposit'>: keep it what it was"
    ):
        defined(bases=(Account,), deposit=deposit)


def test_a_command_that_could_not_be_handled_in_one_go_is_refused_where_it_is_written() -> None:
    with pytest.raises(
        ActorDefinitionError, match=r"'<locals>.wait' at test_.*is `async def`.*leave what has to wait"
    ):

        @command
        async def wait(self: Any) -> None: ...

    with pytest.raises(ActorDefinitionError, match="is a generator: a command returns one value"):

        @command
        def some(self: Any) -> Any:
            yield 1

    with pytest.raises(ActorDefinitionError, match=r"a method of an actor's class, def alone\(self"):

        @command
        def alone(amount: int) -> None: ...

    with pytest.raises(ActorDefinitionError, match="@command stands over a function"):
        command(3)  # type: ignore[arg-type]
    with pytest.raises(FlowDefinitionError, match="a query is a plain method"):

        @query
        async def ask(self: Any) -> None: ...


def test_a_dataclass_is_a_state_and_a_single_struct_an_event_and_constants_are_fine() -> None:
    @dataclass
    class Kept:
        names: list[str] = field(default_factory=list)

    kind = defined(of=(Kept, Deposited), LIMIT=3, help=lambda self: 1)

    assert definition_of(kind).state.new() == Kept([])
    assert definition_of(kind).events.tags == ("deposited",)


def test_settings_are_inherited_and_say_how_long_and_how_many() -> None:
    assert definition_of(Account).passivate_after_s == 300.0
    assert definition_of(Savings).passivate_after_s is None
    assert definition_of(Savings).mailbox == 10_000


def test_a_class_takes_the_commands_of_its_base_and_runs_its_own() -> None:
    mine, base = definition_of(Savings), definition_of(Account)

    assert mine.handler(vars(Account)["deposit"]) is mine.handler(vars(Savings)["deposit"])
    assert mine.handler(vars(Account)["deposit"]).function is vars(Savings)["deposit"].function
    assert not mine.handler(vars(Account)["balance"]).is_command
    with pytest.raises(
        TypeError, match=r"'Savings.deposit'> is not of Account, which takes balance, deposit"
    ):
        base.handler(vars(Savings)["deposit"])
    with pytest.raises(TypeError, match="is not of It, which takes nothing"):
        definition_of(defined()).handler(vars(Savings)["deposit"])


def test_two_classes_cannot_share_a_name_and_one_may_be_given_twice() -> None:
    other = defined("account")
    definitions = [definition_of(Account), definition_of(Account)]
    types = ActorTypes(definitions)
    types.check(definition_of(Account))

    with pytest.raises(ActorDefinitionError, match=r"named 'account': Account at test_.*, and It at test_"):
        ActorTypes([*definitions, definition_of(other)])
    with pytest.raises(
        ActorDefinitionError, match=r"Savings is not registered: FlowSystem\(..., actors=\[Savings\]"
    ):
        types.check(definition_of(Savings))
    with pytest.raises(ActorDefinitionError, match="is not the class that this system was opened with"):
        types.check(definition_of(other))


def test_a_generic_base_class_is_told_to_name_its_types() -> None:
    with pytest.raises(ActorDefinitionError, match="must name classes"):

        class Anything(EventSourcedActor[S, Deposited], Generic[S], name="any"): ...


@pytest.mark.parametrize("given", [int, 3, "account", EventSourcedActor])
def test_what_is_no_class_of_actors_is_refused(given: Any) -> None:
    with pytest.raises(ActorDefinitionError, match="is not a class that derives from EventSourcedActor"):
        definition_of(given)


def test_the_base_class_says_nothing_of_what_events_make_of_a_state() -> None:
    with pytest.raises(NotImplementedError):
        EventSourcedActor.apply(None, State(), Deposited(1))  # type: ignore[arg-type]
