"""The model on this machine, at work: read in threads of its own, concurrent texts together."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from proxy.encoder import graph, weights
from proxy.encoder.bert import WIDTH
from proxy.encoder.encoder import Encoder, load
from proxy.errors import CacheError, ConfigError, EmbedderError, ModelError
from proxy.ports import Vectors
from proxy.workers import Workers

log = logging.getLogger(__name__)

T = TypeVar("T")

Waiting = tuple[str, asyncio.Future[Vectors]]
"""A text, and where its row is wanted."""

BATCH_TEXTS = 16
"""How many waiting texts go through the network together."""


class LocalModel:
    """all-MiniLM-L6-v2 from *directory*; an ``Embedder``, and the hands of the verifier.

    It is loaded at first need, or by ``start``. A text that waits while the threads are busy shares the next pass with
    all others that wait.
    """

    def __init__(self, directory: Path, *, threads: int = 1, max_waiting: int = 64, computing: str = "auto") -> None:
        """*computing* is what `semantic.backend` says.

        Raises:
            ConfigError: as ``backend`` does.
        """
        self._directory = directory
        self._backend = backend(computing)
        self._threads = threads
        self._max_waiting = max_waiting
        self._workers = Workers(threads=threads, max_waiting=max_waiting + threads, name="model")
        self._waiting: deque[Waiting] = deque()
        self._passes: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self._encoder: Encoder | None = None
        self._wrong: ModelError | None = None

    def __repr__(self) -> str:
        state = "loaded" if self._encoder is not None else "absent" if self._wrong is not None else "not loaded"
        return f"<LocalModel {state}, {len(self._waiting)} texts waiting>"

    @property
    def identity(self) -> str:
        """Model, hash and backend: another one's vectors are not comparable."""
        return f"local:{weights.MODEL}:{weights.SHA256['model.safetensors'][:12]}:{self._backend}"

    @property
    def dimension(self) -> int:
        """384."""
        return WIDTH

    @property
    def missing(self) -> str:
        """Why there is no model; empty while there is, or while nobody has tried."""
        return "" if self._wrong is None else str(self._wrong)

    async def start(self) -> None:
        """Load the model now.

        Raises:
            ModelError: it is not there, is not the right one or does not work.
        """
        await self._workers.run(self._loaded)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """A row of length 1 for each of *texts*.

        Raises:
            ModelError: there is no model.
            EmbedderError: too many texts wait already.
        """
        if not texts:
            return np.empty((0, WIDTH), dtype=np.float32)
        if self._wrong is not None:
            raise self._wrong
        if len(self._waiting) + len(texts) > self._max_waiting:
            raise EmbedderError(f"{len(self._waiting)} texts wait to be embedded already")
        loop = asyncio.get_running_loop()
        rows = [loop.create_future() for _ in texts]
        self._waiting.extend(zip(texts, rows, strict=True))
        self._turn()
        try:
            return np.stack(await asyncio.gather(*rows))
        finally:
            for row in rows:
                row.cancel()

    async def run(self, work: Callable[[Encoder], T]) -> T:
        """What *work* makes of the loaded model, in one of its threads."""
        if self._wrong is not None:
            raise self._wrong
        return await self._workers.run(lambda: work(self._loaded()))

    async def close(self) -> None:
        """Begin nothing more."""
        for _, row in self._waiting:
            row.cancel()
        self._waiting.clear()
        await self._workers.close()

    def _turn(self) -> None:
        """Set a free thread to work on what waits."""
        while self._waiting and len(self._passes) < self._threads:
            batch: list[Waiting] = []
            while self._waiting and len(batch) < BATCH_TEXTS:
                text, row = self._waiting.popleft()
                if not row.done():
                    batch.append((text, row))
            if batch:
                one = asyncio.ensure_future(self._pass(batch))
                self._passes.add(one)
                one.add_done_callback(self._passed)

    def _passed(self, one: asyncio.Task[None]) -> None:
        self._passes.discard(one)
        self._turn()

    async def _pass(self, batch: Sequence[Waiting]) -> None:
        texts = [text for text, _ in batch]
        try:
            vectors = await self._workers.run(lambda: self._loaded().vectors(texts))
        except CacheError as error:
            _refuse(batch, error)
            return
        except Exception as error:
            # Nobody awaits this task: whoever waits for a row must hear of it all the same.
            log.exception("the model failed")
            _refuse(batch, EmbedderError(f"the model failed: {type(error).__name__}"))
            return
        for vector, (_, row) in zip(vectors, batch, strict=True):
            if not row.done():
                row.set_result(vector)

    def _loaded(self) -> Encoder:
        """The encoder; runs in a thread. What is wrong with the files stays wrong until the next start."""
        with self._lock:
            if self._wrong is not None:
                raise self._wrong
            if self._encoder is None:
                try:
                    self._encoder = load(self._directory, backend=self._backend)
                except ModelError as error:
                    self._wrong = error
                    raise
            return self._encoder


def backend(wanted: str) -> str:
    """What computes where *wanted* is `auto`, `numpy` or `onnxruntime`.

    Raises:
        ConfigError: it is onnxruntime and that is not here.
    """
    why = graph.absent() if wanted != "numpy" else ""
    if wanted == "onnxruntime" and why:
        raise ConfigError(f"semantic.backend: {why}")
    return "numpy" if wanted == "numpy" or why else "onnxruntime"


def _refuse(batch: Sequence[Waiting], error: CacheError) -> None:
    for _, row in batch:
        if not row.done():
            row.set_exception(error)
