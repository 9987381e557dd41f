"""How deeply JSON is nested: checked before decoding, since a decoder uses the stack."""

from __future__ import annotations

import re

DEPTH_MAX = 200
"""The highest limit that can be set: on a stack of 128 KiB a decoder dies at some 400 levels."""

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS = re.compile(rb"[\[\]{}]")


def depth(data: bytes, enough: int) -> int:
    """Return the nesting depth of JSON, or 0 if a glance shows that it is at most `enough`."""
    if data.count(b"[") + data.count(b"{") <= enough:
        return 0
    deepest = level = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest
