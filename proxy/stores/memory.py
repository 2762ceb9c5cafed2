"""Entries in this process's memory, within a byte budget, evicted by what they are worth."""

import heapq
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from sys import getsizeof

from proxy.model import Entry, Key

ENTRY_OVERHEAD_BYTES = 1400
"""What an entry costs beside its octets and texts: objects, table slot, heap items, a share of items about entries gone
before. Measured by tests/test_memory_store.py."""

MARK_BYTES = 136
"""What one mark costs: a pair of two numbers."""

OUTPUT_WORTH = 4
"""An output token costs about four input tokens at most providers; without prices that ratio stands in."""


@dataclass(slots=True)
class _Kept:
    entry: Entry
    size: int
    rate: float
    """Worth per byte and use."""
    uses: int
    base: float
    """The clock when it was last used: what has not been asked for ages."""
    serial: int
    until: float
    """Until when it is given: its end, or an earlier moment where it is a copy that is to be looked at again."""
    told: int = 0
    """Uses that ``uses_since`` has told of."""


class MemoryStore:
    """A table of entries that never holds more than *max_bytes*, overhead included.

    Eviction is Greedy-Dual-Size-Frequency (Cherkasova 1998): the entry goes whose cost of asking again, times its
    uses, per byte, plus the clock at its last use, is least; the clock then moves up to that value. ``lru`` goes by
    last use alone.
    """

    def __init__(self, *, max_bytes: int, eviction: str = "gdsf", now: Callable[[], float] = time.time) -> None:
        self._max_bytes = max_bytes
        self._lru = eviction == "lru"
        self._now = now
        self._kept: dict[Key, _Kept] = {}
        self._bytes = 0
        self._clock = 0.0
        self._serials = itertools.count()
        self._by_worth: list[tuple[float, int, Key]] = []
        self._by_expiry: list[tuple[float, int, Key]] = []
        self._gone: list[Callable[[Key], None]] = []
        self.evicted = 0
        self.expired = 0

    def __repr__(self) -> str:
        return f"<MemoryStore, {len(self._kept)} entries, {self._bytes} of {self._max_bytes} bytes>"

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes_used(self) -> int:
        """Octets in use, overhead included."""
        return self._bytes

    @property
    def max_bytes(self) -> int:
        """The budget."""
        return self._max_bytes

    async def get(self, key: Key) -> Entry | None:
        """The live entry under *key*, counted as a use."""
        return self._find(key, stale=False)

    async def get_even_stale(self, key: Key) -> Entry | None:
        """The entry under *key*, live or within its grace, counted as a use."""
        return self._find(key, stale=True)

    def _find(self, key: Key, *, stale: bool) -> Entry | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        now = self._now()
        if kept.until <= now:
            if gone_at(kept.entry) <= now:
                self._remove(key)
                self.expired += 1
                return None
            if not stale or kept.entry.expires > now:
                return None
        kept.uses += 1
        kept.base = self._tick()
        return kept.entry

    def holds(self, entry: Entry) -> bool:
        """Whether a look-up would return this very *entry* now; counted as a use."""
        kept = self._kept.get(entry.key)
        if kept is None or kept.entry is not entry or kept.until <= self._now():
            return False
        kept.uses += 1
        kept.base = self._tick()
        return True

    async def put(self, entry: Entry) -> bool:
        """Keep *entry*; False where it is larger than the whole budget or already expired."""
        return self.keep(entry, until=math.inf)

    def keep(self, entry: Entry, *, until: float) -> bool:
        """As :meth:`put`; but after *until* it is not given any more, though kept: see :meth:`renewed`."""
        now = self._now()
        size = size_of(entry)
        if size > self._max_bytes or entry.expires <= now:
            return False
        before = self._kept.get(entry.key)
        uses = before.uses if before is not None else 1
        if before is not None:
            self._take_out(entry.key)
        self._make_room(size, now)
        serial = next(self._serials)
        until = min(until, entry.expires)
        kept = _Kept(entry, size, worth(entry) / size, uses, self._tick(), serial, until)
        self._kept[entry.key] = kept
        self._bytes += size
        heapq.heappush(self._by_worth, (self._priority(kept), serial, entry.key))
        if gone_at(entry) < math.inf:
            heapq.heappush(self._by_expiry, (gone_at(entry), serial, entry.key))
        return True

    def renewed(self, entry: Entry, *, until: float) -> Entry | None:
        """What is kept in the place of *entry*, if it is the same; from now on it is given again, until *until*."""
        kept = self._kept.get(entry.key)
        if kept is None or kept.entry != entry:
            return None
        kept.until = min(until, entry.expires)
        kept.uses += 1
        kept.base = self._tick()
        return kept.entry

    def uses_since(self, key: Key) -> int:
        """How often the entry under *key* was used since this was asked last."""
        kept = self._kept.get(key)
        if kept is None:
            return 0
        told, kept.told = kept.told, kept.uses
        return kept.uses - told

    def forget(self, key: Key | None) -> None:
        """Forget the entry under *key*, or all, without a word to those who watch: copies are no loss."""
        if key is None:
            self._kept.clear()
            self._by_worth.clear()
            self._by_expiry.clear()
            self._bytes = 0
        elif key in self._kept:
            self._take_out(key)

    async def drop(self, key: Key) -> bool:
        """Forget the entry under *key*."""
        if key not in self._kept:
            return False
        self._remove(key)
        return True

    async def clear(self) -> int:
        """Forget everything."""
        cleared = list(self._kept)
        self.forget(None)
        for key in cleared:
            self._tell(key)
        return len(cleared)

    async def asked(self) -> AsyncIterator[Entry]:
        """Every live entry that has a scope, as of now."""
        now = self._now()
        for kept in list(self._kept.values()):
            if kept.entry.scope and kept.entry.expires > now:
                yield kept.entry

    async def arriving(self) -> AsyncIterator[Entry]:
        """None: no other process puts anything here."""
        nobody: tuple[Entry, ...] = ()
        for entry in nobody:
            yield entry

    async def entries(self) -> AsyncIterator[Entry]:
        """Every live entry, as of now."""
        now = self._now()
        for kept in list(self._kept.values()):
            if kept.entry.expires > now:
                yield kept.entry

    def watch(self, gone: Callable[[Key], None]) -> None:
        """Call *gone* with the key of each entry that leaves."""
        self._gone.append(gone)

    async def close(self) -> None:
        """Nothing is held open."""

    def _tick(self) -> float:
        if self._lru:
            self._clock += 1
        return self._clock

    def _priority(self, kept: _Kept) -> float:
        return kept.base if self._lru else kept.base + kept.uses * kept.rate

    def _make_room(self, size: int, now: float) -> None:
        while self._by_expiry and self._bytes + size > self._max_bytes and self._by_expiry[0][0] <= now:
            _, serial, key = heapq.heappop(self._by_expiry)
            kept = self._kept.get(key)
            if kept is not None and kept.serial == serial:
                self._remove(key)
                self.expired += 1
        while self._bytes + size > self._max_bytes:
            priority, serial, key = heapq.heappop(self._by_worth)
            kept = self._kept.get(key)
            if kept is None or kept.serial != serial:
                continue
            current = self._priority(kept)
            if current > priority:
                # Used since it was ranked: rank it anew. Ranking here rather than at each use keeps a hit free of it.
                heapq.heappush(self._by_worth, (current, serial, key))
                continue
            self._remove(key)
            self.evicted += 1
            if not self._lru:
                self._clock = max(self._clock, priority)

    def _remove(self, key: Key) -> None:
        self._take_out(key)
        self._tell(key)

    def _take_out(self, key: Key) -> None:
        self._bytes -= self._kept.pop(key).size
        self._sweep()

    def _tell(self, key: Key) -> None:
        for gone in self._gone:
            gone(key)

    def _sweep(self) -> None:
        """Rebuild a heap with many items about entries long gone, so that overhead stays in proportion."""
        bound = len(self._kept) + len(self._kept) // 4 + 64
        if len(self._by_worth) > bound:
            self._by_worth = [(self._priority(kept), kept.serial, key) for key, kept in self._kept.items()]
            heapq.heapify(self._by_worth)
        if len(self._by_expiry) > bound:
            live = self._kept.items()
            self._by_expiry = [
                (gone_at(kept.entry), kept.serial, key) for key, kept in live if gone_at(kept.entry) < math.inf
            ]
            heapq.heapify(self._by_expiry)


def gone_at(entry: Entry) -> float:
    """When *entry* is of no more use."""
    return entry.expires + entry.grace_s


def size_of(entry: Entry) -> int:
    """What *entry* takes of the budget, in octets."""
    # A client or a provider chooses how long the texts are, too.
    texts = getsizeof(entry.model) + getsizeof(entry.form.other_options) + len(entry.encoding) + len(entry.phrase)
    texts += len(entry.service_tier) + len(entry.vector)
    if entry.tag or entry.namespace:
        texts += getsizeof(entry.tag) + getsizeof(entry.namespace)
    if entry.scope:
        texts += sum(map(getsizeof, (entry.scope, entry.question, entry.maker, entry.embedder)))
    return len(entry.body) + len(entry.head) + texts + MARK_BYTES * len(entry.marks) + ENTRY_OVERHEAD_BYTES


def worth(entry: Entry) -> float:
    """What asking again would cost, in input tokens; by size where the provider named no usage."""
    if entry.usage is None:
        return max(1.0, len(entry.body) / 4)
    return max(1.0, entry.usage.input_tokens + OUTPUT_WORTH * entry.usage.output_tokens)
