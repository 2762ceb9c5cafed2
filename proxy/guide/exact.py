"""Answers to the very same question."""

from proxy.byhand import Known, Question
from proxy.guide.hand import MAX_BYTES, Found, call, hand
from proxy.ports import Store
from proxy.settings import SemanticSettings
from proxy.stores.memory import MemoryStore
from proxy.tasks import Tasks


class ExactMatchCache:
    """Exact answers, kept in *backend*: any store of this package, one in memory where there is none."""

    def __init__(self, backend: Store | None = None, default_ttl: float = 3600) -> None:
        self.backend: Store = backend if backend is not None else MemoryStore(max_bytes=MAX_BYTES)
        self.default_ttl = default_ttl
        self._found = Found()
        self._hand = hand(self.backend, None, SemanticSettings(policy="off"), ttl_s=default_ttl, tasks=Tasks())

    def __repr__(self) -> str:
        return f"<ExactMatchCache on {self.backend!r}>"

    async def get(
        self, prompt: str, model: str, temperature: float = 0, system_prompt: str | None = None
    ) -> str | None:
        """The answer to *prompt*, or None."""
        question = Question(prompt=prompt, model=model, temperature=temperature, system_prompt=system_prompt)
        known = await self.look_up(question.body)
        return known.text if known is not None else None

    async def set(
        self,
        prompt: str,
        model: str,
        response: str,
        temperature: float = 0,
        system_prompt: str | None = None,
        ttl: float | None = None,
    ) -> None:
        """Keep *response* as the answer to *prompt*, for *ttl* seconds."""
        question = Question(prompt=prompt, model=model, temperature=temperature, system_prompt=system_prompt)
        await self._hand.put(call(question.body), question, response, ttl_s=ttl)

    async def look_up(self, request: bytes) -> Known | None:
        """What is kept for a whole chat *request*."""
        known = await self._hand.look_up(call(request))
        self._found.count(hit=known is not None)
        return known

    async def keep(self, request: bytes, answer: bytes) -> bool:
        """Keep a provider's *answer* to a chat *request*, if it is whole and good."""
        return await self._hand.put_whole(call(request), answer, ttl_s=None)

    @property
    def hit_rate(self) -> float:
        """The share of look-ups that found something."""
        return self._found.rate

    def get_stats(self) -> dict[str, object]:
        """``hits``, ``misses``, ``hit_rate``."""
        return self._found.shown()
