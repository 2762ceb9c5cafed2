"""Recall against false hits per hit, as an SVG without any help."""

import math
from collections.abc import Mapping, Sequence
from html import escape

Point = tuple[float, float, str]
"""False hits per hit, recall, and what it is."""

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 440, 64, 56, 40
LEAST, MOST = 0.002, 0.6
"""The ends of the logarithmic scale of false hits; what is less is drawn at the least."""
TICKS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7c3aed")


def draw(title: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """The picture."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for tick in TICKS:
        x = _x(tick)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick * 100:g} %</text>')
    for tenths in range(0, 11, 2):
        y = _y(tenths / 10)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - 20}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tenths * 10} %</text>')
    middle = (LEFT + WIDTH - 20) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">false hits per hit</text>')
    parts.append(f'<text x="16" y="{HEIGHT / 2}" transform="rotate(-90 16 {HEIGHT / 2})">recall of repeats</text>')
    for at, (name, points) in enumerate(lines.items()):
        colour = COLOURS[at % len(COLOURS)]
        ordered = sorted(points)
        path = " ".join(f"{_x(wrong):.1f},{_y(recall):.1f}" for wrong, recall, _ in ordered)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for wrong, recall, what in ordered:
            x, y = _x(wrong), _y(recall)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            parts.append(f'<text x="{x + 6:.1f}" y="{y - 6:.1f}" fill="{colour}" font-size="10">{escape(what)}</text>')
        parts.append(f'<text x="{WIDTH - 200}" y="{TOP + 16 + 16 * at}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(share: float) -> float:
    at = math.log(min(MOST, max(LEAST, share)) / LEAST) / math.log(MOST / LEAST)
    return LEFT + at * (WIDTH - 20 - LEFT)


def _y(share: float) -> float:
    return TOP + (1 - share) * (HEIGHT - BOTTOM - TOP)
