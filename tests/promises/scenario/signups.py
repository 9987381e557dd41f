"""Sign-ups that tell which steps they run, and the record that the diagrams draw."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any

from persistasaurus import FlowHandle, signal, step
from persistasaurus.flows.examples import HelloWorldFlow, SignupFlow
from scenario.world import Told

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus import FlowSystem
    from scenario.world import World

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADA = ("ada", "ada@example.com")

UNTIL_THE_EMAIL = [
    Told("flow_started", 0),
    Told("step_started", 1),
    Told("step_completed", 1),
    Told("step_scheduled", 2),
]
UNTIL_THE_CONFIRMATION = [
    *UNTIL_THE_EMAIL,
    Told("step_attempted", 2),
    Told("step_completed", 2),
    Told("signal_awaited", 3),
]
FROM_THE_CONFIRMATION = [
    Told("signal_received", 0),
    Told("step_started", 3),
    Told("step_completed", 3),
    Told("step_started", 4),
    Told("step_completed", 4),
    Told("flow_completed", 0),
]


class Signups:
    """Sign-ups in a world, with what their steps did: `ran` has each call, and when it was made."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ran: list[tuple[str, float]] = []

    def open(self, *, delay_s: float = 10.0, **options: Any) -> FlowSystem:
        """Open the store, with sign-ups that can be watched."""
        return self.world.open(self._flow(timedelta(seconds=delay_s)), HelloWorldFlow, **options)

    def start(self, flow_id: str = "ada") -> FlowHandle[int]:
        system = self.world.system or self.open()
        return system.start(self.flow.sign_up, *ADA, flow_id=flow_id)

    def start_and_send_email(self, flow_id: str = "ada") -> FlowHandle[int]:
        """Bring a sign-up to where it waits for its person."""
        handle = self.start(flow_id)
        self.world.until_told(flow_id, "step_scheduled", 2)
        self.world.clock.advance(10)
        self.world.until_told(flow_id, "signal_awaited", 3)
        return handle

    def again(self, flow_id: str = "ada") -> FlowHandle[int]:
        """Open the store anew, and find the sign-up in it."""
        return self.open().flow(flow_id)

    @property
    def steps(self) -> list[str]:
        return [name for name, _ in self.ran]

    def _flow(self, delay: timedelta) -> type[SignupFlow]:
        watched, parent = self._watched, SignupFlow

        class WatchedSignup(SignupFlow):
            create_user_record = step(name="create_user_record")(watched(parent.create_user_record.function))
            send_welcome_email = step(name="send_welcome_email", delay=delay)(
                watched(parent.send_welcome_email.function)
            )
            confirm_email_address = signal(name="confirm_email_address")(
                watched(parent.confirm_email_address.step.function)
            )
            finalize_signup = step(name="finalize_signup")(watched(parent.finalize_signup.function))

        self.flow = WatchedSignup
        return WatchedSignup

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.ran.append((function.__name__, self.world.age_s))
            return function(*args, **kwargs)

        return watched


def confirm(handle: FlowHandle[Any], signal_id: str = "mail-1", at: datetime = NOON) -> Any:
    return handle.signal(SignupFlow.confirm_email_address, at, signal_id=signal_id)
