# A program that uses the public API. Not meant to be run: mypy and pyright read it, and must find an
# error in each line marked `# error:`, and nothing in any other.

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import msgspec
from persistasaurus import (
    Done,
    EventSourcedActor,
    Flow,
    FlowHandle,
    FlowSystem,
    Receipt,
    Ref,
    Refused,
    Retry,
    SignalTo,
    command,
    current_flow,
    current_step,
    flow,
    gather,
    now,
    query,
    signal,
    sleep,
    sleep_until,
    step,
    uuid4,
    wait_for,
)
from persistasaurus.actors.testing import ActorTestKit, FlowTestKit, SimulatedHandle, StepDouble, World


# ------------------------------------------------------------------------------- steps of a module
@step
def charge(account: str, cents: int) -> int:
    return cents


@step(retry=Retry(max_attempts=5), timeout=timedelta(seconds=3))
async def quote(cents: int) -> float:
    return cents / 100


@step(isolated=True, on_crash="park", name="render-1")
def render(page: str) -> bytes:
    return page.encode()


def happened(account: str, cents: int) -> Done | None:
    return Done(cents) if account else None


@step(reconcile=happened)
def refund(account: str, cents: int) -> int:
    return -cents


@step(delay=10)  # error: a delay is a timedelta
def too_vague() -> None: ...


@step(dealy=timedelta(seconds=1))  # error: no such option
def misspelt() -> None: ...


@step(on_crash="ignore")  # error: retry or park
def careless() -> None: ...


# ------------------------------------------------------------------------------------------- flows
class SignupFlow(Flow):
    def __init__(self) -> None:
        self.mails: list[str] = []

    @flow
    async def sign_up(self, user_name: str, email: str) -> int:
        user_id = await self.create_user_record(user_name, email)
        assert_type(user_id, int)
        await self.send_welcome_email(user_id, email=email)
        assert_type(await self.fetch(user_id), str)
        confirmed_at = await self.confirm_email_address()
        assert_type(confirmed_at, datetime)
        assert_type(await self.approve(), bool)

        await self.create_user_record(1, email)  # error: wrong argument to a method's step
        await self.create_user_record(user_name)  # error: missing argument
        await self.create_user_record(user_name, mail=email)  # error: unknown keyword
        await self.create_user_record(user_name, email, 3)  # error: too many arguments
        await self.send_welcome_email("ada", email)  # error: wrong argument to a step with options
        await self.fetch("ada")  # error: wrong argument to an async step
        wrong: str = await self.create_user_record(user_name, email)  # error: wrong result of a step
        wrong_too: int = await self.fetch(user_id)  # error: wrong result of an async step
        at: str = await self.confirm_email_address()  # error: wrong result of a signal
        await self.confirm_email_address(now())  # error: a flow awaits a signal without arguments
        await self.no_such_step()  # error: no such step
        print(wrong, wrong_too, at)
        return user_id

    @flow(name="sign-up-2")
    async def sign_up_again(self, user_name: str, email: str = "") -> str:
        assert_type(self.sent(1), list[str])
        return "no" + await self.create_user_record(user_name, email)  # error: wrong result of a step

    @step
    def create_user_record(self, user_name: str, email: str) -> int:
        return len(user_name + email)

    @step(delay=timedelta(seconds=10), retry=Retry(max_attempts=5))
    def send_welcome_email(self, user_id: int, email: str) -> None:
        print(current_step().idempotency_key, user_id, email)

    @step
    async def fetch(self, user_id: int) -> str:
        return str(user_id)

    @signal
    def confirm_email_address(self, confirmed_at: datetime) -> datetime:
        return confirmed_at

    @signal(name="approval")
    async def approve(self, by: str, *, granted: bool = True) -> bool:
        return granted and bool(by)

    @query
    def sent(self, last: int) -> list[str]:
        return self.mails[-last:]


# ----------------------------------------------------------------------------------------- overrides
class SpecialSignup(SignupFlow):
    @flow(name="special")
    async def sign_up_specially(self, user_name: str, email: str) -> int:
        assert_type(await self.create_user_record(user_name, email), int)
        assert_type(await self.confirm_email_address(), datetime)
        assert_type(self.sent(2), list[str])
        await self.create_user_record(1, email)  # error: wrong argument to an overridden step
        return 0

    @step
    def create_user_record(self, user_name: str, email: str) -> int:
        return 0

    @step(retry=Retry(max_attempts=9))
    def send_welcome_email(self, user_id: int, email: str) -> None: ...

    @step
    def fetch(self, user_id: int) -> str:
        return ""

    @signal
    async def confirm_email_address(self, confirmed_at: datetime) -> datetime:
        return confirmed_at

    @signal(name="approval")
    def approve(self, by: str, *, granted: bool = True) -> bool:
        return not granted

    @query
    def sent(self, last: int) -> list[str]:
        return []


class WiderSignup(SpecialSignup):
    @flow
    async def sign_up(self, user_name: str, email: str, age: int = 0) -> bool:
        return bool(age)

    @flow(name="wider")
    async def sign_up_again(self, user_name: str, email: str = "", *, fast: bool = True) -> str:
        return email

    @signal
    def confirm_email_address(self, confirmed_at: datetime | None, by: str = "") -> datetime:
        return confirmed_at or now()

    @step
    def create_user_record(self, user_name: str | None, email: str, age: int = 0) -> bool:
        return bool(age)

    @query
    def sent(self, last: int = 3) -> list[str]:
        return []


class WrongSignup(SignupFlow):
    @flow
    async def sign_up(self, user_name: str, email: str, age: int) -> int:  # error: takes more
        return age

    @flow(name="wrong")
    async def sign_up_again(self, user_name: str, email: str = "") -> int:  # error: returns something else
        return 0

    @signal
    def confirm_email_address(self, confirmed_at: str) -> datetime:  # error: takes something else
        return now()

    @step
    def create_user_record(self, user_name: bytes, email: str) -> int:  # error: takes something else
        return 0

    @step
    async def fetch(self, user_id: int) -> int:  # error: returns something else
        return 0

    @signal(name="approval")
    def approve(self, by: str, *, granted: bool = True) -> str:  # error: returns something else
        return by

    @query
    def sent(self, last: str) -> list[str]:  # error: takes something else
        return []


class WrongSignals(SignupFlow):
    @signal(name="approval")
    def approve(self, by: str, granted: int) -> bool:  # error: takes less, and more
        return bool(granted)


class Charging:
    """A part of flows that is no flow itself."""

    @step
    def charge_it(self, cents: int) -> int:
        return cents


class ChargingFlow(Charging, Flow):
    @flow
    async def go(self) -> int:
        await self.charge_it("1")  # error: wrong argument to a mixin's step
        return await self.charge_it(1)


@step
def show_anything(what: Any, more: dict[str, Any]) -> int:
    return len(f"{what}{more}")


@flow
async def shows_anything(what: Any) -> int:
    assert_type(await show_anything(what, more={}), int)
    await show_anything(what, more="")  # error: wrong argument beside one of any type
    return await show_anything(what={}, more=what)


@flow(name="anything-else")
async def shows_anything_else(what: Any, more: int = 0) -> int:
    return await show_anything(what, {})


@flow
async def order(account: str, cents: int) -> int:
    paid, rate, page = await gather(charge(account, cents), quote(cents), render("<p>"))
    assert_type(paid, int)
    assert_type(rate, float)
    assert_type(page, bytes)
    assert_type(await gather(*[charge(account, 1) for _ in range(9)]), tuple[int, ...])
    assert_type(await wait_for("approval", bool), bool)
    assert_type(await refund(account, cents), int)
    assert_type(now(), datetime)
    assert_type(current_flow().id, str)
    current_flow().logger.info("%s", current_flow().type)
    await sleep(timedelta(days=3))
    await sleep(0.5)
    await sleep_until(datetime.now(UTC))
    print(uuid4().hex, await later(account))

    await charge(1, cents)  # error: wrong argument to a module's step
    await charge(account)  # error: missing argument
    await charge(account, cents=1, currency="EUR")  # error: unknown keyword
    await quote("1")  # error: wrong argument to an async step with options
    await render(b"<p>")  # error: wrong argument to an isolated step
    text: str = await charge(account, cents)  # error: wrong result of a step
    pair: tuple[int, int] = await gather(charge(account, 1), quote(1))  # error: wrong result of gather
    three: tuple[int, int, int] = await gather(charge(account, 1), charge(account, 2))  # error: two results
    yes: str = await wait_for("approval", bool)  # error: wrong result of wait_for
    await sleep("a while")  # error: a duration
    await sleep_until(3)  # error: an instant
    print(text, pair, three, yes)
    return charge(account, 1)  # error: not awaited


async def later(account: str) -> float:
    return await quote(await charge(account, 1))


@flow  # error: a flow is async def
def not_a_flow(account: str) -> int:
    return len(account)


# ----------------------------------------------------------------------------------- from outside
def starting(system: FlowSystem) -> None:
    handle = system.start(SignupFlow.sign_up, "ada", "ada@example.com", flow_id="signup-ada")
    assert_type(handle, FlowHandle[int])
    assert_type(system.start(SignupFlow.sign_up, "ada", "ada@example.com"), FlowHandle[int])
    assert_type(system.start(SignupFlow.sign_up(user_name="ada", email="x"), flow_id="z"), FlowHandle[int])
    assert_type(system.start(SignupFlow.sign_up_again, "ada", "x"), FlowHandle[str])
    assert_type(system.start(SignupFlow.sign_up_again("ada"), flow_id="z"), FlowHandle[str])
    assert_type(system.start(order, "ada", 100), FlowHandle[int])
    assert_type(system.run(order, "ada", 100, flow_id="order-1"), int)
    assert_type(system.run(order(cents=100, account="ada")), int)
    assert_type(system.flow("signup-ada"), FlowHandle[Any])

    assert_type(system.start(SpecialSignup.sign_up, "ada", "x"), FlowHandle[int])
    assert_type(system.start(WiderSignup.sign_up, "ada", "x", 3), FlowHandle[bool])
    assert_type(system.run(WiderSignup.sign_up_again("ada", fast=False)), str)
    assert_type(system.run(shows_anything, 3), int)
    assert_type(system.run(shows_anything(what=3)), int)
    assert_type(system.run(shows_anything_else, 3, 4), int)
    assert_type(SignupFlow.confirm_email_address.name, str)

    system.start(WiderSignup.sign_up, "ada", "x", "y")  # error: wrong argument of an overridden flow
    system.start(SpecialSignup.sign_up, "ada")  # error: missing argument of an overridden flow
    system.start(SignupFlow.sign_up)  # error: missing arguments
    system.start(SignupFlow.sign_up, "ada")  # error: missing argument
    system.start(SignupFlow.sign_up, 1, "x")  # error: wrong argument
    system.start(SignupFlow.sign_up, 1, "x", flow_id="z")  # error: wrong argument
    system.start(SignupFlow.sign_up, "ada", "x", "y")  # error: too many arguments
    system.start(SignupFlow.sign_up, "ada", mail="x")  # error: unknown keyword
    system.start(SignupFlow.sign_up, "ada", "x", flow_id=3)  # error: an id is text
    system.start(SignupFlow.sign_up(user_name="ada"))  # error: missing argument
    system.start(SignupFlow.sign_up(user_name="ada", email="x", age=3))  # error: unknown keyword
    system.start(SignupFlow.create_user_record, "ada", "x")  # error: a step is no flow
    system.start(order, 100, "ada")  # error: arguments the wrong way round
    wrong: FlowHandle[str] = system.start(order, "ada", 100)  # error: wrong result of a flow
    text: str = system.run(order, "ada", 100)  # error: wrong result of a flow
    print(wrong, text)


def talking(handle: FlowHandle[int]) -> None:
    assert_type(handle.result(), int)
    assert_type(handle.result(timeout=30), int)
    assert_type(handle.query(SignupFlow.sent, 3), list[str])
    assert_type(handle.query(SignupFlow.sent(last=3)), list[str])
    handle.signal(SignupFlow.confirm_email_address, datetime.now(UTC))
    handle.signal(SignupFlow.confirm_email_address, datetime.now(UTC), signal_id="mail-1")
    handle.signal(SignupFlow.confirm_email_address(confirmed_at=datetime.now(UTC)), signal_id="mail-1")
    handle.signal(SignupFlow.approve(by="boss", granted=False))
    handle.signal("approval", {"by": "boss"}, signal_id="mail-2")
    handle.signal("approval")

    handle.signal(SignupFlow.confirm_email_address, "today")  # error: wrong argument
    handle.signal(SignupFlow.confirm_email_address, "today", signal_id="mail-1")  # error: wrong argument
    handle.signal(SignupFlow.confirm_email_address)  # error: missing argument
    handle.signal(SignupFlow.confirm_email_address(at=datetime.now(UTC)))  # error: unknown keyword
    handle.signal(SignupFlow.approve(by=3))  # error: wrong argument
    handle.signal("approval", True, signal_id=3)  # error: an id is text
    handle.signal(SignupFlow.sign_up, "ada", "x")  # error: a flow is no signal
    handle.query(SignupFlow.sent, "all")  # error: wrong argument
    handle.query(SignupFlow.sent)  # error: missing argument
    names: list[int] = handle.query(SignupFlow.sent, 3)  # error: wrong result of a query
    text: str = handle.result()  # error: wrong result of a flow
    print(names, text)


def many_at_once(system: FlowSystem) -> None:
    assert_type(system.start_many([order("ada", 100), order("bob", 200)]), list[FlowHandle[int]])
    assert_type(system.start_many({"order-1": order("ada", 100)}), list[FlowHandle[int]])
    receipts = system.signal_many(
        [
            SignalTo("signup-ada", SignupFlow.confirm_email_address(datetime.now(UTC)), signal_id="mail-1"),
            SignalTo("signup-ada", "approval", True),
        ],
        timeout=30,
    )
    assert_type(receipts, list[Receipt])

    system.start_many([order])  # error: a flow without its arguments
    system.start_many({1: order("ada", 100)})  # error: an id is text
    system.signal_many([("signup-ada", "approval")])  # error: no SignalTo
    texts: list[FlowHandle[str]] = system.start_many([order("ada", 100)])  # error: wrong result of a flow
    print(texts)


async def inside_asyncio(system: FlowSystem) -> None:
    handle = await system.start_async(order, "ada", 100)
    assert_type(await handle, int)
    assert_type(await handle.result_async(timeout=3), int)
    await handle.signal_async(SignupFlow.confirm_email_address, datetime.now(UTC))
    assert_type(await handle.query_async(SignupFlow.sent, 3), list[str])

    await system.start_async(order, "ada")  # error: missing argument
    text: str = await handle  # error: wrong result of a flow
    await handle.signal_async(SignupFlow.confirm_email_address, "today")  # error: wrong argument
    print(text)


# ------------------------------------------------------------------------------------------ in tests
def test_a_signup(flows: World) -> None:
    double = flows.double(SignupFlow.create_user_record)
    assert_type(double, StepDouble[int])
    double.returns(3).then_raises(OSError, TimeoutError("late")).takes(timedelta(seconds=3))
    assert_type(flows.double(SignupFlow.fetch), StepDouble[str])
    assert_type(flows.double(SignupFlow.approve), StepDouble[bool])
    assert_type(double.calls[0].args, dict[str, Any])
    flows.answer(SignupFlow.confirm_email_address, flows.clock.now())
    flows.answer("approval", {"by": "boss"})
    handle = flows.start(SignupFlow.sign_up, "ada", "ada@example.com", flow_id="signup-ada")
    assert_type(handle, SimulatedHandle[int])
    flows.clock.advance(days=3)
    flows.crash()
    assert_type(handle.result(), int)
    assert_type(flows.run(order, "ada", 100), int)
    assert_type(flows.run(order(cents=100, account="ada"), flow_id="o"), int)
    talking(handle)

    double.returns("three")  # error: wrong result of a step
    flows.double(SignupFlow.sign_up)  # error: a flow is no step
    flows.answer(SignupFlow.confirm_email_address, "today")  # error: wrong argument
    flows.start(SignupFlow.sign_up, "ada")  # error: missing argument
    flows.clock.advance("a while")  # error: a duration
    text: str = handle.result()  # error: wrong result of a flow
    print(text)


def test_the_machine() -> None:
    kit = FlowTestKit(SignupFlow.sign_up, "ada", "ada@example.com")
    assert_type(kit.result, int)
    kit.signal(SignupFlow.confirm_email_address, datetime.now(UTC))

    kit.signal(SignupFlow.confirm_email_address, "today")  # error: wrong argument
    FlowTestKit(SignupFlow.sign_up, "ada")  # error: missing argument


with FlowSystem(
    "flows.db", flows=[SignupFlow, SignupFlow.sign_up, order, shows_anything, shows_anything_else]
) as opened:
    starting(opened)
    talking(opened.start(SignupFlow.sign_up, "ada", "ada@example.com"))

FlowSystem("flows.db", flows=[int])  # error: not a flow
FlowSystem("flows.db", flows=[SignupFlow], colour="red")  # error: no such option


# ------------------------------------------------------------------------------------------- actors
class Deposited(msgspec.Struct, tag="deposited"):
    amount: int


class AccountState(msgspec.Struct):
    balance: int = 0


class Account(EventSourcedActor[AccountState, Deposited], name="account"):
    def apply(self, state: AccountState, event: Deposited) -> None:
        assert_type(self.state, AccountState)
        state.balance += event.amount

    @command
    def deposit(self, amount: int, note: str = "") -> int:
        self.record(Deposited(amount))
        self.record(AccountState())  # error: not an event of this actor
        self.state = AccountState()  # error: the state is changed in apply
        assert_type(self.balance(), int)
        assert_type(self.close(), None)
        self.deposit("1")  # error: wrong argument to a command that another one calls
        if not amount:
            raise Refused("nothing")
        return self.state.balance

    @command
    def close(self) -> None: ...

    @query
    def balance(self, of: str = "") -> int:
        return self.state.balance


class Savings(Account, name="savings"):
    @command
    def deposit(self, amount: int, note: str = "", *, rate: float = 0.0) -> int:
        return super().deposit(amount, note)

    @query
    def balance(self, of: str | None = None) -> int:
        return 0


class WrongSavings(Account, name="wrong savings"):
    def apply(self, state: str, event: Deposited) -> None: ...  # error: another state

    @command
    def deposit(self, amount: str, note: str = "") -> int:  # error: takes something else
        return 0

    @query
    def balance(self, of: str = "") -> str:  # error: returns something else
        return ""


class Device(EventSourcedActor[AccountState, Deposited], name="device"):
    def apply(self, state: AccountState, event: Deposited) -> None: ...

    @command
    def report(self, temperature: float) -> None: ...


def use_actors(system: FlowSystem) -> None:
    ada = system.actor(Account, "ada")
    assert_type(ada, Ref[Account])
    assert_type(ada.ask(Account.deposit, 1), int)
    assert_type(ada.ask(Account.deposit, 1, "a gift", timeout=2), int)
    assert_type(ada.ask(Account.deposit, amount=1), int)
    assert_type(ada.ask(Account.deposit(amount=1), timeout=2), int)
    assert_type(ada.ask(Account.balance), int)
    assert_type(ada.ask(Account.balance, "all", timeout=0.5), int)
    ada.ask(Account.close)
    ada.tell(Account.deposit, 1)
    ada.tell(Account.deposit, note="a gift", amount=1)
    ada.tell(Account.deposit(1))
    savings = system.actor(Savings, "savings")
    assert_type(savings.ask(Account.deposit, 1), int)
    assert_type(savings.ask(Savings.deposit, 1), int)
    assert_type(savings.ask(Savings.deposit(1, rate=0.5)), int)
    assert_type(savings.ask(Account.balance), int)

    ada.ask(Account.deposit, "1")  # error: wrong argument to a command
    ada.ask(Account.deposit)  # error: missing argument
    ada.ask(Account.deposit, 1, "", 2)  # error: too many arguments
    ada.ask(Account.deposit, 1, nte="")  # error: unknown keyword
    ada.ask(Account.deposit(amount="1"))  # error: wrong argument to a bound command
    ada.ask(Account.balance, 1)  # error: wrong argument to a query
    ada.ask(Device.report, 1.0)  # error: a command of another actor
    ada.ask(Device.report(1.0))  # error: a bound command of another actor
    ada.ask(Savings.deposit, 1)  # error: a command of a subclass
    ada.tell(Account.balance)  # error: a query is asked
    ada.tell(Account.deposit, "1")  # error: wrong argument to what is told
    wrong: str = ada.ask(Account.deposit, 1)  # error: wrong result of a command
    ada.deposit(1)  # error: a command is asked or told
    system.actor(SignupFlow, "ada")  # error: a flow is no actor
    print(wrong)


async def use_actors_async(system: FlowSystem) -> None:
    ada = system.actor(Account, "ada")
    assert_type(await ada.ask_async(Account.deposit, 1, timeout=1), int)
    assert_type(await ada.ask_async(Account.deposit(amount=1), timeout=1), int)
    assert_type(await ada.ask_async(Account.balance), int)
    await ada.ask_async(Account.deposit, "1")  # error: wrong argument to a command
    await ada.ask_async(Device.report, 1.0)  # error: a command of another actor


def test_account() -> None:
    kit = ActorTestKit(Account, "ada")
    ran = kit.run(Account.deposit, 1)
    print(ran.reply, kit.run(Account.balance).state)
    kit.run(Account.deposit, "1")  # error: wrong argument to a command in the kit
    kit.run(Device.report, 1.0)  # error: a command of another actor in the kit
