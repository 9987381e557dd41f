"""Executions as sequence diagrams, and as paths through them. Pure: events in, text out."""

from __future__ import annotations

from .conformance import mismatch
from .drawing import Diagram, draw
from .grammar import DiagramError
from .roles import LEVELS, Level

__all__ = ["LEVELS", "Diagram", "DiagramError", "Level", "draw", "mismatch"]
