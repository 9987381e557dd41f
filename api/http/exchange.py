"""One request and its answer, as the protection around an application and the guard inside it see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .access import Access
    from .asgi import ASGIScope

_KEY: Final = "persistasaurus.exchange"


class Exchange:
    """What is known of a request on its way. Made by `protected`, and found in the ASGI scope."""

    def __init__(
        self,
        access: Access | None,
        *,
        on_stream: Callable[[], None] = lambda: None,
        on_signal: Callable[[str], None] = lambda _flow_id: None,
    ) -> None:
        self.access = access
        """Who asks; None when that is not known."""
        self.public = False
        """Set by the guard: the route that was found is open to everybody."""
        self.stream = on_stream
        """Takes one of the caller's streams, and lifts the deadline of the request."""
        self.signal = on_signal
        """Takes one signal from what a flow may be sent in a while."""

    def enter(self, scope: ASGIScope) -> None:
        """Put the exchange where `exchange_of` finds it."""
        scope[_KEY] = self


def exchange_of(scope: Mapping[str, object]) -> Exchange | None:
    """Find the exchange of a request; None when nothing protects the application."""
    found = scope.get(_KEY)
    return found if isinstance(found, Exchange) else None
