"""The wake flag: what a flow's actor and the supervisor share, so that they need no message for it."""

from __future__ import annotations

__all__ = ["WakeFlag"]


class WakeFlag:
    """Whether the flow has been woken and has not looked yet. Many wake-ups are one."""

    __slots__ = ("is_set", "is_starting")

    def __init__(self) -> None:
        self.is_set = False
        self.is_starting = False
        """Whether the flow is taken to be new, and its start has not been recorded."""
