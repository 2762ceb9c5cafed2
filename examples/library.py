import asyncio

from openai import AsyncOpenAI

from proxy.guide import CachedLLMClient, ExactMatchCache, TieredCache

client = CachedLLMClient(AsyncOpenAI(), TieredCache(ExactMatchCache()))
answer = asyncio.run(client.chat([{"role": "user", "content": "What is a cache?"}]))
print(answer.content)
