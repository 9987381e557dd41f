"""What a flow requests when it awaits: the boundary between the authoring API and the flow machine.

A durable awaitable yields itself, as a `Request`, to the driver of the flow's coroutine. The driver answers
by resuming the coroutine.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from ..errors import AlreadyAwaitedError, NotInFlowError
from ..values.location import Location

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Generator
    from contextvars import Context
    from datetime import datetime, timedelta

    import msgspec

    from ..values.codec import Codec

T_co = TypeVar("T_co", covariant=True)


class Waiter(Protocol):
    """A part of a flow that waits for one outcome: a branch, or a slot in a `gather`."""

    def resolve(self, value: Any) -> None: ...

    def fail(self, error: BaseException) -> None: ...

    @property
    def location(self) -> Location:
        """Where in the source it waits."""
        ...

    @property
    def context(self) -> Context:
        """The context variables of the code that waits."""
        ...


class Driver(Protocol):
    """What the flow machine offers to the code that it drives."""

    @property
    def instance(self) -> Any:
        """The flow whose code it is; None for a module-level flow."""
        ...

    @property
    def flow_id(self) -> str: ...

    @property
    def flow_type(self) -> str:
        """The name under which the flow is stored."""
        ...

    @property
    def random(self) -> random.Random:
        """The flow's own randomness."""
        ...

    def log(self, say: Callable[[], None]) -> None:
        """Call `say`, unless a replay repeats it."""
        ...

    def now(self) -> datetime:
        """Return the time at which the flow last continued."""
        ...

    def seal(self, codec: Codec, values: msgspec.Struct) -> bytes:
        """Encode arguments, and check that they come back."""
        ...

    # `step` is a `Step`, whose module imports this one.
    def begin_step(self, step: Any, data: bytes, waiter: Waiter) -> None: ...

    def begin_timer(self, until: timedelta | datetime, waiter: Waiter) -> None: ...

    def begin_wait(self, name: str, step: Any, codec: Codec | None, waiter: Waiter) -> None: ...

    def begin_gather(
        self, branches: tuple[Awaitable[Any], ...], waiter: Waiter, *, return_exceptions: bool
    ) -> None: ...

    def forgotten(self, request: Request[Any], location: Location) -> None:
        """Note that the code made a request and dropped it without awaiting it."""
        ...


_driver: ContextVar[Driver | None] = ContextVar("persistasaurus_flow", default=None)

enter = _driver.set
leave = _driver.reset


def running() -> Driver | None:
    """Return the driver of the flow whose code is running here, if there is one."""
    return _driver.get()


def is_in_flow() -> bool:
    return _driver.get() is not None


def driver(what: object) -> Driver:
    """Return the driver of the flow whose code is running here.

    Raises:
        NotInFlowError: there is none; the message starts with `what`.
    """
    current = _driver.get()
    if current is None:
        raise NotInFlowError(
            f"{what} works inside a running flow only. In a flow body it is awaited; outside, start a flow"
            " with FlowSystem.start, and in a unit test of a step call its `.function`"
        )
    return current


class Request(Generic[T_co]):
    """Something durable that a flow can await, once. Nothing happens before."""

    __slots__ = ("is_begun",)

    no_value: ClassVar[str] = "write `await` in front of it"
    """What to do instead of storing it as a value."""

    def __init__(self) -> None:
        self.is_begun = False

    def __await__(self) -> Generator[Request[Any], Any, T_co]:
        if _driver.get() is None:
            driver(repr(self))
        return (yield self)

    def claim(self) -> None:
        """Mark it as awaited.

        Raises:
            AlreadyAwaitedError: it was awaited before.
        """
        if self.is_begun:
            raise AlreadyAwaitedError(
                f"{self!r} was awaited before, and it does its work once. Make a new call for each await, or"
                " keep the result of the first"
            )
        self.is_begun = True

    def begin(self, driver: Driver, waiter: Waiter) -> None:
        raise NotImplementedError

    # Uses of the result without an await. Type checkers report them, too.
    if not TYPE_CHECKING:

        def __bool__(self) -> bool:
            raise self._not_awaited("is not true or false")

        def __iter__(self) -> None:
            raise self._not_awaited("has no items")

        def __getitem__(self, key: object) -> None:
            raise self._not_awaited("has no items")

        def __getattr__(self, name: str) -> None:
            if name.startswith("_"):
                raise AttributeError(name)
            raise self._not_awaited(f"has no {name!r}", AttributeError)

        def _refuse_operator(self, *_: object) -> None:
            raise self._not_awaited("is not a value yet")

        __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __len__ = _refuse_operator
        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse_operator
        __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refuse_operator
        __neg__ = __abs__ = __round__ = __int__ = __float__ = __index__ = _refuse_operator
        __or__ = __ror__ = __and__ = __rand__ = _refuse_operator

    def _not_awaited(self, lacks: str, kind: type[Exception] = TypeError) -> Exception:
        return kind(f"{self!r} {lacks}: write `(await ...)` around the call, and use what comes of it")

    def __del__(self) -> None:
        # A statement `self.step()` drops its call right here, in the frame that lacks the await.
        if not self.is_begun and (driver := _driver.get()) is not None:
            frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - nothing else can tell where
            driver.forgotten(self, Location(frame.f_code.co_filename, frame.f_lineno))
