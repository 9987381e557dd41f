"""How often, and when, a failed step is tried again."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import msgspec

from .errors import FlowDefinitionError


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """A step's retry policy: exponential backoff with jitter, counted in failed attempts.

    `max_attempts` includes the first one. Waits start at `initial`, grow by `factor` and end at
    `maximum`; each is shortened by a share of up to `jitter` that is derived from the flow and the
    attempt, so that a replay and a test see the same. Only errors that are instances of `on`
    and not of `give_up_on` are retried. The waits are durable: they survive restarts.
    """

    max_attempts: int = 3
    initial: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    maximum: timedelta = timedelta(minutes=5)
    jitter: float = 0.1
    on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could never work."""
        if self.max_attempts < 1:
            raise FlowDefinitionError(f"Retry(max_attempts={self.max_attempts}): at least 1 attempt is made")
        if self.initial < timedelta() or self.maximum < self.initial or not self.factor >= 1:
            raise FlowDefinitionError("Retry: 0 <= initial <= maximum, and factor >= 1")
        if not 0 <= self.jitter <= 1:
            raise FlowDefinitionError(f"Retry(jitter={self.jitter}): a share between 0 and 1")

    def wait(self, failures: int, error: BaseException | None, salt: str) -> int | None:
        """Return the microseconds to wait after the given number of failures, or None to give up.

        An error that is not at hand as an exception (it came from another process) is retried.
        """
        if failures >= self.max_attempts:
            return None
        if error is not None and (not isinstance(error, self.on) or isinstance(error, self.give_up_on)):
            return None
        ceiling = self.maximum // timedelta(microseconds=1)
        try:
            wait = self.initial // timedelta(microseconds=1) * self.factor ** (failures - 1)
        except OverflowError:
            wait = ceiling
        return int(min(wait, ceiling) * (1 - self.jitter * _share(f"{salt}/{failures}")))


def _share(salt: str) -> float:
    """Return a number in [0, 1) that is the same for the same salt, everywhere and always."""
    return int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=6).digest()) / 2**48
