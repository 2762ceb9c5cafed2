"""What a repeat would have cost at the provider: its prompt cache would still have been warm from the time before."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from proxy.accounts.money import Cost
from proxy.accounts.till import Till
from proxy.accounts.usage import Usage
from proxy.model import Entry, Key
from proxy.prefix.rules import Rule, Semantics

MAX_KEYS = 65_536
"""Entries of which the last use is remembered. One that is forgotten counts from when it was made."""

AUTOMATIC = frozenset({Semantics.BLOCK, Semantics.UNIT})
"""Where the provider's prompt cache holds whole prompts without being asked to."""


@dataclass(slots=True)
class _Use:
    """The last use of an entry, and what it came to."""

    at: float
    rule: Rule
    cost: Cost | None = None
    net: Cost | None = None
    """*cost* with the part of a warm prompt cache taken off."""


class Warmth:
    """Prices hits, and what is left of them once the provider's prompt cache has had its part."""

    def __init__(self) -> None:
        self._uses: OrderedDict[Key, _Use] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Warmth of {len(self._uses)} entries>"

    def cost(
        self, entry: Entry, usage: Usage | None, now: float, *, till: Till, rule: Callable[[], Rule]
    ) -> Cost | None:
        """What the answer of *entry*, whose usage is *usage*, costs *now*; None where it has no price.

        Asking is a use: the next repeat finds the provider's cache warm from this one.
        """
        found = till.cost(entry.model, entry.service_tier, usage, now)
        if found is None or usage is None:
            return found
        use = self._use(entry, rule)
        warm = now - max(use.at, entry.created) < use.rule.ttl_s
        use.at = now
        if not warm:
            return found
        # The till gives one and the same cost for a while, and popular entries are asked for all the time.
        if use.cost is not found:
            use.cost, use.net = found, _net(found, entry, usage, now, till=till, rule=use.rule)
        return use.net

    def _use(self, entry: Entry, rule: Callable[[], Rule]) -> _Use:
        use = self._uses.get(entry.key)
        if use is not None:
            self._uses.move_to_end(entry.key)
            return use
        use = self._uses[entry.key] = _Use(entry.created, rule())
        if len(self._uses) > MAX_KEYS:
            self._uses.popitem(last=False)
        return use


def _net(found: Cost, entry: Entry, usage: Usage, now: float, *, till: Till, rule: Rule) -> Cost:
    """*found* with what a warm prompt cache would have taken off."""
    warm = warm_tokens(rule, usage)
    if warm <= usage.cached_tokens:
        return found
    cached = replace(usage, cached_tokens=warm, cache_write_tokens=0, cache_write_1h_tokens=0)
    would = till.cost(entry.model, entry.service_tier, cached, now)
    return found if would is None else replace(found, usd_net=min(found.usd, would.usd))


def warm_tokens(rule: Rule, usage: Usage) -> int:
    """How much of the prompt of *usage* a prompt cache that holds all it can would have read."""
    if rule.semantics in AUTOMATIC or rule.implicit:
        whole = usage.input_tokens // rule.step_tokens * rule.step_tokens
        return whole if whole >= rule.min_tokens else 0
    if rule.semantics is Semantics.BREAKPOINT:
        # Only what the client had marked: it was read then, or written to be read.
        return usage.cached_tokens + usage.cache_write_tokens
    return 0
