"""What runs flows: dispatcher, journal, flow actors, timers, supervisor, and the system that joins them."""

from __future__ import annotations

from .event_sourced import EventSourcedActor
from .handle import FlowEvent, FlowHandle, Receipt
from .supervisor import SupervisorRules
from .system import FlowSystem

__all__ = ["EventSourcedActor", "FlowEvent", "FlowHandle", "FlowSystem", "Receipt", "SupervisorRules"]
