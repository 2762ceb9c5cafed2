"""The questions that others may come near to, and their vectors: made when they are needed, found within one scope."""

from collections.abc import Callable
from itertools import islice

import numpy as np

from proxy.errors import CacheError
from proxy.model import Entry, Key
from proxy.ports import Embedder, Store, VectorIndex, Vectors
from proxy.tasks import Tasks
from proxy.tiers.questions import Known, Questions

FLOOR = 0.70
"""No neighbour below this cosine is looked at. It decides nothing: near misses are nearer than many paraphrases."""

NEAREST = 3
"""How many neighbours are looked at."""

MAX_CATCHING_UP = 7
"""Questions without a vector that are embedded along with one that is asked in their scope."""

MAX_BATCH = 16
MAX_WAITING = 4096
"""Questions that wait to be embedded in the background; those above it wait for somebody to ask in their scope."""

TOLERANCE = 1e-3
"""How far the length of a kept vector may be from 1."""


class Neighbourhood:
    """Known questions with a place each in the *index*, or on their way to one. *fault* hears of what failed on it."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        index: VectorIndex,
        store: Store,
        tasks: Tasks,
        fault: Callable[[CacheError], None],
    ) -> None:
        self._embedder = embedder
        self._index = index
        self._store = store
        self._tasks = tasks
        self._fault = fault
        self.questions = Questions()
        self.ready = False
        """There is a model that makes vectors."""
        self._waiting: dict[Key, Known] = {}
        """Questions that are to be embedded in the background."""
        self._placing = False

    def __repr__(self) -> str:
        return f"<Neighbourhood, {self.questions!r}, {len(self._waiting)} waiting>"

    def others(self, scope: str, key: Key) -> bool:
        """Whether *scope* may have a question that is not the one under *key*."""
        # Of plain questions other processes may know more; in the middle of a conversation most are alone everywhere.
        return self.questions.others(scope, key) or (self._index.shared and scope[:1] == "p")

    async def embed_with_others(self, scope: str, text: str) -> Vectors:
        """The vector of what is asked; along with it those of its scope that have none yet."""
        late = self.questions.unplaced(scope, MAX_CATCHING_UP)
        known = [(key, each) for key in late if (each := self.questions.get(key)) is not None]
        vectors = await self._embedder.embed([text, *(each.text for _, each in known)])
        for (key, each), vector in zip(known, vectors[1:], strict=True):
            self._place_one(key, each, vector)
        own: Vectors = vectors[0]
        return own

    async def near(self, scope: str, key: Key, vector: Vectors) -> list[tuple[Key, float]]:
        """The nearest of *scope* to *vector*, for the question under *key*.

        Those that another process placed and this one never heard of are known then.
        """
        near = await self._index.nearest(scope, vector, NEAREST + 1)
        for each, cosine in near:
            if self.questions.get(each) is not None or each == key or cosine < FLOOR:
                continue
            try:
                entry = await self._store.get(each)
            except CacheError:
                continue
            if entry is None:
                self._index.drop(scope, each)
            elif entry.scope == scope:
                self.meet(entry)
        self.place()
        return near

    def meet(self, entry: Entry) -> None:
        """Know the question of *entry*, which the store has, unless it is known."""
        if self.questions.get(entry.key) is None:
            self.know(entry, self._vector_of(entry))

    def know(self, entry: Entry, vector: Vectors | None) -> None:
        """Know the question of *entry*, in place of what was known of it."""
        known = Known(text=entry.question, scope=entry.scope, maker=entry.maker)
        before = self.questions.get(entry.key)
        if before is not None and before.scope != entry.scope:
            self._index.drop(before.scope, entry.key)
        elif before is not None:
            # In a shared index its place ends with the entry that was kept before.
            known.placed = before.placed and not self._index.shared
        too_many = self.questions.add(entry.key, known)
        if too_many is not None:
            self.gone(too_many)
        if known.placed:
            return
        if vector is not None:
            self._place_one(entry.key, known, vector)
        # A question in the middle of a conversation is embedded when somebody asks another there: most are alone.
        elif len(self._waiting) < MAX_WAITING and (
            entry.scope[:1] == "p" or self.questions.others(entry.scope, entry.key)
        ):
            self._waiting[entry.key] = known

    def _vector_of(self, entry: Entry) -> Vectors | None:
        """The vector that came with a kept *entry*, where this embedder made it."""
        if entry.embedder != self._embedder.identity or not entry.vector:
            return None
        return vector_from(entry.vector)

    def _place_one(self, key: Key, known: Known, vector: Vectors) -> None:
        if self.questions.get(key) is known and not self._index.add(known.scope, key, vector):
            self.questions.drop(key)
        known.placed = True
        self._waiting.pop(key, None)

    def place(self) -> None:
        """See to it that questions that others may come near to get their vectors, in the background."""
        if self.ready and self._waiting and not self._placing:
            self._placing = True
            self._tasks.start(self._place_all(), name="embed")

    async def _place_all(self) -> None:
        try:
            while self._waiting:
                batch = [(key, self._waiting.pop(key)) for key in list(islice(self._waiting, MAX_BATCH))]
                vectors = await self._embedder.embed([known.text for _, known in batch])
                for (key, known), vector in zip(batch, vectors, strict=True):
                    self._place_one(key, known, vector)
        except CacheError as error:
            # Those of the batch stay without: who asks in their scope embeds them along.
            self._fault(error)
        finally:
            self._placing = False

    def gone(self, key: Key) -> None:
        """Forget the question whose entry was under *key*."""
        known = self.questions.drop(key)
        if known is not None:
            self._index.drop(known.scope, key)
            self._waiting.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self.questions.clear()
        self._waiting.clear()
        self._index.clear()

    @property
    def vector_bytes(self) -> int:
        """What vectors take in this process."""
        return self._index.bytes_used

    @property
    def shared(self) -> bool:
        """Vectors of other processes are found, too."""
        return self._index.shared


def vector_from(octets: bytes) -> Vectors | None:
    """The vector that an entry carries; None where these are not float32 numbers of length 1."""
    if len(octets) % 4:
        return None
    vector = np.frombuffer(octets, dtype="<f4")
    return vector if abs(float(vector @ vector) - 1) < TOLERANCE else None
