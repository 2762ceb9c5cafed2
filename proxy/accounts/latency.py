"""Seconds by class: what percentiles are read from."""

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

_EDGES_S = [1e-6 * 1.2**step for step in range(140)]
"""Upper edges of the latency classes, 20 % apart, from a microsecond to about 28 hours."""

_MICROSECONDS = 1_000_000


def place(seconds: float) -> int:
    """The class that *seconds* belong to."""
    return bisect_left(_EDGES_S, seconds)


@dataclass(slots=True)
class Latency:
    """A histogram of seconds; percentiles are right to 20 %."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(_EDGES_S) + 1))
    count: int = 0
    total_s: float = 0.0
    most_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.put(seconds, place(seconds))

    def put(self, seconds: float, at: int) -> None:
        """Count one whose class is known to be *at*."""
        self.counts[at] += 1
        self.count += 1
        self.total_s += seconds
        self.most_s = max(self.most_s, seconds)

    def merge(self, other: "Latency") -> None:
        """Add what *other* counted."""
        if other.count:
            self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
            self.count += other.count
            self.total_s += other.total_s
            self.most_s = max(self.most_s, other.most_s)

    def numbers(self) -> Iterator[tuple[str, int]]:
        """What was counted, by name, as numbers that others can be added to; zeros left out."""
        for at, count in enumerate(self.counts):
            if count:
                yield str(at), count
        if self.count:
            yield "us", round(self.total_s * _MICROSECONDS)

    def take(self, name: str, number: int) -> None:
        """Add one of those numbers; the longest is then known by its class alone."""
        if name == "us":
            self.total_s += number / _MICROSECONDS
        elif name.isdecimal() and int(name) < len(self.counts):
            at = int(name)
            self.counts[at] += number
            self.count += number
            self.most_s = max(self.most_s, _EDGES_S[min(at, len(_EDGES_S) - 1)])

    def classes(self, step: int) -> list[tuple[float, int]]:
        """Every *step*-th upper edge with how many stayed under it; the last edge is infinite."""
        sums, seen = [], 0
        for at, count in enumerate(self.counts):
            seen += count
            if at % step == 0 and at < len(_EDGES_S):
                sums.append((_EDGES_S[at], seen))
        return [*sums, (math.inf, seen)]

    def percentile(self, share: float) -> float:
        """Seconds that *share* of all stayed under; 0 where there are none."""
        rank = math.ceil(share * self.count)
        seen = 0
        for edge, count in zip(_EDGES_S, self.counts, strict=False):
            seen += count
            if seen >= rank > 0:
                return min(edge, self.most_s)
        return self.most_s

    def shown(self) -> dict[str, float]:
        """As JSON, in milliseconds."""
        figures = {"p50": self.percentile(0.5), "p90": self.percentile(0.9), "p99": self.percentile(0.99)}
        shown: dict[str, float] = {"count": self.count}
        for name, seconds in figures.items():
            shown[name] = round(seconds * 1000, 3)
        shown["mean"] = round(self.total_s / self.count * 1000, 3) if self.count else 0.0
        shown["max"] = round(self.most_s * 1000, 3)
        return shown
