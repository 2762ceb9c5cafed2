"""Search in one block of float32 for each scope, within a byte budget; in large scopes by signs first."""

import asyncio
from collections import OrderedDict
from sys import getsizeof

import numpy as np
from numpy.typing import NDArray

from proxy.model import Key
from proxy.ports import Vectors

FIRST_ROWS = 4
"""A scope begins small: most hold a question or two."""

WIDE_ROWS = 4096
"""From here on a scope reserves at once what the whole budget could hold: memory that was never written costs nothing,
and copying a hundred megabytes to a larger place would hold up everything else."""

THREAD_ROWS = 8192
"""Above this many rows a search would take more than half a millisecond, and is done in a thread."""

SIGNED_ROWS = 16384
"""Above this many rows the signs alone are compared first, 32 times less to read, and the best of them exactly."""

RESCORED = 384
"""How many of the best by signs are compared exactly. A neighbour with a cosine of 0.7 or more differs in about a
quarter of its signs and what is unrelated in about half, so that hardly one is missed (tests/test_vectors.py)."""

COUNTS_BITS = hasattr(np, "bitwise_count")
"""From numpy 2 on; before it, large scopes are searched exactly and slowly."""

ROW_OVERHEAD_BYTES = 220
"""What a row costs beside its numbers: its key's place in a list and in a table."""

SCOPE_OVERHEAD_BYTES = 700
"""What a scope costs beside its rows."""


Signs = NDArray[np.uint64]


class _Block:
    """The vectors of one scope: the first rows of an array that grows by doubling, then once to *most_rows*."""

    __slots__ = ("_most_rows", "keys", "places", "rows", "signs")

    def __init__(self, dimension: int, most_rows: int) -> None:
        self._most_rows = most_rows
        self.rows = np.empty((FIRST_ROWS, dimension), dtype=np.float32)
        self.signs: Signs = np.zeros((-(-dimension // 64), FIRST_ROWS), dtype=np.uint64)
        """64 of them in a number, a column for each row."""
        self.keys: list[Key] = []
        self.places: dict[Key, int] = {}

    def put(self, key: Key, vector: Vectors) -> None:
        place = self.places.get(key)
        if place is None:
            place = len(self.keys)
            if place == len(self.rows):
                self._resize(2 * place if 2 * place <= WIDE_ROWS else max(2 * place, self._most_rows))
            self.places[key] = place
            self.keys.append(key)
        self.rows[place] = vector
        self.signs[:, place] = _signs(vector)

    def remove(self, key: Key) -> bool:
        place = self.places.pop(key, None)
        if place is None:
            return False
        last = self.keys.pop()
        if last != key:
            # The last one takes the place that is free.
            self.rows[place] = self.rows[len(self.keys)]
            self.signs[:, place] = self.signs[:, len(self.keys)]
            self.keys[place] = last
            self.places[last] = place
        room = min(len(self.rows), WIDE_ROWS)
        if len(self.rows) > FIRST_ROWS and len(self.keys) * 4 < room:
            self._resize(max(FIRST_ROWS, room // 2))
        return True

    def _resize(self, capacity: int) -> None:
        kept = min(len(self.rows), capacity)
        rows = np.empty((capacity, self.rows.shape[1]), dtype=np.float32)
        signs = np.zeros((len(self.signs), capacity), dtype=np.uint64)
        rows[:kept], signs[:, :kept] = self.rows[:kept], self.signs[:, :kept]
        self.rows, self.signs = rows, signs

    @property
    def bytes_used(self) -> int:
        count = len(self.rows) if len(self.rows) <= WIDE_ROWS else len(self.keys)
        each = self.rows.itemsize * self.rows.shape[1] + self.signs.itemsize * len(self.signs)
        return count * each + len(self.keys) * ROW_OVERHEAD_BYTES + SCOPE_OVERHEAD_BYTES


class BlockIndex:
    """Blocks of vectors by scope, no more than *max_bytes* in all: the scope that was used longest ago gives way.

    A *dimension* of 0 is learned from the first vector.
    Changed on the event loop only. A large search runs in a thread over the rows as they lie; what changes meanwhile
    can at worst hide a neighbour, because the cosines it returns are taken again from the rows as they then are.
    """

    def __init__(self, *, dimension: int, max_bytes: int) -> None:
        self._dimension = dimension
        self._max_bytes = max_bytes
        self._blocks: OrderedDict[str, _Block] = OrderedDict()
        self._bytes = 0
        self.displaced = 0
        """Vectors that gave way to newer ones."""

    def __repr__(self) -> str:
        return f"<BlockIndex, {len(self)} vectors in {len(self._blocks)} scopes, {self._bytes} bytes>"

    def __len__(self) -> int:
        return sum(len(block.keys) for block in self._blocks.values())

    @property
    def bytes_used(self) -> int:
        """Octets in use, overhead included."""
        return self._bytes

    @property
    def shared(self) -> bool:
        """It is this process's own."""
        return False

    @property
    def max_bytes(self) -> int:
        """The budget."""
        return self._max_bytes

    def add(self, scope: str, key: Key, vector: Vectors) -> bool:
        """Hold *vector* under *key*; False where it is not of this index's dimension or alone over the budget."""
        if self._dimension == 0 and vector.ndim == 1:
            self._dimension = len(vector)
        if vector.shape != (self._dimension,) or not np.isfinite(vector).all():
            return False
        block = self._blocks.get(scope)
        before = 0 if block is None else block.bytes_used
        if block is None:
            block = _Block(self._dimension, self._max_bytes // (4 * self._dimension))
            if self._cost(scope, block) > self._max_bytes:
                return False
            self._blocks[scope] = block
            before = -getsizeof(scope)
        self._blocks.move_to_end(scope)
        block.put(key, vector)
        self._bytes += block.bytes_used - before
        while self._bytes > self._max_bytes and len(self._blocks) > 1:
            self._displace(next(iter(self._blocks)))
        while self._bytes > self._max_bytes and len(block.keys) > 1:
            # One scope is all there is: the oldest places are as good a guess as any.
            oldest = block.keys[0]
            self.drop(scope, oldest)
            self.displaced += 1
        if self._bytes > self._max_bytes:
            self._displace(scope)
        return scope in self._blocks and key in block.places

    def drop(self, scope: str, key: Key) -> bool:
        """Forget the vector under *key*."""
        block = self._blocks.get(scope)
        if block is None:
            return False
        before = block.bytes_used
        if not block.remove(key):
            return False
        if block.keys:
            self._bytes += block.bytes_used - before
        else:
            del self._blocks[scope]
            self._bytes -= before + getsizeof(scope)
        return True

    async def nearest(self, scope: str, vector: Vectors, k: int) -> list[tuple[Key, float]]:
        """The *k* nearest of *scope*, nearest first."""
        block = self._blocks.get(scope)
        if block is None or k < 1 or vector.shape != (self._dimension,):
            return []
        self._blocks.move_to_end(scope)
        rows = block.rows[: len(block.keys)]
        if len(rows) <= THREAD_ROWS:
            places = _best(rows, vector, k)
        elif len(rows) > SIGNED_ROWS and COUNTS_BITS:
            places = await asyncio.to_thread(_best_by_signs, rows, block.signs[:, : len(rows)], vector, k)
        else:
            places = await asyncio.to_thread(_best, rows, vector, k)
        found = [(block.keys[place], float(block.rows[place] @ vector)) for place in places if place < len(block.keys)]
        return sorted(found, key=lambda pair: -pair[1])

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self._bytes = 0

    def _cost(self, scope: str, block: _Block) -> int:
        return block.bytes_used + ROW_OVERHEAD_BYTES + getsizeof(scope)

    def _displace(self, scope: str) -> None:
        block = self._blocks.pop(scope)
        self._bytes -= block.bytes_used + getsizeof(scope)
        self.displaced += len(block.keys)


def _best(rows: Vectors, vector: Vectors, k: int) -> list[int]:
    """The places of the *k* rows with the greatest product with *vector*."""
    cosines = rows @ vector
    if len(cosines) <= k:
        return list(range(len(cosines)))
    return [int(place) for place in np.argpartition(cosines, -k)[-k:]]


def _signs(vector: Vectors) -> Signs:
    """The signs of *vector*, 64 in a number."""
    bits = np.packbits(vector > 0)
    return np.pad(bits, (0, -len(bits) % 8)).view(np.uint64)


def _best_by_signs(rows: Vectors, signs: Signs, vector: Vectors, k: int) -> list[int]:
    """The same as ``_best`` among the rows with the fewest signs that differ."""
    asked = _signs(vector)
    apart = np.zeros(signs.shape[1], dtype=np.uint16)
    for word, column in zip(asked, signs, strict=True):
        apart += np.bitwise_count(column ^ word)
    few = max(k, RESCORED)
    near = np.argpartition(apart, few)[:few]
    return [int(near[place]) for place in _best(rows[near], vector, k)]
