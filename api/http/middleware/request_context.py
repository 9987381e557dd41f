"""One request, as the protection around an application and the guard inside it share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from .problem import ProblemError, unauthenticated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .asgi import ASGIScope
    from .identity import Access

_KEY: Final = "persistasaurus.context"


class RoutePolicy(msgspec.Struct, frozen=True):
    """How a route admits unknown callers. It admits none unless it is `public`.

    `any_host`, `hidden_origin`, `origin`: see `Hosts.check`. `link` is the genuine link that was followed, if
    any. A route that is not `counted` is cheap, and has no rate limit.
    """

    public: bool = False
    any_host: bool = False
    hidden_origin: bool = False
    origin: str | None = None
    link: str | None = None
    counted: bool = True


class RequestContext:
    """What is known about a request so far. `protected` makes it and puts it into the ASGI scope."""

    def __init__(
        self,
        *,
        on_policy: Callable[[RoutePolicy], None],
        stream: Callable[[], None],
        signal: Callable[[str], None],
        wait: Callable[[Awaitable[Any]], Awaitable[Any]],
    ) -> None:
        self.access: Access | None = None
        """Who sends the request; None: that is not known."""
        self.policy: RoutePolicy | None = None
        """How the route that was found admits unknown callers; None: none was found yet."""
        self.stream = stream
        """Takes one of the caller's streams, and lifts the deadline of the request."""
        self.signal = signal
        """Takes one from the signals that a flow may be sent for now."""
        self.wait = wait
        """Waits for something that may take long. Raises TimeoutError when the server stops."""
        self._on_policy = on_policy
        self._refusal: ProblemError | None = None

    @property
    def is_public(self) -> bool:
        """Whether the route that was found is open to everyone."""
        return self.policy is not None and self.policy.public

    def enter(self, scope: ASGIScope) -> None:
        scope[_KEY] = self

    def enter_route(self, policy: RoutePolicy) -> None:
        """Admit the request to the route that was found, once. Raises ProblemError: 401, 403 or 429."""
        self.policy = policy
        try:
            self._on_policy(policy)
            if self.access is None and not policy.public:
                raise unauthenticated()
        except ProblemError as problem:
            self._refusal = problem
            raise

    def problem(self) -> ProblemError | None:
        """Return why the application's answer must not be sent, if it must not.

        A caller learns that something does not exist only if they could see it if it did; others are admitted
        nowhere.
        """
        if self.policy is None:
            try:
                self.enter_route(RoutePolicy())
            except ProblemError as problem:
                return problem
        return self._refusal


def context_of(scope: Mapping[str, object]) -> RequestContext | None:
    """Find the context of a request; None: the application is not protected."""
    found = scope.get(_KEY)
    return found if isinstance(found, RequestContext) else None


def access_of(scope: Mapping[str, object]) -> Access | None:
    """Return who sent the request; None: a public route was called without a token."""
    context = context_of(scope)
    return context.access if context else None
