"""Sizes, counts, instants and durations in words. Instants are microseconds since the epoch, UTC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....actors.handle import from_microseconds

if TYPE_CHECKING:
    from datetime import datetime

_SECOND = 1_000_000
_STEP = 1024
_DIGITS_FROM = 10
_UNITS = ((36 * 3_600, 86_400, "d"), (90 * 60, 3_600, "h"), (90, 60, "min"), (1, 1, "s"))
"""From how many seconds on a unit is used, how many it has, and what it is called."""


def size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < _STEP:
            is_exact = unit == "bytes" or amount >= _DIGITS_FROM
            return f"{amount:.0f} {unit}" if is_exact else f"{amount:.1f} {unit}"
        amount /= _STEP
    return f"{amount:.1f} TiB"


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def local_time(at: int) -> str:
    """Return an instant to the second, in local time."""
    return _local(at).strftime("%Y-%m-%d %H:%M:%S")


def local_clock(at: int, now: int) -> str:
    """Return an instant to the millisecond, in local time; the date only if it is not today."""
    then = _local(at)
    day = "" if then.date() == _local(now).date() else f"{then:%Y-%m-%d} "
    return f"{day}{then:%H:%M:%S}.{then.microsecond // 1000:03}"


def zone(now: int) -> str:
    """Return the name of the local time zone."""
    offset = f"{_local(now):%z}"
    return "UTC" if offset == "+0000" else f"UTC{offset[:3]}:{offset[3:]}"


def duration(seconds: float) -> str:
    for least, size, unit in _UNITS:
        if round(seconds) >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1000:.0f} ms"


def ago(at: int, now: int) -> str:
    """Return how far away an instant is, in the past or the future."""
    seconds = (now - at) / _SECOND
    if abs(seconds) < 1:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def since(at: int, now: int) -> str:
    """Return since when, and for how long."""
    return f"since {local_time(at)} ({duration(max(0, now - at) / _SECOND)})"


def _local(at: int) -> datetime:
    then = from_microseconds(at)
    try:
        return then.astimezone()
    except (OverflowError, ValueError):  # the first or the last day there is, and elsewhere it is another
        return then
