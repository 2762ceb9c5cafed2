"""The cache as a library, for programs without a proxy: the tiers behind small classes, and a client that uses them.

cache = TieredCache(ExactMatchCache(), SemanticCache(embedding_model))
client = CachedLLMClient(openai.AsyncOpenAI(), cache)
answer = await client.chat([{"role": "user", "content": "What is the capital of France?"}])
"""

from proxy.guide.client import CachedLLMClient, CachedResponse
from proxy.guide.exact import ExactMatchCache
from proxy.guide.prefix import PrefixCache, SystemPromptCache
from proxy.guide.semantic import AdaptiveCache, SemanticCache
from proxy.guide.tiered import CacheTier, TieredCache, TieredCacheResult

__all__ = [
    "AdaptiveCache",
    "CacheTier",
    "CachedLLMClient",
    "CachedResponse",
    "ExactMatchCache",
    "PrefixCache",
    "SemanticCache",
    "SystemPromptCache",
    "TieredCache",
    "TieredCacheResult",
]
