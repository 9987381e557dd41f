"""How deeply JSON is nested: looked up before decoding it, since a decoder uses the stack for it."""

from __future__ import annotations

import re

DEPTH_MAX = 200
"""The highest limit that anybody can ask for: on a stack of 128 KiB a decoder dies at some 400 levels."""

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS = re.compile(rb"[\[\]{}]")


def depth(data: bytes, enough: int) -> int:
    """Return how deeply JSON is nested; 0 when a glance shows that it is no deeper than `enough`."""
    if data.count(b"[") + data.count(b"{") <= enough:
        return 0
    deepest = level = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest
