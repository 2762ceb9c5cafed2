"""Vectors from an endpoint that speaks OpenAI's embeddings: the provider, or a server of one's own."""

import asyncio
import json
from collections.abc import Callable, Sequence

import numpy as np

from proxy.accounts.usage import MAX_TOKENS, Usage
from proxy.errors import EmbedderError, UpstreamError
from proxy.headers import Fields
from proxy.ports import Vectors
from proxy.providers.upstream import Upstream
from proxy.stores.guard import Guard

MAX_ANSWER_BYTES = 64 * 1024 * 1024

MAX_DIMENSION = 8192

PROBES = ("how do I reset my password", "what is the capital of Chile")
ALIKE = 0.999

Spent = Callable[[str, Usage], None]
"""Told the model and the usage of each call, for the books."""


class HttpEmbedder:
    """An ``Embedder`` at *upstream*. Calls are bounded in number and in time; one that keeps failing is left alone.

    Concurrent texts go out together as soon as a call is free, *batch_texts* at most in each.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        target: str,
        model: str,
        key: str,
        batch_texts: int,
        max_waiting: int,
        max_calls: int,
        deadline_s: float,
        spent: Spent,
    ) -> None:
        self._upstream = upstream
        self._target = target.encode()
        self._model = model
        self._key = key
        self._batch_texts = batch_texts
        self._max_waiting = max_waiting
        self._deadline_s = deadline_s
        self._spent = spent
        self._guard = Guard("the embedder")
        self._calls = asyncio.Semaphore(max_calls)
        self._waiting = 0
        self._dimension = 0
        self._checked = False

    def __repr__(self) -> str:
        return f"<HttpEmbedder {self._model} at {self._upstream!r}, {self._waiting} texts waiting>"

    @property
    def identity(self) -> str:
        """Where and which model; the endpoint may change what stands behind that name, which no client can see."""
        return f"http:{self._upstream.origin.identity.decode()}:{self._target.decode()}:{self._model}"

    @property
    def dimension(self) -> int:
        """How long its vectors are; 0 before the first."""
        return self._dimension

    @property
    def resting(self) -> bool:
        """It failed too often in a row and is not asked for now."""
        return self._guard.resting

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """A row of length 1 for each of *texts*.

        Raises:
            EmbedderError: the endpoint failed, or too many texts wait for it already.
            CacheError: it took too long, or is left alone after faults.
        """
        if self._waiting + len(texts) > self._max_waiting:
            raise EmbedderError(f"{self._waiting} texts wait to be embedded already")
        self._waiting += len(texts)
        try:
            if not self._checked:
                await self._check()
            parts = [texts[at : at + self._batch_texts] for at in range(0, len(texts), self._batch_texts)]
            return np.concatenate([await self._part(part) for part in parts])
        finally:
            self._waiting -= len(texts)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._upstream.close()

    async def _check(self) -> None:
        """See, before the first text, that it tells two texts apart: a broken model gives one vector for all."""
        first, second = await self._part(PROBES)
        if float(first @ second) > ALIKE:
            raise EmbedderError(f"{self._model} gives one vector for every text")
        self._checked = True

    async def _part(self, texts: Sequence[str]) -> Vectors:
        async with self._calls:
            return await self._guard.within(self._deadline_s, lambda: asyncio.ensure_future(self._ask(texts)))

    async def _ask(self, texts: Sequence[str]) -> Vectors:
        body = json.dumps({"model": self._model, "input": list(texts), "encoding_format": "float"}).encode()
        raw = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        if self._key:
            raw.append((b"Authorization", b"Bearer " + self._key.encode()))
        pieces: list[bytes] = []
        size = 0

        def take(octets: bytes) -> bool:
            nonlocal size
            size += len(octets)
            pieces.append(octets)
            return size <= MAX_ANSWER_BYTES

        try:
            async with await self._upstream.ask(b"POST", self._target, Fields(tuple(raw)), body) as answer:
                whole = await answer.flow(take)
                status = answer.status
        except UpstreamError as error:
            raise EmbedderError(f"the embedder cannot be asked: {error}") from error
        if status != 200 or not whole:
            # What it said may quote the text: that is somebody's question.
            raise EmbedderError(f"the embedder answered with status {status}")
        vectors, usage = read(b"".join(pieces), len(texts))
        if usage is not None:
            self._spent(self._model, usage)
        if self._dimension and vectors.shape[1] != self._dimension:
            raise EmbedderError(
                f"the embedder gave {vectors.shape[1]} numbers for a text, and {self._dimension} before"
            )
        self._dimension = vectors.shape[1]
        return vectors


def read(octets: bytes, count: int) -> tuple[Vectors, Usage | None]:
    """The rows of length 1, in the order of the texts, and the usage that the answer names.

    Raises:
        EmbedderError: it is not what was asked for.
    """
    try:
        answer = json.loads(octets)
        data = sorted(answer["data"], key=lambda item: int(item["index"]))
        if [int(item["index"]) for item in data] != list(range(count)):
            raise EmbedderError(f"the embedder gave {len(data)} vectors for {count} texts")
        rows = np.array([item["embedding"] for item in data], dtype=np.float32)
        usage = answer.get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise EmbedderError("the embedder's answer is not what was asked for") from error
    if rows.ndim != 2 or not 0 < rows.shape[1] <= MAX_DIMENSION or not np.isfinite(rows).all():
        raise EmbedderError("the embedder's answer is not a list of vectors")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if (lengths < 1e-6).any():
        raise EmbedderError("the embedder gave a vector of nothing")
    whole = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= MAX_TOKENS
    return rows / lengths, Usage(input_tokens=tokens) if whole and tokens is not None else None
