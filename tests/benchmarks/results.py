"""What a run has found: figures by round, and what is made of them."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Key = str
"""`contender/workload/figure`, or `measure/figure`."""


class Results:
    """Figures of all rounds. Ratios are taken within a round, where both sides had the same neighbours."""

    def __init__(self) -> None:
        self.figures: dict[Key, dict[int, float]] = {}
        self.skipped: dict[str, str] = {}
        """Why a contender or a measure was left out."""
        self.versions: dict[str, dict[str, str]] = {}
        """By contender, what it is made of."""
        self.provenance: dict[str, str] = {}

    def add(self, prefix: str, round_number: int, figures: dict[str, float]) -> None:
        """Add figures of a round."""
        for name, value in figures.items():
            self.figures.setdefault(f"{prefix}/{name}", {})[round_number] = value

    def median(self, key: Key) -> float | None:
        """Return the median of a figure, if there is one."""
        values = self.figures.get(key)
        return statistics.median(values.values()) if values else None

    def ratio(self, key: Key, over: Key) -> float | None:
        """Return the median of the ratios of two figures, of the rounds that have both."""
        ratios = self.ratios(key, over)
        return statistics.median(ratios) if ratios else None

    def ratios(self, key: Key, over: Key) -> list[float]:
        """Return the ratio of two figures for each round that has both."""
        above, below = self.figures.get(key, {}), self.figures.get(over, {})
        return [above[number] / below[number] for number in sorted(above.keys() & below.keys())]

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        path.write_text(json.dumps(vars(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` has written."""
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = cls()
        vars(found).update(kept)
        found.figures = {
            key: {int(number): value for number, value in values.items()}
            for key, values in kept["figures"].items()
        }
        return found
