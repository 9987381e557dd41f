"""What runs flows: dispatcher, journal, flow actors, timers, supervisor, and the system that joins them."""

from __future__ import annotations

from .batches import SignalTo
from .flows.supervisor import SupervisorRules
from .handle import FlowEvent, FlowHandle, Receipt
from .persistence.persistent_actor import StaleWriterError
from .projections.projection import Projection
from .projections.projection_handle import ProjectionHandle
from .ref import Ref
from .remote.client import PendingRequest, RefusedRequest, RemoteClient
from .remote.protocol import RemoteResponse
from .statistics import SystemStatistics
from .steps.task import StepCrashed, StepTimeout
from .system import FlowSystem

__all__ = [
    "FlowEvent",
    "FlowHandle",
    "FlowSystem",
    "PendingRequest",
    "Projection",
    "ProjectionHandle",
    "Receipt",
    "Ref",
    "RefusedRequest",
    "RemoteClient",
    "RemoteResponse",
    "SignalTo",
    "StaleWriterError",
    "StepCrashed",
    "StepTimeout",
    "SupervisorRules",
    "SystemStatistics",
]
