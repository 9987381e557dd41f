"""Executions as sequence diagrams, and the check of executions against diagrams.

Events in, text out; on any thread.
"""

from __future__ import annotations

from .conformance import assert_matches_diagram, mismatch
from .diagram import Diagram, draw, svg
from .grammar import DiagramError
from .items import LEVELS, Level

__all__ = ["LEVELS", "Diagram", "DiagramError", "Level", "assert_matches_diagram", "draw", "mismatch", "svg"]
