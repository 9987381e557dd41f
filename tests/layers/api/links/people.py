"""Flows that write to people, the links that they write, and the server that people reach with them."""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING, Any

from litestar import Litestar
from litestar.testing import TestClient
from persistasaurus import Flow, FlowSystem, current_step, flow, signal, step
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.api.links.action import Action
from persistasaurus.api.links.keys import KeyFile, KeyRing
from persistasaurus.api.links.links import Links
from persistasaurus.api.links.routes import link_routes
from persistasaurus.flows import events
from persistasaurus.flows.examples import SignupFlow
from persistasaurus.store import Durability
from system.doubles import DEAD_MAN_S, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from persistasaurus import FlowHandle

BASE = "https://flows.example.org"


class DecisionFlow(Flow):
    """Asks for two decisions, one after the other."""

    @flow(name="decision")
    async def decide_twice(self) -> list[bool]:
        await self.ask(1)
        first = await self.decide()
        await self.ask(2)
        return [first, await self.decide()]

    @step
    def ask(self, wait: int) -> None: ...

    @signal
    def decide(self, approved: bool, at: datetime) -> bool:  # noqa: FBT001 - what the signal carries
        return approved

    @signal
    def remark(self, text: str) -> str:
        return text


ACTIONS = (
    Action(
        name="confirm",
        signal=SignupFlow.confirm_email_address,
        title="Confirm your email address",
        text="Somebody, hopefully you, has signed up with this address.",
        done="Thank you. Your address is confirmed.",
    ),
    Action(
        name="approve",
        signal=DecisionFlow.decide,
        title="Approve this order",
        button="Approve",
        done="The order is approved.",
        send=lambda at: DecisionFlow.decide(True, at),
    ),
    Action(
        name="reject",
        signal=DecisionFlow.decide,
        title="Reject this order",
        button="Reject",
        done="The order is rejected.",
        send=lambda at: DecisionFlow.decide(False, at),
    ),
)


class Post:
    """A store whose flows write links into an outbox, and systems opened on it one after the other."""

    def __init__(self, path: Path | str = ":memory:", keys: KeyRing | None = None, base: str = BASE) -> None:
        self.path = path
        self.clock = ManualClock()
        self.outbox: list[str] = []
        self.gate = Event()
        self.gate.set()
        self.system: FlowSystem | None = None
        ring = keys or (KeyRing.fresh() if path == ":memory:" else KeyFile.beside(path))
        self.links = Links(ring, base, ACTIONS, clock=self.clock)
        self.signup = self._mailing()

    def open(self) -> FlowSystem:
        self.close()
        environment = Environment(
            clock=self.clock, alarms=ManualAlarms(self.clock), dispatcher=Environment.system().dispatcher
        )
        self.system = FlowSystem(
            self.path,
            flows=[self.signup, DecisionFlow],
            environment=environment,
            durability=Durability.MAY_LOSE_LAST_COMMITS,
        )
        return self.system

    def close(self) -> None:
        if self.system is not None:
            self.system.close()
            self.system = None

    def _mailing(self) -> type[SignupFlow]:
        post = self

        class Mailing(SignupFlow):
            @step(name="send_welcome_email")
            def send_welcome_email(self, user_id: int, email: str) -> None:
                post.outbox.append(post.links.url(current_step().flow_id, "confirm", says=email))
                assert post.gate.wait(DEAD_MAN_S)

        return Mailing

    def start(self, flow_id: str = "ada") -> FlowHandle[Any]:
        """Start a sign-up, and return when its mail is out."""
        system = self.system or self.open()
        mails = len(self.outbox)
        handle = system.start(self.signup.sign_up, "ada", "ada@example.com", flow_id=flow_id)
        wait_until(lambda: len(self.outbox) > mails)
        return handle

    def ask(self, flow_id: str = "order-1") -> FlowHandle[Any]:
        """Start a flow that asks for two decisions."""
        return (self.system or self.open()).start(DecisionFlow.decide_twice, flow_id=flow_id)

    def token(self, *args: Any, **options: Any) -> str:
        """Make a link to a flow, and return what is secret about it."""
        return token_of(self.links.url(*args, **options))

    def app(self) -> Litestar:
        assert self.system is not None
        return Litestar(link_routes(self.system, self.links), openapi_config=None, logging_config=None)

    def client(self) -> TestClient[Litestar]:
        return TestClient(self.app(), base_url=BASE)


def press(post: Post, token: str, visit: str = "") -> int:
    """Press the button of a link, and return the status."""
    with post.client() as client:
        data = {"visit": visit} if visit else None
        return client.post(f"/links/{token}", data=data, follow_redirects=False).status_code


def token_of(url: str) -> str:
    before, _, token = url.partition("/links/")
    assert before
    assert token
    return token


def signals(handle: FlowHandle[Any]) -> dict[str, bytes]:
    """Return the signals that a flow was sent, taken or not, by their ids."""
    waiting = {entry.key: entry.data for entry in handle._engine.store.inbox(handle.id)}
    received = [e.event for e in handle.events() if isinstance(e.event, events.SignalReceived)]
    return waiting | {event.key: bytes(event.args) for event in received}


WEEK = timedelta(days=7)
