"""US dollars as whole numbers, so that sums of them are exact, and how they are written."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

PARTS = 10**12
"""A dollar in the smallest part that is counted. The cheapest published token costs a few thousand of these."""

MOST = Decimal(10**9)
"""Dollars beyond this for one answer come from a setting or a usage gone wrong; adding them would spoil every sum."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one answer costs, in parts of a dollar."""

    usd: int
    """As the usage was recorded: with what the provider's prompt cache took off, or put on for writing."""
    usd_list: int
    """As if there were no prompt cache."""
    usd_net: int | None = None
    """Where a repeat was spared: what it would have cost with the prompt cache warm from the time before, at the least;
    None where that is the first figure."""

    @property
    def net(self) -> int:
        """What is left when the prompt cache has had its part."""
        return self.usd if self.usd_net is None else self.usd_net


def parts(dollars: Decimal) -> int:
    """*dollars* in whole parts, rounded half to even: the one place where anything is rounded."""
    return int((min(dollars, MOST) * PARTS).to_integral_value(ROUND_HALF_EVEN))


def text(counted: int) -> str:
    """*counted* parts as dollars in plain decimal digits, twelve after the point at most."""
    if counted < 0:
        return f"-{text(-counted)}"
    whole, rest = divmod(counted, PARTS)
    return f"{whole}.{rest:012d}".rstrip("0") if rest else str(whole)
