"""What an answer costs here and now: the price list, asked for one upstream, remembered for a minute."""

from dataclasses import replace
from datetime import UTC, datetime

from proxy.accounts import money
from proxy.accounts.money import Cost
from proxy.accounts.pricing import Prices
from proxy.accounts.usage import Usage

REMEMBERED = 4096
"""Costs of usages that were seen within the minute: a popular answer is priced once."""

MINUTE_S = 60
"""Prices change at the full minute at the earliest."""


class Till:
    """Knows whose prices hold. Not safe to use from several threads."""

    def __init__(self, prices: Prices, *, upstream: str) -> None:
        self._prices = prices
        self._upstream = upstream
        self._minute = -1
        self._known: dict[tuple[str, str, Usage], Cost | None] = {}

    def __repr__(self) -> str:
        return f"<Till, {self._prices!r} for {self._upstream}>"

    @property
    def as_of(self) -> str:
        """The day as of which the price list was checked."""
        return self._prices.as_of.isoformat()

    def cost(self, model: str, tier: str, usage: Usage | None, now: float) -> Cost | None:
        """What *usage* costs at *now* (seconds since the epoch); None where there are no tokens or no price."""
        if usage is None:
            return None
        minute = int(now // MINUTE_S)
        if minute != self._minute or len(self._known) >= REMEMBERED:
            self._known.clear()
            self._minute = minute
        key = (model, tier, usage)
        try:
            return self._known[key]
        except KeyError:
            found = self._known[key] = self._cost(model, tier, usage, now)
            return found

    def listed(self, model: str) -> bool:
        """Whether *model* is a name that stands in the price list, or among the operator's own prices."""
        return self._prices.listed(self._upstream, model)

    def _cost(self, model: str, tier: str, usage: Usage, now: float) -> Cost | None:
        price = self._prices.price(self._upstream, model, tier, datetime.fromtimestamp(now, UTC))
        if price is None:
            return None
        plain = replace(usage, cached_tokens=0, cached_audio_tokens=0, cache_write_tokens=0, cache_write_1h_tokens=0)
        return Cost(money.parts(price.cost(usage)), money.parts(price.cost(plain)))
