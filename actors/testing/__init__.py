"""Tests of flows: a simulated world on one thread, with virtual time, step doubles, and crashes.

def test_a_signup_waits_for_the_confirmation(flows):        # the fixture of the pytest plugin
    flows.double(SignupFlow.send_welcome_email).then_raises(OSError)
    handle = flows.start(SignupFlow.sign_up, "ada", "ada@example.com")
    flows.clock.advance(days=3)
    handle.signal(SignupFlow.confirm_email_address, flows.clock.now())
    assert handle.result() == 1234
"""

from __future__ import annotations

from .actor_kit import ActorTestKit, Ran
from .doubles import DoubleCall, StepDouble
from .flow_kit import Decided, Effect, FlowTestKit
from .handle import SimulatedHandle
from .simulation import Simulation
from .world import EndState, Stuck, VirtualClock, World

__all__ = [
    "ActorTestKit",
    "Decided",
    "DoubleCall",
    "Effect",
    "EndState",
    "FlowTestKit",
    "Ran",
    "SimulatedHandle",
    "Simulation",
    "StepDouble",
    "Stuck",
    "VirtualClock",
    "World",
]
