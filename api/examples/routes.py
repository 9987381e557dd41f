"""All routes of the example application."""

from __future__ import annotations

from typing import Final

from .hello_world import HELLO_ROUTES
from .signups import SIGNUP_ROUTES

EXAMPLE_ROUTES: Final = [*HELLO_ROUTES, *SIGNUP_ROUTES]
"""To be given to `asgi_app(..., routes=EXAMPLE_ROUTES)`, over a system with the example flows."""
