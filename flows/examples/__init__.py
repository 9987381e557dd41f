"""The seeds' flows, for demos, tests and reading."""

from __future__ import annotations

from .hello import HelloWorldFlow
from .signup import SignupFlow, signup_flow

__all__ = ["HelloWorldFlow", "SignupFlow", "signup_flow"]
