"""The fixtures of the scenarios."""

from scenario.fixtures import signups, world

__all__ = ["signups", "world"]
