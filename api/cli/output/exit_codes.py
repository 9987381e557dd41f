"""The exit codes, and the text about them that ends each help page."""

from __future__ import annotations

DONE, FAILED, USAGE, UNUSABLE, WAITS = 0, 1, 2, 3, 4
INTERRUPTED, UNREAD = 130, 141
CODES = """Exit codes: 0, success. 1, failure; the message says why. 2, wrong usage, or a missing extra.
3, the store cannot be used. 4, no answer within the time given; the request is recorded.
130, Ctrl-C. 141, the reader of the output has gone.

`persistasaurus error CODE` explains the code in brackets after a message."""
