"""The environment: all that an engine takes from outside, handed down from the composition root.

Replace it, and the same engine runs on one thread under a seeded scheduler with virtual time. What keeps
that possible: no actor of ours blocks, every actor runs on a dispatcher that the environment made, and each
timed wake-up is an alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .alarms import Alarms
from .dispatcher import Dispatcher
from .primitives import SystemClock, new_event_loop, new_id, new_seed, start_process, start_thread

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from .primitives import AlarmService, Clock, Startable, ThreadStarter
    from .scheduler import DispatcherFactory

__all__ = ["Environment"]


@dataclass(frozen=True, slots=True)
class Environment:
    """All that an engine takes from outside, in one object."""

    clock: Clock
    alarms: AlarmService
    dispatcher: DispatcherFactory
    new_id: Callable[[], str] = new_id
    new_seed: Callable[[], int] = new_seed
    start_thread: ThreadStarter = start_thread
    start_process: Callable[[Startable], None] = start_process
    new_event_loop: Callable[[], AbstractEventLoop] = new_event_loop

    @classmethod
    def system(cls) -> Environment:
        """Take the machine's clocks, real threads and true randomness."""
        clock = SystemClock()
        return cls(clock=clock, alarms=Alarms(clock), dispatcher=Dispatcher)
