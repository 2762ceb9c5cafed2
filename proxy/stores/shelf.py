"""Small values and shared counters in this process's memory: they last as long as a memory store's entries."""

import time
from collections.abc import Callable, Mapping, Sequence

from proxy.errors import CacheError

MAX_SHELF_BYTES = 64 * 1024 * 1024
"""All values together; the largest single one is a few megabytes."""

SWEEP_EVERY = 256
"""Pages that have lapsed are looked for once in so many additions."""


class MemoryShelf:
    """Values by name."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<MemoryShelf, {len(self._kept)} values, {self._bytes} bytes>"

    async def read(self, name: str) -> bytes | None:
        """See :class:`proxy.ports.Shelf`."""
        return self._kept.get(name)

    async def write(self, name: str, octets: bytes) -> None:
        """See :class:`proxy.ports.Shelf`."""
        grown = self._bytes + len(octets) - len(self._kept.get(name, b""))
        if grown > MAX_SHELF_BYTES:
            raise CacheError(f"no room on the shelf for {len(octets)} bytes under {name}")
        self._kept[name] = octets
        self._bytes = grown

    async def create(self, name: str, octets: bytes) -> bytes:
        """See :class:`proxy.ports.Shelf`."""
        if name not in self._kept:
            await self.write(name, octets)
        return self._kept[name]

    async def replace(self, name: str, octets: bytes, *, instead_of: bytes | None) -> bool:
        """See :class:`proxy.ports.Shelf`."""
        if self._kept.get(name) != instead_of:
            return False
        await self.write(name, octets)
        return True


class MemoryTallies:
    """Pages of counters by name."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._pages: dict[str, dict[str, int]] = {}
        self._lapses: dict[str, float] = {}
        self._added = 0

    def __repr__(self) -> str:
        return f"<MemoryTallies, {len(self._pages)} pages>"

    async def add(self, page: str, counts: Mapping[str, int], *, keep_s: float) -> None:
        """See :class:`proxy.ports.Tallies`."""
        now = self._now()
        self._added += 1
        if self._added % SWEEP_EVERY == 0:
            self._sweep(now)
        if self._lapses.get(page, now) < now:
            self._pages.pop(page, None)
        numbers = self._pages.setdefault(page, {})
        for name, count in counts.items():
            numbers[name] = numbers.get(name, 0) + count
        self._lapses[page] = now + keep_s

    async def read(self, pages: Sequence[str]) -> Sequence[Mapping[str, int]]:
        """See :class:`proxy.ports.Tallies`."""
        now = self._now()
        return [dict(self._pages[page]) if self._lapses.get(page, 0.0) >= now else {} for page in pages]

    def _sweep(self, now: float) -> None:
        for page in [page for page, lapses in self._lapses.items() if lapses < now]:
            del self._pages[page], self._lapses[page]
