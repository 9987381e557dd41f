"""Mutants that no test can or has to notice, by module, each with the reason."""

from __future__ import annotations

EXPLAINED: dict[str, dict[str, str]] = {}
