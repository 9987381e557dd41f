"""What a link asks of a person."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec

from ...actors.flows.admission import checked_id
from ...flows import SignalCall, SignalType
from ...flows.values.codec import DEFAULT_LIMITS, Codec

__all__ = ["Action"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}", re.ASCII)
_SIGNAL_MAX: Final = 180
_SAMPLE: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What a link asks of a person: the signal that the button sends, and the texts of the page.

    `send` makes the signal from the instant at which the button was pressed, and from nothing else: a call
    such as `OrderFlow.decide(approved=True)`, or the payload of a signal that is known only by its name.
    Without it, that instant is the signal's only value. It is called once when `Links` are made, to check
    that it fits, and must have no effects.
    """

    name: str
    """Stands in each link: lower-case letters, digits, - and _."""
    signal: SignalType[..., Any] | str
    title: str
    """What is asked, as the page's heading."""
    text: str = ""
    """More about it."""
    button: str = "Confirm"
    done: str = "Thank you. It is confirmed."
    """The heading of the page that answers."""
    send: Callable[[datetime], Any] | None = None

    @property
    def signal_name(self) -> str:
        """The name under which the signal is sent."""
        return self.signal if isinstance(self.signal, str) else self.signal.name

    def message(self, at: datetime) -> Any:
        """Make what is sent: a `SignalCall`, or a payload."""
        if self.send is not None:
            return self.send(at)
        return at if isinstance(self.signal, str) else self.signal(at)

    def check(self) -> None:
        """Check that the action can work, before anyone gets a link.

        Raises:
            ValueError: what is wrong with it.
            TypeError: `send` does not make what the signal takes.
            PayloadError: likewise.
        """
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.name!r} is not a valid name of an action: use 1 to 60 of a-z, 0-9, - and _"
            )
        if not self.title.strip() or not self.button.strip():
            raise ValueError(f"action {self.name!r} needs a title, and words on its button")
        if len(checked_id(self.signal_name, "name of a signal")) > _SIGNAL_MAX:
            raise ValueError(
                f"action {self.name!r}: names of signals for links have {_SIGNAL_MAX} letters at most"
            )
        self._check_message(self.message(_SAMPLE))

    def _check_message(self, message: Any) -> None:
        if isinstance(message, SignalCall):
            call = cast("SignalCall[Any]", message)
            if call.name != self.signal_name:
                raise ValueError(
                    f"action {self.name!r} is for signal {self.signal_name!r}, not for {call.name!r}"
                )
        elif isinstance(self.signal, str):
            Codec(Any, f"what action {self.name!r} sends").encode(message, DEFAULT_LIMITS)
        else:
            raise TypeError(
                f"action {self.name!r} sends {message!r}: let `send` return {self.signal_name}(...)"
            )
