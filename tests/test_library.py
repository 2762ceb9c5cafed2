"""The cache as a library: the same tiers behind small classes, and a client that uses them."""

import asyncio
import hashlib
import json
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.guide import (
    AdaptiveCache,
    CachedLLMClient,
    CachedResponse,
    CacheTier,
    ExactMatchCache,
    PrefixCache,
    SemanticCache,
    SystemPromptCache,
    TieredCache,
)
from proxy.stores.memory import MemoryStore
from tests import answers
from tests.answers import compact
from tests.scripted_provider import ScriptedProvider, steps

T = TypeVar("T")
MODEL = "gpt-4o-mini"


def run(work: Coroutine[Any, Any, T]) -> T:
    """What *work* comes to."""
    return asyncio.run(work)


class Words:
    """An embedding model: a text is the sum of its words."""

    def __init__(self) -> None:
        self.asked = 0

    async def embed(self, texts: list[str]) -> Sequence[Sequence[float]]:
        self.asked += 1
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        vector = [0.01] * 64
        for word in text.lower().strip("?.").split():
            vector[hashlib.sha256(word.encode()).digest()[0] % 64] += 1
        return vector


class Broken:
    """An embedding model that is away."""

    async def embed(self, texts: list[str]) -> Sequence[Sequence[float]]:
        raise OSError("away")


# The very same question.


def test_the_same_question_has_its_answer_and_another_has_none() -> None:
    async def play() -> None:
        cache = ExactMatchCache()
        assert await cache.get("What is rain?", MODEL) is None
        await cache.set("What is rain?", MODEL, "Water.")
        assert await cache.get("What is rain?", MODEL) == "Water."
        assert await cache.get("What is rain?", "other") is None
        assert await cache.get("What is rain?", MODEL, 0.5) is None
        assert await cache.get("What is rain?", MODEL, 0, "Be brief.") is None
        assert await cache.get("What is rain? ", MODEL) is None
        assert cache.get_stats() == {"hits": 1, "misses": 5, "hit_rate": 1 / 6}
        assert cache.hit_rate == 1 / 6

    run(play())


def test_an_answer_expires_and_can_be_kept_in_any_store() -> None:
    async def play() -> None:
        now = [1000.0]
        store = MemoryStore(max_bytes=1 << 20, now=lambda: now[0])
        cache = ExactMatchCache(store, default_ttl=1e9)
        await cache.set("a", MODEL, "b")
        assert len(store) == 1
        assert await cache.get("a", MODEL) == "b"
        now[0] = 1e12
        assert await cache.get("a", MODEL) is None

    run(play())


@given(st.text(max_size=30), st.text(max_size=30), st.text(min_size=1, max_size=20))
def test_any_text_is_kept_as_it_is(prompt: str, answer: str, system: str) -> None:
    async def play() -> None:
        cache = ExactMatchCache()
        await cache.set(prompt, MODEL, answer, system_prompt=system)
        assert await cache.get(prompt, MODEL, system_prompt=system) == answer

    run(play())


# A question of the same meaning.


def test_a_question_of_the_same_meaning_has_the_answer() -> None:
    async def play() -> None:
        cache = SemanticCache(Words(), similarity_threshold=0.8)
        assert await cache.get("How do I bake white bread?") is None
        await cache.set("How do I bake white bread?", "Knead it.")
        assert await cache.get("How do I bake white bread?") == "Knead it."
        assert await cache.get("how do i bake some white bread") == "Knead it."
        assert await cache.get("Why does the moon wane so slowly?") is None
        stats = cache.get_stats()
        assert stats == {"entries": 1, "hits": 2, "misses": 2, "hit_rate": 0.5, "similarity_threshold": 0.8}
        await cache.close()

    run(play())


@pytest.mark.parametrize("other", [{"model": "other"}, {"system_prompt": "Be brief."}])
def test_meaning_is_compared_within_one_model_and_system_prompt(other: dict[str, str]) -> None:
    async def play() -> None:
        cache = SemanticCache(Words(), similarity_threshold=0.8)
        await cache.set("How do I bake white bread?", "Knead it.")
        assert await cache.get("How do I bake some white bread?", **other) is None
        await cache.close()

    run(play())


def test_numbers_are_not_taken_for_one_another_however_near_the_texts_are() -> None:
    async def play() -> None:
        cache = SemanticCache(Words(), similarity_threshold=0.5)
        await cache.set("What is 15 percent of 200 euros?", "30 euros.")
        assert await cache.get("What is 25 percent of 200 euros?") is None
        await cache.close()

    run(play())


def test_the_threshold_can_be_moved() -> None:
    async def play() -> None:
        cache = SemanticCache(Words(), similarity_threshold=0.999)
        await cache.set("How do I bake white bread?", "Knead it.")
        assert await cache.get("How do I bake some white bread?") is None
        cache.similarity_threshold = 0.8
        assert await cache.get("How do I bake some white bread?") == "Knead it."
        await cache.close()

    run(play())


def test_no_more_is_kept_than_there_may_be() -> None:
    async def play() -> None:
        cache = SemanticCache(Words(), max_entries=10)
        for number in range(30):
            await cache.set(f"Question number {number}?", "x")
            assert cache.get_stats()["entries"] <= 10  # type: ignore[operator]
        await cache.close()

    run(play())


def test_the_threshold_follows_what_is_said_of_the_answers() -> None:
    async def play() -> None:
        cache = AdaptiveCache(Words())
        for _ in range(9):
            cache.record_feedback(False)
        assert cache.threshold == 0.95
        cache.record_feedback(False)
        assert cache.threshold == pytest.approx(0.96)
        for _ in range(10):
            cache.record_feedback(False)
        assert cache.threshold == pytest.approx(0.99)
        for _ in range(120):
            cache.record_feedback(True)
        assert cache.threshold == pytest.approx(0.90, abs=0.02)
        await cache.set("How do I bake white bread?", "Knead it.")
        assert await cache.get("how do i bake white bread?") == "Knead it."
        stats = cache.get_stats()
        assert (stats["recent_accuracy"], stats["feedback_count"], stats["entries"]) == (1.0, 100, 1)
        assert stats["current_threshold"] == stats["similarity_threshold"] == cache.threshold
        await cache.close()

    run(play())


# A prompt that begins the same.


def test_the_longest_prefix_that_is_kept_is_found() -> None:
    cache: PrefixCache[str] = PrefixCache(min_prefix_length=3)
    cache.cache_prefix("ab", "too short")
    cache.cache_prefix("abc", "short")
    cache.cache_prefix("abcdef", "long")
    assert cache.find_cached_prefix("abcdefgh") == ("abcdef", "long")
    assert cache.find_cached_prefix("abcdeX") == ("abc", "short")
    assert cache.find_cached_prefix("ab") is None
    assert cache.find_cached_prefix("") is None
    assert cache.get_stats() == {"entries": 2, "hits": 2, "misses": 2, "hit_rate": 0.5}


@given(st.lists(st.text("ab", min_size=1, max_size=6), max_size=8), st.text("ab", max_size=10))
def test_no_longer_prefix_is_overlooked(prefixes: list[str], prompt: str) -> None:
    cache: PrefixCache[str] = PrefixCache(min_prefix_length=1)
    for prefix in prefixes:
        cache.cache_prefix(prefix, prefix)
    longest = max((each for each in prefixes if prompt.startswith(each)), key=len, default=None)
    assert cache.find_cached_prefix(prompt) == (None if longest is None else (longest, longest))


def test_the_least_used_prefix_gives_way() -> None:
    cache: PrefixCache[int] = PrefixCache(max_entries=2, min_prefix_length=1)
    cache.cache_prefix("a", 1)
    cache.cache_prefix("b", 2)
    assert cache.find_cached_prefix("ax") == ("a", 1)
    cache.cache_prefix("c", 3)
    assert cache.find_cached_prefix("bx") is None
    assert cache.find_cached_prefix("ax") == ("a", 1)


def test_a_system_prompt_is_worked_on_once() -> None:
    made: list[str] = []
    cache: SystemPromptCache[int] = SystemPromptCache(max_prompts=1)

    def make(prompt: str) -> int:
        made.append(prompt)
        return len(made)

    assert [cache.get_or_create(each, make) for each in ("a", "a", "b", "a")] == [1, 1, 2, 3]
    assert made == ["a", "b", "a"]
    assert cache.get_stats() == {"entries": 1, "hits": 1, "misses": 3, "hit_rate": 0.25}


# One after the other.


def test_the_tiers_are_asked_in_turn() -> None:
    async def play() -> None:
        prefixes: PrefixCache[str] = PrefixCache(min_prefix_length=3)
        prefixes.cache_prefix("Once upon", "state")
        cache = TieredCache(ExactMatchCache(), SemanticCache(Words(), similarity_threshold=0.8), prefixes)
        await cache.set("How do I bake white bread?", "Knead it.", MODEL)
        await cache.set("Roll a die", "4", MODEL, temperature=1)
        exact = await cache.get("How do I bake white bread?", MODEL)
        assert (exact.hit, exact.tier, exact.response, exact.similarity) == (True, CacheTier.L1_EXACT, "Knead it.", 1.0)
        near = await cache.get("How do I bake some white bread?", MODEL)
        assert (near.tier, near.response) == (CacheTier.L2_SEMANTIC, "Knead it.")
        assert near.similarity is not None
        assert 0.8 <= near.similarity < 1
        begun = await cache.get("Once upon a time", MODEL)
        assert (begun.hit, begun.tier, begun.response) == (True, CacheTier.L3_PREFIX, None)
        missed = await cache.get("Roll a large die", MODEL, temperature=1)
        assert (missed.hit, missed.tier) == (False, CacheTier.MISS)
        stats = cache.get_stats()
        assert stats["tier_hits"] == {"l1_exact": 1, "l2_semantic": 1, "l3_prefix": 1, "miss": 1}
        assert stats["tier_rates"] == dict.fromkeys(["l1_exact", "l2_semantic", "l3_prefix", "miss"], 0.25)
        assert (stats["total_requests"], stats["overall_hit_rate"]) == (4, 0.75)
        assert set(stats) > {"exact_cache", "semantic_cache"}

    run(play())


# The real client.


def client_of(provider: ScriptedProvider, nonce: str) -> openai.AsyncOpenAI:
    """The real client, straight to the provider."""
    return openai.AsyncOpenAI(
        base_url=f"{provider.origin}/v1", api_key="sk-x", max_retries=0, default_headers={"x-nonce": nonce}
    )


def user(text: str) -> dict[str, str]:
    """One turn."""
    return {"role": "user", "content": text}


def test_the_real_client_asks_once(provider: ScriptedProvider, nonce: str) -> None:
    async def play() -> None:
        async with client_of(provider, nonce) as real:
            client = CachedLLMClient(real, TieredCache(ExactMatchCache()), provider="openai")
            first = await client.chat([user(f"Say {nonce}")], model=MODEL)
            second = await client.chat([user(f"Say {nonce}")], model=MODEL)
            other = await client.chat([user(f"Say {nonce}")], model=MODEL, use_cache=False)
        assert isinstance(first, CachedResponse)
        assert (first.cached, first.cache_tier, second.cached, second.cache_tier) == (
            False,
            None,
            True,
            CacheTier.L1_EXACT,
        )
        assert first.content == second.content != ""
        assert not other.cached
        assert first.cost > second.cost == 0
        assert first.latency_ms > 0
        stats = client.get_stats()
        assert (stats["total_requests"], stats["cached_requests"]) == (3, 1)
        assert stats["cache_rate"] == 1 / 3
        assert stats["total_cost"] == pytest.approx(2 * first.cost)
        assert stats["saved_cost"] == pytest.approx(first.cost)
        assert stats["savings_rate"] == pytest.approx(1 / 3)
        assert stats["cache_stats"]["total_requests"] == 2  # type: ignore[index]

    run(play())
    asked = [json.loads(bytes(request.body)) for request in provider.requests(nonce)]
    assert asked == [{"messages": [user(f"Say {nonce}")], "model": MODEL, "temperature": 0}] * 2


def test_conversations_are_known_by_all_of_their_turns(provider: ScriptedProvider, nonce: str) -> None:
    async def play() -> None:
        async with client_of(provider, nonce) as real:
            client = CachedLLMClient(real, TieredCache(ExactMatchCache(), SemanticCache(Words())))
            for before in ("Shall I order?", "Shall I cancel?", "Shall I order?"):
                turns = [user(f"{before} {nonce}"), {"role": "assistant", "content": "Sure?"}, user("Yes")]
                await client.chat(turns)
            await client.chat([user("Yes")])
            await client.chat([user(f"{nonce} limited")], max_tokens=5)
            await client.chat([user(f"{nonce} limited")], max_tokens=6)

    run(play())
    assert len(provider.requests(nonce)) == 5


def test_what_was_put_into_the_cache_answers_the_client(provider: ScriptedProvider, nonce: str) -> None:
    async def play() -> None:
        cache = TieredCache(ExactMatchCache(), SemanticCache(Words(), similarity_threshold=0.8))
        await cache.set("How do I bake white bread?", "Knead it.", MODEL, system_prompt="Be brief.")
        async with client_of(provider, nonce) as real:
            client = CachedLLMClient(real, cache)
            system = {"role": "system", "content": "Be brief."}
            exact = await client.chat([system, user("How do I bake white bread?")], MODEL)
            near = await client.chat([system, user("How do I bake some white bread?")], MODEL)
        assert (exact.content, exact.cache_tier) == ("Knead it.", CacheTier.L1_EXACT)
        assert (near.content, near.cache_tier) == ("Knead it.", CacheTier.L2_SEMANTIC)

    run(play())
    assert provider.requests(nonce) == []


def test_sampled_and_broken_answers_are_not_kept(provider: ScriptedProvider, nonce: str) -> None:
    cut = answers.whole(answers.chat_body("It is cut o", finish="length"))
    provider.on(nonce, steps(cut), steps(cut), steps(answers.whole(answers.chat_body("Well."))))

    async def play() -> list[bool]:
        async with client_of(provider, nonce) as real:
            client = CachedLLMClient(real, TieredCache(ExactMatchCache()))
            got = [await client.chat([user(f"A {nonce}")]) for _ in range(2)]
            got += [await client.chat([user(f"B {nonce}")], temperature=1) for _ in range(2)]
            return [each.cached for each in got]

    assert run(play()) == [False] * 4


def test_a_cache_that_fails_costs_a_hit_and_no_answer(provider: ScriptedProvider, nonce: str) -> None:
    async def play() -> None:
        async with client_of(provider, nonce) as real:
            client = CachedLLMClient(real, TieredCache(ExactMatchCache(), SemanticCache(Broken())))
            first = await client.chat([user(f"A {nonce}")])
            assert first.content
            assert (await client.chat([user(f"A {nonce}")])).cached

    run(play())


def test_any_client_of_that_shape_will_do() -> None:
    class Completions:
        async def create(self, **asked: object) -> object:
            return json.loads(answers.chat_body(f"Heard {len(compact(asked))} bytes."))

    class Chat:
        completions = Completions()

    class Client:
        chat = Chat()

    async def play() -> None:
        client = CachedLLMClient(Client(), TieredCache(ExactMatchCache()))
        assert (await client.chat([user("a")])).content.startswith("Heard ")
        assert (await client.chat([user("a")])).cached

    run(play())
