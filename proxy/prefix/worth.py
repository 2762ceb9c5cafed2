"""When a breakpoint pays: what a written prefix costs against what reading it again spares. Pure arithmetic."""

import math

FEW = 6.0
"""How many sightings of its own a place needs before they weigh as much as those of its like."""


def break_even(*, read: float, write: float) -> float:
    """The chance of being read again in time above which writing a prefix is cheaper than not caching it.

    With chance q a token costs q·read + (1 - q)·write, without a cache 1.
    """
    if write <= 1.0:
        return 0.0
    return math.inf if read >= 1.0 else (write - 1.0) / (write - read)


def cost(q: float, *, read: float, write: float) -> float:
    """What a token of a marked prefix costs on average, as a multiple of a plain one."""
    return q * read + (1.0 - q) * write


def rate_needed(*, read: float, write: float, ttl_s: float) -> float:
    """Requests an hour that a prefix must be asked for, at random times, so that marking it pays."""
    q = break_even(read=read, write=write)
    return math.inf if q >= 1.0 else -math.log(1.0 - q) / ttl_s * 3600.0


def blended(again: float, lapsed: float, prior: float, *, weight: float = FEW) -> float:
    """The chance that something seen *again* so many times, and *lapsed* so many, is seen again: drawn to *prior*."""
    return (again + weight * prior) / (again + lapsed + weight)
