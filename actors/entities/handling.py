"""Which entity's handler runs on the calling thread."""

from __future__ import annotations

from ..runtime.primitives import ThreadLocal

__all__ = ["handling"]


class _Handling(ThreadLocal):
    """Per thread. While a handler waits, the same thread may run another one, which puts this back."""

    stream: str | None = None


handling = _Handling()
