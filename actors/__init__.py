"""What runs flows: dispatcher, journal, flow actors, timers, supervisor, and the system that joins them."""

from __future__ import annotations

from .event_sourced import EventSourcedActor
from .handle import FlowEvent, FlowHandle, Receipt
from .orders import Answered
from .postbox import Postbox, Posted, Undelivered
from .statistics import SystemStatistics
from .supervisor import SupervisorRules
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
