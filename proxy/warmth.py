"""What a repeat would have cost at the provider: its prompt cache would still have been warm from the time before."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from proxy.model import Entry, Key
from proxy.money import Cost
from proxy.prefix.rules import Rule, Semantics
from proxy.till import Till
from proxy.usage import Usage

MAX_KEYS = 65_536
"""Entries of which the last use is remembered. One that is forgotten counts from when it was made."""

AUTOMATIC = frozenset({Semantics.BLOCK, Semantics.UNIT})
"""Where the provider's prompt cache holds whole prompts without being asked to."""


class Warmth:
    """Prices hits, and what is left of them once the provider's prompt cache has had its part."""

    def __init__(self) -> None:
        self._last: OrderedDict[Key, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Warmth of {len(self._last)} entries>"

    def cost(
        self, entry: Entry, usage: Usage | None, now: float, *, till: Till, rule: Callable[[], Rule]
    ) -> Cost | None:
        """What the answer of *entry*, whose usage is *usage*, costs *now*; None where it has no price.

        Asking is a use: the next repeat finds the provider's cache warm from this one.
        """
        found = till.cost(entry.model, entry.service_tier, usage, now)
        if found is None or usage is None:
            return found
        there = rule()
        last = self._used(entry, now)
        warm = warm_tokens(there, usage) if now - last < there.ttl_s else 0
        if warm <= usage.cached_tokens:
            return found
        would = till.cost(
            entry.model,
            entry.service_tier,
            replace(usage, cached_tokens=warm, cache_write_tokens=0, cache_write_1h_tokens=0),
            now,
        )
        return found if would is None else replace(found, usd_net=min(found.usd, would.usd))

    def _used(self, entry: Entry, now: float) -> float:
        """When *entry* was used last, or was made; from now on that is *now*."""
        last = self._last.pop(entry.key, entry.created)
        self._last[entry.key] = now
        if len(self._last) > MAX_KEYS:
            self._last.popitem(last=False)
        return max(last, entry.created)


def warm_tokens(rule: Rule, usage: Usage) -> int:
    """How much of the prompt of *usage* a prompt cache that holds all it can would have read."""
    if rule.semantics in AUTOMATIC or rule.implicit:
        whole = usage.input_tokens // rule.step_tokens * rule.step_tokens
        return whole if whole >= rule.min_tokens else 0
    if rule.semantics is Semantics.BREAKPOINT:
        # Only what the client had marked: it was read then, or written to be read.
        return usage.cached_tokens + usage.cache_write_tokens
    return 0
