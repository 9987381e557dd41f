"""What a flow's body can know about its own flow, and a logger that is silent in replays."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from ..errors import NotInFlowError
from .request import driver, running
from .step import is_in_step

if TYPE_CHECKING:
    from typing import Any

_NAME = "persistasaurus.flow"


class _FlowLogger(logging.Logger):
    """Hands records to the logger of its name, except those that a replay repeats."""

    def __init__(self) -> None:
        super().__init__(_NAME)
        self._named = logging.getLogger(_NAME)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return self._named.isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        flow = running()
        if flow is None:  # a step has been given the logger
            self._named.handle(record)
            return
        fields: dict[str, Any] = record.__dict__
        fields.update(flow_id=flow.flow_id, flow_type=flow.flow_type)
        flow.log(lambda: self._named.handle(record))


_logger = _FlowLogger()


class FlowContext(msgspec.Struct, frozen=True):
    """The flow whose body is running. `type` is the name under which it is stored."""

    id: str
    type: str

    @property
    def logger(self) -> logging.Logger:
        """The logger `persistasaurus.flow`, silent while a replay repeats what the body has already done.

        Its records have the attributes `flow_id` and `flow_type`. After a crash a line may be missing or
        repeated: logging is not part of the history.
        """
        return _logger


def current_flow() -> FlowContext:
    """Return the flow whose body is running: the same in each replay.

    Raises:
        NotInFlowError: no flow's body is running here; a step calls `current_step()`.
    """
    if is_in_step():
        raise NotInFlowError(
            "current_flow() works inside a flow's body only, and this is a step: current_step() has the"
            " flow's id here, and a step may use any logger, since no replay repeats it"
        )
    flow = driver("current_flow()")
    return FlowContext(flow.flow_id, flow.flow_type)
