"""Answers to questions of the same meaning: one threshold, or one that follows what people say of the answers."""

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from proxy import guards
from proxy.byhand import ByHand, Known, Question
from proxy.embedders.local import LocalModel
from proxy.encoder import places
from proxy.errors import EmbedderError
from proxy.guide.hand import MAX_BYTES, Found, call, hand
from proxy.model import Judgement, Neighbour
from proxy.ports import Embedder, Vectors
from proxy.semantic.bars import AdaptiveBar, FixedBar
from proxy.settings import SemanticSettings
from proxy.stores.memory import MemoryStore
from proxy.stores.shelf import MemoryShelf
from proxy.tasks import Tasks
from proxy.tiers.semantic import SemanticTier
from proxy.vectors.block import BlockIndex

DEADLINE_S = 30.0
"""How long an embedding model may take: here nobody waits for a proxy."""

INDEX_BYTES = 256 * 1024 * 1024


class EmbeddingModel(Protocol):
    """What makes vectors of texts."""

    async def embed(self, texts: list[str]) -> Sequence[Sequence[float]]:
        """One vector for each of *texts*, in order."""
        ...


class SemanticCache:
    """Answers by meaning, within one model and one system prompt.

    *embedding_model* is anything with ``async embed(texts)``; without one it is the model on this machine. Numbers,
    names, negations and their like are compared word for word besides.
    """

    _policy = "fixed"

    def __init__(
        self,
        embedding_model: EmbeddingModel | None = None,
        similarity_threshold: float = 0.95,
        max_entries: int = 10_000,
        default_ttl: float = 3600,
    ) -> None:
        self.embedding_model = embedding_model
        self.max_entries = max_entries
        self.default_ttl = default_ttl
        self._settings = SemanticSettings(policy=self._policy, threshold=similarity_threshold, deadline_s=DEADLINE_S)
        self._bar = self._new_bar(similarity_threshold)
        self._store = MemoryStore(max_bytes=MAX_BYTES)
        self._tasks = Tasks()
        self._found = Found()
        self._hand: ByHand | None = None
        self._tier: SemanticTier | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.similarity_threshold:.2f}, {len(self._store)} entries>"

    def _new_bar(self, threshold: float) -> FixedBar:
        return FixedBar(threshold)

    @property
    def similarity_threshold(self) -> float:
        """How near a question has to be."""
        return self._bar.threshold

    @similarity_threshold.setter
    def similarity_threshold(self, threshold: float) -> None:
        self._bar.threshold = threshold

    async def get(self, prompt: str, model: str | None = None, system_prompt: str | None = None) -> str | None:
        """The answer to a question of the meaning of *prompt*, or None."""
        known = await self.look_up(Question(prompt=prompt, model=model or "", system_prompt=system_prompt).body)
        return known.text if known is not None else None

    async def set(
        self,
        prompt: str,
        response: str,
        model: str | None = None,
        ttl: float | None = None,
        system_prompt: str | None = None,
    ) -> None:
        """Keep *response* as the answer to *prompt*, for *ttl* seconds."""
        question = Question(prompt=prompt, model=model or "", system_prompt=system_prompt)
        hand = await self._ready(prompt)
        await hand.put(call(question.body), question, response, ttl_s=ttl)
        await self._make_room()

    async def look_up(self, request: bytes) -> Known | None:
        """What is kept for a whole chat *request*, or for one that differs in its last question alone."""
        known = await self._hand.look_up(call(request)) if self._hand is not None else None
        self._found.count(hit=known is not None)
        return known

    async def keep(self, request: bytes, answer: bytes) -> bool:
        """Keep a provider's *answer* to a chat *request*, if it is whole and good."""
        hand = await self._ready("")
        kept = await hand.put_whole(call(request), answer, ttl_s=None)
        await self._make_room()
        return kept

    @property
    def hit_rate(self) -> float:
        """The share of look-ups that found something."""
        return self._found.rate

    def get_stats(self) -> dict[str, object]:
        """``entries``, ``hits``, ``misses``, ``hit_rate``, ``similarity_threshold``."""
        shown = {"entries": len(self._store), **self._found.shown()}
        return {**shown, "similarity_threshold": self.similarity_threshold}

    async def close(self) -> None:
        """Let go of the model and of what goes on in the background."""
        await self._tasks.close()
        if self._tier is not None:
            await self._tier.close()

    async def _ready(self, text: str) -> ByHand:
        """The hand, made at first need: only then is it known how long the vectors are."""
        if self._hand is not None:
            return self._hand
        model = self.embedding_model
        embedder: Embedder
        if model is None:
            embedder = local = LocalModel(places.find("") or places.home())
            load = local.start
        else:
            embedder = given = Given(model)
            load = given.start
        await load()
        tier = SemanticTier(
            self._settings,
            embedder=embedder,
            verifier=GuardsAlone(),
            index=BlockIndex(dimension=embedder.dimension, max_bytes=INDEX_BYTES),
            store=self._store,
            shelf=MemoryShelf(),
            bar=self._bar,
            tasks=self._tasks,
            keeps_vectors=False,
            now=time.time,
            chance=random.random,
        )
        await tier.begin(_nothing)
        self._tier = tier
        self._hand = hand(self._store, tier, self._settings, ttl_s=self.default_ttl, tasks=self._tasks)
        return self._hand

    async def _make_room(self) -> None:
        if len(self._store) <= self.max_entries:
            return
        kept = sorted([entry async for entry in self._store.entries()], key=lambda entry: entry.created)
        # A tenth at once, so that not every answer has to look through all.
        for entry in kept[: len(kept) - self.max_entries + self.max_entries // 10]:
            await self._store.drop(entry.key)


class AdaptiveCache(SemanticCache):
    """A ``SemanticCache`` whose threshold follows what is said of its answers."""

    _policy = "adaptive"

    def __init__(
        self,
        embedding_model: EmbeddingModel | None = None,
        initial_threshold: float = 0.95,
        min_threshold: float = 0.90,
        max_threshold: float = 0.99,
        adaptation_rate: float = 0.01,
    ) -> None:
        self._adaptive = AdaptiveBar(initial_threshold, least=min_threshold, most=max_threshold, step=adaptation_rate)
        super().__init__(embedding_model, similarity_threshold=initial_threshold)
        self._settings = replace(
            self._settings, min_threshold=min_threshold, max_threshold=max_threshold, threshold_step=adaptation_rate
        )

    def _new_bar(self, threshold: float) -> FixedBar:
        return self._adaptive

    @property
    def threshold(self) -> float:
        """How near a question has to be now."""
        return self.similarity_threshold

    def record_feedback(self, was_correct: bool) -> None:
        """Say whether an answer that was given was right: over the last hundred, from ten on, the threshold follows."""
        self._adaptive.judged("", self.threshold, right=was_correct)

    def get_stats(self) -> dict[str, object]:
        """``current_threshold``, ``recent_accuracy``, ``feedback_count``, and what every semantic cache shows."""
        shown = self._adaptive.shown()
        return {
            "current_threshold": self.threshold,
            "recent_accuracy": self._adaptive.accuracy,
            "feedback_count": shown["verdicts"],
            **super().get_stats(),
        }


class Given:
    """An ``Embedder`` on a model that somebody brought along."""

    def __init__(self, model: EmbeddingModel) -> None:
        self._model = model
        self.dimension = 0

    def __repr__(self) -> str:
        return f"<Given {self._model!r}>"

    @property
    def identity(self) -> str:
        """There is no other here."""
        return f"given:{type(self._model).__qualname__}"

    async def start(self) -> None:
        """Learn how long its vectors are."""
        self.dimension = int((await self.embed(["dimension"])).shape[1])

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One row of length 1 for each of *texts*."""
        try:
            rows = np.asarray(await self._model.embed(list(texts)), dtype=np.float32)
        except Exception as error:
            raise EmbedderError(f"the embedding model gave no vectors: {error}") from error
        lengths = np.linalg.norm(rows, axis=1, keepdims=True) if rows.ndim == 2 else np.zeros(1)
        if len(rows) != len(texts) or not lengths.all():
            raise EmbedderError("the embedding model gave other vectors than it was asked for")
        unit: Vectors = rows / lengths
        return unit

    async def close(self) -> None:
        """It is not ours."""


class GuardsAlone:
    """A ``Verifier`` without a model: what two texts must not differ in, and the cosine."""

    identity = "guards"

    async def judge(self, asked: str, neighbours: Sequence[Neighbour]) -> tuple[Judgement, ...]:
        """A judgement on each of *neighbours*."""
        mine = guards.parse(asked)
        return tuple(self._judge(mine, neighbour) for neighbour in neighbours)

    def _judge(self, mine: guards.Parsed, neighbour: Neighbour) -> Judgement:
        theirs = guards.parse(neighbour.text)
        fired = guards.fired(mine, theirs)
        vetoes = guards.vetoes(mine, theirs, fired)
        score = 0.0 if vetoes else neighbour.cosine
        return Judgement(score=score, fast=score, stage="guards", vetoes=vetoes, fired=fired)


async def _nothing() -> None:
    """It is loaded already."""
