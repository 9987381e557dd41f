"""Exit codes, and what each help page ends in."""

from __future__ import annotations

__all__ = ["CODES", "DONE", "FAILED", "INTERRUPTED", "UNREAD", "UNUSABLE", "USAGE", "WAITS"]

DONE, FAILED, USAGE, UNUSABLE, WAITS = 0, 1, 2, 3, 4
INTERRUPTED, UNREAD = 130, 141
CODES = """Exit codes: 0, it came to its end. 1, it did not, and the message says why. 2, wrong usage, or an
extra is missing. 3, the store cannot be used. 4, the flow waits, and nobody was to wait for it.
130, Ctrl-C. 141, nobody reads the output any more.

`persistasaurus error CODE` explains the code in brackets after a message."""
