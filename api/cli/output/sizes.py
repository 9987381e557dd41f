"""Sizes and counts, as people say them."""

from __future__ import annotations

__all__ = ["counted", "size"]

_STEP = 1024
_DIGITS_FROM = 10


def size(count: int) -> str:
    """Say how much so many bytes are."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < _STEP:
            is_exact = unit == "bytes" or amount >= _DIGITS_FROM
            return f"{amount:.0f} {unit}" if is_exact else f"{amount:.1f} {unit}"
        amount /= _STEP
    return f"{amount:.1f} TiB"


def counted(count: int, what: str) -> str:
    """Say how many there are of something."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
