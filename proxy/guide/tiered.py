"""The tiers one after the other: the very same question, one of the same meaning, one that begins the same."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from proxy.byhand import Known, Question
from proxy.guide.exact import ExactMatchCache
from proxy.guide.prefix import PrefixCache
from proxy.guide.semantic import SemanticCache


class CacheTier(StrEnum):
    """What answered."""

    L1_EXACT = "l1_exact"
    L2_SEMANTIC = "l2_semantic"
    L3_PREFIX = "l3_prefix"
    """Nothing is answered, but the prompt begins like one before."""
    MISS = "miss"


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredCacheResult:
    """What a look-up came to."""

    hit: bool
    tier: CacheTier
    response: str | None = None
    similarity: float | None = None
    known: Known | None = None
    """Where there is a response, everything that is known of it."""


class TieredCache:
    """Asks each tier in turn, and keeps answers in all that they are for."""

    def __init__(
        self,
        exact_cache: ExactMatchCache,
        semantic_cache: SemanticCache | None = None,
        prefix_cache: PrefixCache[Any] | None = None,
    ) -> None:
        self.exact_cache = exact_cache
        self.semantic_cache = semantic_cache
        self.prefix_cache = prefix_cache
        self._found: dict[CacheTier, int] = dict.fromkeys(CacheTier, 0)

    def __repr__(self) -> str:
        return f"<TieredCache, {self.exact_cache!r}, {self.semantic_cache!r}>"

    async def get(
        self, prompt: str, model: str, temperature: float = 0, system_prompt: str | None = None
    ) -> TieredCacheResult:
        """What the tiers know of *prompt*."""
        question = Question(prompt=prompt, model=model, temperature=temperature, system_prompt=system_prompt)
        return await self.look_up(question.body, prompt)

    async def set(
        self, prompt: str, response: str, model: str, temperature: float = 0, system_prompt: str | None = None
    ) -> None:
        """Keep *response* as the answer to *prompt*; by meaning only where it was not sampled."""
        await self.exact_cache.set(prompt, model, response, temperature, system_prompt)
        if temperature == 0 and self.semantic_cache is not None:
            await self.semantic_cache.set(prompt, response, model, system_prompt=system_prompt)

    async def look_up(self, request: bytes, prompt: str = "") -> TieredCacheResult:
        """What the tiers know of a whole chat *request*, whose prefix is that of *prompt*."""
        result = await self._look_up(request, prompt)
        self._found[result.tier] += 1
        return result

    async def _look_up(self, request: bytes, prompt: str) -> TieredCacheResult:
        known = await self.exact_cache.look_up(request)
        if known is not None:
            return _answered(CacheTier.L1_EXACT, known)
        known = await self.semantic_cache.look_up(request) if self.semantic_cache is not None else None
        if known is not None:
            return _answered(CacheTier.L2_SEMANTIC, known)
        if self.prefix_cache is not None and self.prefix_cache.find_cached_prefix(prompt) is not None:
            return TieredCacheResult(hit=True, tier=CacheTier.L3_PREFIX)
        return TieredCacheResult(hit=False, tier=CacheTier.MISS)

    async def keep(self, request: bytes, answer: bytes) -> None:
        """Keep a provider's *answer* to a chat *request* in the tiers that it is for."""
        if await self.exact_cache.keep(request, answer) and self.semantic_cache is not None:
            await self.semantic_cache.keep(request, answer)

    def get_stats(self) -> dict[str, object]:
        """``tier_hits``, ``tier_rates``, ``total_requests``, ``overall_hit_rate``, and those of the tiers."""
        total = sum(self._found.values())
        found = {str(tier): count for tier, count in self._found.items()}
        return {
            "tier_hits": found,
            "tier_rates": {tier: count / total if total else 0 for tier, count in found.items()},
            "total_requests": total,
            "overall_hit_rate": (total - self._found[CacheTier.MISS]) / total if total else 0,
            "exact_cache": self.exact_cache.get_stats(),
            "semantic_cache": self.semantic_cache.get_stats() if self.semantic_cache is not None else {},
        }


def _answered(tier: CacheTier, known: Known) -> TieredCacheResult:
    return TieredCacheResult(hit=True, tier=tier, response=known.text, similarity=known.similarity, known=known)
