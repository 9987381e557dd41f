"""Bar charts as SVG: a few lines of our own, readable on white and on black."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

OURS = "#1b8a6b"
OTHERS = "#7b7b7b"
TEXT = "#767676"
WIDTH, NAMES, LABELS = 760, 250, 110
ROW, BAR, TOP = 26, 16, 34


class Bar(NamedTuple):
    """One bar: what it is of, how long it is, what stands beside it, and whether it is ours."""

    name: str
    value: float
    label: str
    is_ours: bool


def chart(title: str, bars: list[Bar]) -> str:
    """Draw bars below each other, in their order."""
    longest = max(bar.value for bar in bars)
    height = TOP + ROW * len(bars) + 6
    spoken = f"{title}: " + "; ".join(f"{bar.name}, {bar.label}" for bar in bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"',
        f'  aria-label="{escape(spoken)}" font-family="system-ui, sans-serif" font-size="13" fill="{TEXT}">',
        f'<text x="0" y="16" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        top = TOP + ROW * number
        colour = OURS if bar.is_ours else OTHERS
        length = max(1.0, bar.value / longest * (WIDTH - NAMES - LABELS))
        middle = top + BAR - 4
        lines += [
            f'<text x="{NAMES - 10}" y="{middle}" text-anchor="end">{escape(bar.name)}</text>',
            f'<rect x="{NAMES}" y="{top}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
            f'<text x="{NAMES + length + 8:.1f}" y="{middle}">{escape(bar.label)}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
