"""What a flow is: the authoring API, the events of its history, and the pure machine that runs it.

Nothing here does I/O, knows a thread or reads a clock. Messages and recorded events come in, and a decision
comes out: what to record, and what to do.
"""

from __future__ import annotations

from .authoring.context import FlowContext, current_flow
from .authoring.flow import Flow, FlowCall, FlowDefinition, Registry, flow
from .authoring.query import QueryCall, QueryType, query
from .authoring.retry import Retry
from .authoring.signal import SignalCall, SignalType, signal
from .authoring.step import Done, Step, StepCall, StepContext, current_step, step
from .authoring.vocabulary import gather, now, random, sleep, sleep_until, uuid4, wait_for
from .machine.limits import Limits
from .machine.machine import FlowMachine
from .values.codec import PayloadLimits

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
