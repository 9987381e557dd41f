"""Matching signals with the waits for them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ..errors import PayloadError
from ..values.codec import check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..authoring.step import Step
    from ..values.codec import Codec, PayloadLimits
    from .pending import Wait


class SignalQueues:
    """Signals that came early, and waits that were there first: by name, each in order."""

    def __init__(self, declared: Mapping[str, Step[..., Any]], limits: PayloadLimits) -> None:
        self._declared = declared
        self._limits = limits
        self._early: dict[str, deque[tuple[str, bytes]]] = {}
        self._waits: dict[str, deque[Wait]] = {}

    def wait(self, wait: Wait) -> None:
        self._waits.setdefault(wait.name, deque()).append(wait)

    def keep(self, name: str, key: str, data: bytes) -> None:
        self._early.setdefault(name, deque()).append((key, data))

    @property
    def unread(self) -> list[str]:
        """The keys of the signals that no wait has taken."""
        return [key for early in self._early.values() for key, _ in early]

    def meet(self, name: str, give_up: Callable[[str, str], None]) -> tuple[Wait, bytes, Any] | None:
        """Take the first wait of a name with the first payload that fits it; None if there is no such pair.

        A payload that does not fit is given up, by its key and with the reason.
        """
        early, waits = self._early.get(name), self._waits.get(name)
        while early and waits:
            key, data = early.popleft()
            if not early:
                del self._early[name]
            try:
                value = waits[0].decode(data)
            except PayloadError as error:
                # When it came, it could not be known yet that it would not fit.
                give_up(key, str(error))
                continue
            wait = waits.popleft()
            if not waits:
                del self._waits[name]
            return wait, data, value
        return None

    def refuses(self, name: str, data: bytes) -> str | None:
        """Return why a payload fits neither a wait nor the declared signal; None if it may fit."""
        try:
            check(data, f"signal {name!r}", self._limits)
            # Its turn comes after the signals that came earlier.
            earlier, waits = len(self._early.get(name, ())), self._waits.get(name, ())
            declared = self._declared.get(name)
            if earlier < len(waits):
                waits[earlier].decode(data)
            elif declared is not None:
                declared.parameters.decode(data)
        except PayloadError as error:
            return str(error)
        return None

    @property
    def awaited_names(self) -> list[str]:
        return list(self._waits)

    def awaited(self, name: str) -> Codec | None:
        """Return the type of the first wait of a name that no signal has come for; None if it has none."""
        try:
            return None if self._early.get(name) else self._waits[name][0].codec
        except LookupError:
            return None  # there is none, or another thread has just taken it
