"""The heartbeat: notes that the process lives, for as long as steps run, and what keeps it from its work.

Should it die, the next one can tell how long each step had run. And others can tell what blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...store.files.black_box import Present

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...store.files.black_box import BlackBox
    from ..runtime.environment import Environment

__all__ = ["Heartbeat"]

_BEAT_S = 0.25


class Heartbeat:
    """Beats from `wake` on, until nothing runs any more, and nothing is in the way."""

    def __init__(
        self,
        environment: Environment,
        box: BlackBox,
        is_needed: Callable[[], object],
        present: Callable[[], Present],
    ) -> None:
        self._environment = environment
        self._box = box
        self._is_needed = is_needed
        self._present = present
        self._noted = Present()
        self._is_awake = False

    def wake(self) -> None:
        """Beat from now on. Costs nothing when it does."""
        if not self._is_awake:
            self._is_awake = True
            self._beat_later()

    def _beat_later(self) -> None:
        try:
            self._environment.alarms.call_at(self._environment.clock.elapsed() + _BEAT_S, self._beat)
        except RuntimeError:  # no thread to be had for alarms, for now
            self._is_awake = False

    def _beat(self) -> None:
        self._box.beat(self._environment.clock.now())
        present = self._present()
        if present != self._noted:
            self._noted = present
            self._box.note(present)
        if self._is_needed() or present != Present():
            self._beat_later()
        else:
            self._is_awake = False
