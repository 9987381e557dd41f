"""What runs flows: dispatcher, journal, flow actors, timers, supervisor, and the system that joins them."""

from __future__ import annotations

from .flows.supervisor import SupervisorRules
from .handle import FlowEvent, FlowHandle, Receipt
from .persistence.event_sourced import EventSourcedActor
from .remote.client import Postbox, Posted, Undelivered
from .remote.protocol import Answered
from .statistics import SystemStatistics
from .system import FlowSystem

__all__ = [
    "Answered",
    "EventSourcedActor",
    "FlowEvent",
    "FlowHandle",
    "FlowSystem",
    "Postbox",
    "Posted",
    "Receipt",
    "SupervisorRules",
    "SystemStatistics",
    "Undelivered",
]
