"""A client that asks the cache before it asks the provider."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proxy import canonical
from proxy.accounts.money import PARTS
from proxy.accounts.pricing import Prices
from proxy.accounts.till import Till
from proxy.accounts.usage import Usage
from proxy.byhand import CHAT, content
from proxy.canonical import Unfit
from proxy.errors import CacheError
from proxy.guide.tiered import CacheTier, TieredCache, TieredCacheResult
from proxy.model import WHOLE

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedResponse:
    """An answer, and where it came from."""

    content: str
    cached: bool
    cache_tier: CacheTier | None = None
    latency_ms: float = 0.0
    cost: float = 0.0
    """In dollars; 0 where it came from the cache, and where the model has no price."""


class CachedLLMClient:
    """``openai.AsyncOpenAI``, or any client of its shape, behind *cache*.

    A request is known by all of its messages, its model, temperature and limit of tokens; only what was asked at
    temperature 0 is kept. Prices are those of the provider that *client* speaks to, or that *provider* names.
    """

    def __init__(
        self,
        client: Any,  # noqa: ANN401
        cache: TieredCache,
        enable_caching: bool = True,
        *,
        provider: str = "",
    ) -> None:
        self.client = client
        self.cache = cache
        self.enable_caching = enable_caching
        self._till = Till(Prices(), upstream=provider or str(getattr(client, "base_url", "")) or "openai")
        self._requests = self._cached = 0
        self._spent = self._saved = 0

    def __repr__(self) -> str:
        return f"<CachedLLMClient, {self._cached} of {self._requests} from {self.cache!r}>"

    async def chat(
        self,
        messages: Sequence[dict[str, Any]],
        model: str = "gpt-4o-mini",
        temperature: float = 0,
        max_tokens: int | None = None,
        use_cache: bool = True,
    ) -> CachedResponse:
        """The answer to *messages*."""
        start = time.perf_counter()
        self._requests += 1
        asked: dict[str, Any] = {"model": model, "messages": list(messages), "temperature": temperature}
        if max_tokens is not None:
            asked["max_tokens"] = max_tokens
        request = _spelled(asked) if self.enable_caching and use_cache else None
        if request is not None:
            found = await self._look_up(request, messages)
            if found is not None and found.response is not None and found.known is not None:
                self._cached += 1
                self._saved += self._cost(found.known.model or model, "", found.known.usage)
                return CachedResponse(
                    content=found.response, cached=True, cache_tier=found.tier, latency_ms=_since(start)
                )
        answer = _whole(await self.client.chat.completions.create(**asked))
        weighed = CHAT.examine(answer, WHOLE)
        cost = self._cost(weighed.model or model, weighed.service_tier, weighed.usage)
        self._spent += cost
        if request is not None and temperature == 0:
            await self._keep(request, answer)
        return CachedResponse(content=content(answer) or "", cached=False, latency_ms=_since(start), cost=cost / PARTS)

    async def _look_up(self, request: bytes, messages: Sequence[dict[str, Any]]) -> TieredCacheResult | None:
        try:
            return await self.cache.look_up(request, _last_prompt(messages))
        except CacheError as error:
            log.warning("the cache failed; the provider is asked: %s", error)
            return None

    async def _keep(self, request: bytes, answer: bytes) -> None:
        try:
            await self.cache.keep(request, answer)
        except CacheError as error:
            log.warning("the cache failed; an answer is not kept: %s", error)

    def _cost(self, model: str, tier: str, usage: Usage | None) -> int:
        cost = self._till.cost(model, tier, usage, time.time())
        return cost.usd if cost is not None else 0

    def get_stats(self) -> dict[str, object]:
        """``total_requests``, ``cached_requests``, ``cache_rate``, dollars, and those of the cache."""
        spent, saved = self._spent, self._saved
        return {
            "total_requests": self._requests,
            "cached_requests": self._cached,
            "cache_rate": self._cached / self._requests if self._requests else 0,
            "total_cost": spent / PARTS,
            "saved_cost": saved / PARTS,
            "savings_rate": saved / (spent + saved) if spent + saved else 0,
            "cache_stats": self.cache.get_stats(),
        }


def _spelled(asked: dict[str, Any]) -> bytes | None:
    """The request, as it is known by; None where it cannot be told from others."""
    try:
        body = json.dumps(asked, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError):
        return None
    return None if isinstance(canonical.read(body), Unfit) else body


def _whole(response: Any) -> bytes:  # noqa: ANN401
    """What the provider answered, as JSON."""
    dump = getattr(response, "model_dump", None)
    if callable(dump):
        return json.dumps(dump(mode="json", exclude_unset=True), separators=(",", ":")).encode()
    return json.dumps(response, default=vars, separators=(",", ":")).encode()


def _last_prompt(messages: Sequence[dict[str, Any]]) -> str:
    """The last thing that the user said, as far as it is text."""
    said = [message.get("content") for message in messages if message.get("role") == "user"]
    return said[-1] if said and isinstance(said[-1], str) else ""


def _since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
