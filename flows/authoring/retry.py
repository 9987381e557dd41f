"""When, and how many times, a failed step is retried."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass, fields
from datetime import timedelta
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

from ..errors import FlowDefinitionError

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, kw_only=True)
class Retry:
    """A step's retry policy: exponential backoff with jitter, counted in failed attempts.

    `max_attempts` includes the first one. Waits start at `initial`, grow by `factor` and end at
    `maximum`; each is shortened by a fraction of up to `jitter`, derived from the flow and the attempt, so
    that replays and tests see the same waits. Only errors that are instances of `on`
    and not of `give_up_on` are retried. The waits are durable: they survive restarts.

    Raises:
        FlowDefinitionError: an option is invalid; the message says what to write instead.
    """

    max_attempts: int = 3
    initial: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    maximum: timedelta = timedelta(minutes=5)
    jitter: float = 0.1
    on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    # Type checkers know the options; without one, the error says what to write.
    if not TYPE_CHECKING:

        def __new__(cls, *args: Any, **options: Any) -> Self:
            _check_options(tuple(field.name for field in fields(cls)), args, options)
            return super().__new__(cls)

    def __post_init__(self) -> None:
        attempts: Any = self.max_attempts
        if type(attempts) is not int or attempts < 1:
            raise FlowDefinitionError(
                f"Retry(max_attempts={attempts!r}): a whole number, of at least 1, since the first attempt"
                " counts; to retry without end, give a large one"
            )
        for option in ("initial", "maximum"):
            duration_of("Retry", option, getattr(self, option))
        if self.maximum < self.initial:
            raise FlowDefinitionError(
                f"Retry(initial={self.initial!r}, maximum={self.maximum!r}): the first wait cannot exceed the"
                " maximum; raise `maximum` too"
            )
        if not _is_number(self.factor) or self.factor < 1:
            raise FlowDefinitionError(
                f"Retry(factor={self.factor!r}): a finite number of 1 or more; 1 makes all waits equal"
            )
        if not _is_number(self.jitter) or not 0 <= self.jitter <= 1:
            raise FlowDefinitionError(f"Retry(jitter={self.jitter!r}): give a fraction between 0 and 1")
        for option in ("on", "give_up_on"):
            object.__setattr__(self, option, _classes(option, getattr(self, option)))
        if not self.on:
            raise FlowDefinitionError(
                "Retry(on=()): no error would be retried; leave `on` out to retry every Exception, or"
                " leave out the policy"
            )

    def covers(self, error: BaseException) -> bool:
        """Return whether the policy retries after this error."""
        return isinstance(error, self.on) and not isinstance(error, self.give_up_on)

    def wait(self, failures: int, error: BaseException | None, salt: str) -> int | None:
        """Return the microseconds to wait after the given number of failures, or None to give up.

        Pass None for an error of another process, which has checked it there.
        """
        if failures >= self.max_attempts:
            return None
        if error is not None and not self.covers(error):
            return None
        if not self.initial:
            return 0
        ceiling = self.maximum // timedelta(microseconds=1)
        try:
            wait = self.initial // timedelta(microseconds=1) * self.factor ** (failures - 1)
        except OverflowError:
            wait = ceiling
        # A fraction in [0, 1), the same in every process.
        digest = hashlib.blake2b(f"{salt}/{failures}".encode(), digest_size=6).digest()
        return int(min(wait, ceiling) * (1 - self.jitter * int.from_bytes(digest) / 2**48))


def _check_options(known: tuple[str, ...], args: tuple[Any, ...], options: dict[str, Any]) -> None:
    if args:
        meant = f"max_attempts={args[0]!r}" if type(args[0]) is int else f"{known[0]}=..."
        raise FlowDefinitionError(
            f"Retry({args[0]!r}): options are given by name: write Retry({meant}). They are"
            f" {', '.join(known)}"
        )
    odd = next((option for option in options if option not in known), None)
    if odd is not None:
        near = next((name for name in known if odd in name or name in odd), None)
        meant = near or next(iter(get_close_matches(odd, known, 1)), None)
        write = f": write Retry({meant}={options[odd]!r})" if meant else ""
        raise FlowDefinitionError(f"Retry has no option {odd!r}{write}. It takes {', '.join(known)}")


def duration_of(what: str, option: str, value: Any) -> timedelta:
    """Return an option that is a duration; raise `FlowDefinitionError` if it is not, or negative."""
    if isinstance(value, timedelta):
        if value >= timedelta():
            return value
        raise FlowDefinitionError(f"{what}: {option}={value!r} is negative: give 0 or more")
    instead = "give a timedelta of 0 or more"
    if isinstance(value, (int, float)) and _is_number(value) and value >= 0:
        instead = f"write {option}=timedelta(seconds={value!r})"
    raise FlowDefinitionError(f"{what}: {option}={value!r} is not a duration: {instead}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _classes(option: str, given: Any) -> tuple[type[BaseException], ...]:
    kinds = tuple(cast("list[Any]", given)) if isinstance(given, (tuple, list, set, frozenset)) else (given,)
    for kind in kinds:
        if not (inspect.isclass(kind) and issubclass(kind, BaseException)):
            raise FlowDefinitionError(
                f"Retry({option}=...): {kind!r} is not an exception class; write the classes themselves, as"
                f" in {option}=(ConnectionError, TimeoutError)"
            )
    return kinds
