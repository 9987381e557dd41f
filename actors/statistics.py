"""What a system tells about itself in figures."""

from __future__ import annotations

import msgspec

__all__ = ["SystemStatistics"]


class SystemStatistics(msgspec.Struct, frozen=True):
    """Current counters of a system; reading them does not touch the store."""

    live_flows: int
    """Flows with an actor: at work, or idle for a few seconds. All others cost nothing."""
    queued_writes: int
    """What waits for the next commit. It stays small while the disk keeps up."""
    queued_requests: int
    """What waits for the supervisor."""
    commits: int
    """Durable commits since the system was opened; each may carry the decisions of many flows."""
    running_steps: int
    """Steps that run right now."""
    leaked_steps: int
    """Steps that were given up after their timeout and run still: a thread cannot be stopped."""
    is_writable: bool
    """Whether the store takes writes. If not, it is being reopened, or another process owns it now."""
    queued_steps: int = 0
    """Steps that wait for a thread or a process, or for earlier runs that hang."""
    blocked_steps: int = 0
    """`def` steps that wait for another flow, or for the store. They do not count as `step_threads`."""
    lost_threads: int = 0
    """Threads held by code that was given up: of steps, of flows that are parked for it, of blocked loops."""
    live_actors: int = 0
    """Event-sourced actors in memory. All others cost nothing."""
