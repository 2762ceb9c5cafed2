"""What the provider's prompt cache did, by its own usage: tokens and signed dollars, and how well it was foretold."""

from dataclasses import dataclass, field

from proxy.accounts import money
from proxy.accounts.money import Cost
from proxy.accounts.usage import Usage

FEW_HELD_OUT = 20
"""With fewer requests held out nothing is claimed for what we did to the others."""


@dataclass(slots=True)
class Sums:
    """Requests of one kind whose usage is known."""

    requests: int = 0
    input: int = 0
    read: int = 0
    written: int = 0
    hits: int = 0
    usd: int = 0
    """What reading took off the list price, less what writing put on; in parts of a dollar, negative where it cost."""
    usd_list: int = 0
    unpriced: int = 0

    def add(self, usage: Usage, cost: Cost | None) -> None:
        """One more."""
        self.requests += 1
        self.input += usage.input_tokens
        self.read += usage.cached_tokens
        self.written += usage.cache_write_tokens
        self.hits += usage.cached_tokens > 0
        if cost is None:
            self.unpriced += 1
        else:
            self.usd += cost.usd_list - cost.usd
            self.usd_list += cost.usd_list

    def shown(self) -> dict[str, object]:
        """As JSON."""
        return {
            "requests": self.requests,
            "hits": self.hits,
            "input": self.input,
            "read": self.read,
            "written": self.written,
            "read_share": round(self.read / self.input, 4) if self.input else 0.0,
            "usd": money.text(self.usd) if self.usd >= 0 else f"-{money.text(-self.usd)}",
            "unpriced": self.unpriced,
        }


@dataclass(slots=True)
class Forecasts:
    """What was foretold against what came."""

    requests: int = 0
    foretold: int = 0
    read: int = 0
    close: int = 0
    """Requests where the two are no more than a block apart."""

    def add(self, foretold: int, read: int, *, block: int) -> None:
        """One more."""
        self.requests += 1
        self.foretold += foretold
        self.read += read
        self.close += abs(foretold - read) <= block

    def shown(self) -> dict[str, object]:
        """As JSON."""
        return {
            "requests": self.requests,
            "predicted_tokens": self.foretold,
            "actual_tokens": self.read,
            "within_a_block": self.close,
        }


@dataclass(slots=True)
class Account:
    """All of it. Never part of what the cache's own tiers saved."""

    observed: Sums = field(default_factory=Sums)
    """Requests that went as they came: the provider would have done it anyway."""
    acted: Sums = field(default_factory=Sums)
    """Requests that we steered or marked."""
    held_out: Sums = field(default_factory=Sums)
    """Requests like those, left alone on purpose, to compare with; they are among the observed, too."""
    without_usage: int = 0
    forecasts: Forecasts = field(default_factory=Forecasts)

    @property
    def attributed(self) -> int | None:
        """What our doing saved, in parts of a dollar: the acted-on against the held-out; None where too few are."""
        held = self.held_out
        if held.requests < FEW_HELD_OUT or not held.usd_list:
            return None
        return self.acted.usd - self.acted.usd_list * held.usd // held.usd_list

    def shown(self) -> dict[str, object]:
        """As JSON."""
        ours = self.attributed
        return {
            "without_usage": self.without_usage,
            "observed": self.observed.shown(),
            "acted": self.acted.shown(),
            "held_out": self.held_out.shown(),
            "attributed_usd": None if ours is None else f"-{money.text(-ours)}" if ours < 0 else money.text(ours),
            "forecast": self.forecasts.shown(),
        }
