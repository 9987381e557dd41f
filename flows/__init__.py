"""What a flow is: the authoring API, the events of its history, and the pure machine that runs it.

Nothing in here does I/O, knows a thread or reads a clock. What has happened comes in as messages
and recorded events; what is to be recorded and done comes out as a decision.
"""

from __future__ import annotations

from .current import FlowContext, current_flow
from .flow import Flow, FlowCall, FlowDefinition, Registry, flow
from .machine import FlowMachine, Limits
from .payload import PayloadLimits
from .query import QueryCall, QueryType, query
from .retry import Retry
from .signal import SignalCall, SignalType, signal
from .step import Done, Step, StepCall, StepContext, current_step, step
from .vocabulary import gather, now, random, sleep, sleep_until, uuid4, wait_for

__all__ = [
    "Done",
    "Flow",
    "FlowCall",
    "FlowContext",
    "FlowDefinition",
    "FlowMachine",
    "Limits",
    "PayloadLimits",
    "QueryCall",
    "QueryType",
    "Registry",
    "Retry",
    "SignalCall",
    "SignalType",
    "Step",
    "StepCall",
    "StepContext",
    "current_flow",
    "current_step",
    "flow",
    "gather",
    "now",
    "query",
    "random",
    "signal",
    "sleep",
    "sleep_until",
    "step",
    "uuid4",
    "wait_for",
]
