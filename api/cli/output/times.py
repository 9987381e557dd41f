"""Instants and durations, as people say them. Instants are microseconds since the epoch, UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from ....actors.handle import from_microseconds

__all__ = ["ago", "duration", "instant", "local_clock", "local_time", "since", "utc", "zone"]

_SECOND = 1_000_000
_UNITS = ((36 * 3_600, 86_400, "d"), (90 * 60, 3_600, "h"), (90, 60, "min"), (1, 1, "s"))
"""From how many seconds on a unit is used, how many it has, and what it is called."""


def utc(at: int) -> datetime:
    """Return an instant for JSON."""
    return from_microseconds(at)


def instant(at: datetime) -> int:
    """Return the microseconds of an instant."""
    return round((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * _SECOND)


def local_time(at: int) -> str:
    """Say an instant to the second, in the time of this place."""
    return _local(at).strftime("%Y-%m-%d %H:%M:%S")


def local_clock(at: int, now: int) -> str:
    """Say an instant to the millisecond: only the time of day if it is of today."""
    then = _local(at)
    day = "" if then.date() == _local(now).date() else f"{then:%Y-%m-%d} "
    return f"{day}{then:%H:%M:%S}.{then.microsecond // 1000:03}"


def zone(now: int) -> str:
    """Say what the time of this place is called."""
    offset = f"{_local(now):%z}"
    return "UTC" if offset == "+0000" else f"UTC{offset[:3]}:{offset[3:]}"


def duration(seconds: float) -> str:
    """Say how long something takes."""
    for least, size, unit in _UNITS:
        if round(seconds) >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1000:.0f} ms"


def ago(at: int, now: int) -> str:
    """Say how far an instant is away, back or ahead."""
    seconds = (now - at) / _SECOND
    if abs(seconds) < 1:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def since(at: int, now: int) -> str:
    """Say since when, and how long that is."""
    return f"since {local_time(at)} ({duration(max(0, now - at) / _SECOND)})"


def _local(at: int) -> datetime:
    then = utc(at)
    try:
        return then.astimezone()
    except (OverflowError, ValueError):  # the first or the last day there is, and elsewhere it is another
        return then
