"""Which spans of time are counted apart, and which of them a window looks at."""

from dataclasses import dataclass
from enum import StrEnum

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Period:
    """Spans of one length, one after the other since the epoch. Each has its page."""

    name: str
    length_s: int
    keep_s: float
    """How long a page is kept after its last addition."""

    def start(self, moment: float) -> int:
        """When the span began that *moment* lies in."""
        return int(moment // self.length_s) * self.length_s

    def page(self, moment: float) -> str:
        """The name of the page of the span that *moment* lies in."""
        return f"ledger.{self.name}.{self.start(moment)}"


MINUTE = Period("minute", 60, 2 * 3600.0)
HOUR = Period("hour", 3600, 9.0 * DAY_S)
DAY = Period("day", DAY_S, 400.0 * DAY_S)

PERIODS = (MINUTE, HOUR, DAY)

EVER = "ledger.ever"
"""The page of everything."""

KEEP_EVER_S = 3650.0 * DAY_S


class Window(StrEnum):
    """What one can look back on."""

    HOUR = "1h"
    """The last sixty minutes, the one that has begun included."""
    DAY = "24h"
    """The last twenty-four hours, the one that has begun included."""
    WEEK = "7d"
    """The last seven times twenty-four hours, the one that has begun included."""
    ALL = "all"
    """Everything since counting began; day by day for the last year."""


_STEPS = {Window.HOUR: (MINUTE, 60), Window.DAY: (HOUR, 24), Window.WEEK: (HOUR, 168), Window.ALL: (DAY, 366)}


def period(window: Window) -> Period:
    """The length of the steps in which *window* is counted."""
    return _STEPS[window][0]


def starts(window: Window, now: float) -> list[int]:
    """When the steps of *window* began, the last of them under way *now*."""
    each, count = _STEPS[window]
    last = each.start(now)
    return [last - step * each.length_s for step in reversed(range(count))]
