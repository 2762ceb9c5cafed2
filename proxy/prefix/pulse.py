"""How often something happens: a rate a minute that forgets."""

import math

MEMORY_S = 60.0
"""After so long without a beat a third of the rate is left."""


class Pulse:
    """A rate, smoothed over about a minute."""

    __slots__ = ("_at", "_count")

    def __init__(self) -> None:
        self._at = 0.0
        self._count = 0.0

    def __repr__(self) -> str:
        return f"<Pulse {self.per_minute(self._at):.1f}/min>"

    def beat(self, now: float, *, times: float = 1.0) -> None:
        """It happened."""
        self._count = self._left(now) + times
        self._at = now

    def per_minute(self, now: float) -> float:
        """Beats a minute, as of *now*."""
        return self._left(now) * 60.0 / MEMORY_S

    def _left(self, now: float) -> float:
        return self._count * math.exp(-max(0.0, now - self._at) / MEMORY_S) if self._count else 0.0
