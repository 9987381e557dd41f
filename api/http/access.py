"""Who may do what over HTTP: for applications that authenticate their own users.

An access check is a callable that finds out who sends a request: `Tokens`, `OpenToAll()`, or one of your own
that returns an `Access`. `Guarding` guards your own routes, each of which declares a `Scope`; the guard's
module says how.
"""

from __future__ import annotations

from .contract.guard import Guarding, declared, guard
from .middleware.identity import EVERYTHING, Access, AccessCheck, OpenToAll, Scope
from .middleware.request_context import access_of

__all__ = [
    "EVERYTHING",
    "Access",
    "AccessCheck",
    "Guarding",
    "OpenToAll",
    "Scope",
    "access_of",
    "declared",
    "guard",
]
