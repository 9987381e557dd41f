"""Sizes and counts in words."""

from __future__ import annotations

_STEP = 1024
_DIGITS_FROM = 10


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
