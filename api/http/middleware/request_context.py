"""One request and its answer, as the protection around an application and the guard inside it see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from .problem import ProblemError, unauthenticated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .asgi import ASGIScope
    from .identity import Access

_KEY: Final = "persistasaurus.context"

T = TypeVar("T")


class RoutePolicy(msgspec.Struct, frozen=True):
    """How a route lets somebody in who is not known. Nobody, unless it is `public`.

    `any_host`, `hidden_origin`, `origin`: see `Hosts.check`. `link` is the genuine link that was followed, if
    one was; a route that is not `counted` costs next to nothing, and is answered however often it is asked.
    """

    public: bool = False
    any_host: bool = False
    hidden_origin: bool = False
    origin: str | None = None
    link: str | None = None
    counted: bool = True


class RequestContext:
    """What is known of a request on its way. Made by `protected`, and found in the ASGI scope."""

    def __init__(
        self,
        access: Access | None,
        *,
        on_policy: Callable[[RoutePolicy], None] = lambda _policy: None,
        on_stream: Callable[[], None] = lambda: None,
        on_signal: Callable[[str], None] = lambda _flow_id: None,
        on_wait: Callable[[Awaitable[Any]], Awaitable[Any]] = lambda answer: answer,
    ) -> None:
        self.access = access
        """Who asks; None when that is not known."""
        self.policy: RoutePolicy | None = None
        """How the route that was found lets somebody in; None: none was found yet."""
        self.stream = on_stream
        """Takes one of the caller's streams, and lifts the deadline of the request."""
        self.signal = on_signal
        """Takes one signal from what a flow may be sent in a while."""
        self._on_policy = on_policy
        self._on_wait = on_wait
        self._refusal: ProblemError | None = None

    @property
    def is_public(self) -> bool:
        """Tell whether the route that was found is open to everybody."""
        return self.policy is not None and self.policy.public

    def enter(self, scope: ASGIScope) -> None:
        """Put the context where `context_of` finds it."""
        scope[_KEY] = self

    def enter_route(self, policy: RoutePolicy) -> None:
        """Let the request in to the route that was found, once.

        Raises:
            ProblemError: 401, 403 or 429.
        """
        self.policy = policy
        try:
            self._on_policy(policy)
            if self.access is None and not policy.public:
                raise unauthenticated()
        except ProblemError as problem:
            self._refusal = problem
            raise

    def problem(self) -> ProblemError | None:
        """Tell why the application's answer must not be heard, if it must not.

        What is not there is told to those only who may ask for what is: they are let in nowhere else.
        """
        if self.policy is None:
            try:
                self.enter_route(RoutePolicy())
            except ProblemError as problem:
                return problem
        return self._refusal

    async def wait(self, answer: Awaitable[T]) -> T:
        """Wait for something that may take long.

        Raises:
            TimeoutError: the server stops, so that nobody should wait here any longer.
        """
        found: T = await self._on_wait(answer)
        return found


def context_of(scope: Mapping[str, object]) -> RequestContext | None:
    """Find the context of a request; None when nothing protects the application."""
    found = scope.get(_KEY)
    return found if isinstance(found, RequestContext) else None


def access_of(scope: Mapping[str, object]) -> Access | None:
    """Tell who sent the request; None on public routes that were called without a token."""
    context = context_of(scope)
    return context.access if context else None
