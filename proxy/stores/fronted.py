"""A local memory tier in front of a store that is shared: repeats do not wait for it, and stay true within a bound."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from proxy.model import Entry, Key
from proxy.ports import Store
from proxy.stores.memory import MemoryStore


class SharedStore(Store, Protocol):
    """A store that other processes read and write, too."""

    def used(self, key: Key, times: int) -> None:
        """The entry under *key* was used *times* more; told when it suits."""
        ...

    async def heed(self, withdrawn: Callable[[Key | None], None]) -> None:
        """Call *withdrawn* with each key that any process withdraws, with None where that is all; never ends."""
        ...


class FrontedStore:
    """Copies of what was got from the store *behind*, each believed for *believe_s* and then looked at again.

    What another process withdraws is forgotten as soon as that is heard of, and after *believe_s* at the latest.
    """

    def __init__(
        self, local: MemoryStore, behind: SharedStore, *, believe_s: float, now: Callable[[], float] = time.time
    ) -> None:
        self._local = local
        self._behind = behind
        self._believe_s = believe_s
        self._now = now
        self._withdrawals = 0
        self.holds = local.holds
        """Whether a look-up would return this very entry now; counted as a use."""

    def __repr__(self) -> str:
        return f"<FrontedStore {self._local!r} before {self._behind!r}>"

    async def get(self, key: Key) -> Entry | None:
        """See :class:`proxy.ports.Store`."""
        copy = await self._local.get(key)
        if copy is not None:
            return copy
        withdrawals = self._withdrawals
        used = self._local.uses_since(key)
        entry = await self._behind.get(key)
        if entry is None:
            # While we asked, an answer may have been put here and its flight be over.
            overtaken = await self._local.get(key)
            if overtaken is None:
                await self._local.drop(key)
            return overtaken
        if used > 1:
            self._behind.used(key, used - 1)
        if withdrawals == self._withdrawals:
            return self._believe(entry)
        return entry

    async def get_even_stale(self, key: Key) -> Entry | None:
        """See :class:`proxy.ports.Store`; what has expired is never copied."""
        copy = await self._local.get(key)
        if copy is not None:
            return copy
        withdrawals = self._withdrawals
        entry = await self._behind.get_even_stale(key)
        if entry is None:
            return await self._local.get(key)
        if entry.expires > self._now() and withdrawals == self._withdrawals:
            return self._believe(entry)
        return entry

    def _believe(self, entry: Entry) -> Entry:
        """Keep a copy of *entry*; the one that was there where it is the same, for others know it by identity."""
        until = self._now() + self._believe_s
        same = self._local.renewed(entry, until=until)
        if same is not None:
            return same
        self._local.keep(entry, until=until)
        return entry

    async def put(self, entry: Entry) -> bool:
        """See :class:`proxy.ports.Store`."""
        withdrawals = self._withdrawals
        if not await self._behind.put(entry):
            return False
        if withdrawals == self._withdrawals:
            self._local.keep(entry, until=self._now() + self._believe_s)
        return True

    async def drop(self, key: Key) -> bool:
        """See :class:`proxy.ports.Store`."""
        # Before and after: a copy may be made while the store is at it.
        self.withdrawn(key)
        dropped = await self._behind.drop(key)
        self.withdrawn(key)
        return dropped

    async def clear(self) -> int:
        """See :class:`proxy.ports.Store`."""
        self.withdrawn(None)
        cleared = await self._behind.clear()
        self.withdrawn(None)
        return cleared

    def withdrawn(self, key: Key | None) -> None:
        """Forget the copy of *key*, or all copies: the store does not hold it any more, or that is not known."""
        self._withdrawals += 1
        self._local.forget(key)

    def asked(self) -> AsyncIterator[Entry]:
        """See :class:`proxy.ports.Store`."""
        return self._behind.asked()

    def arriving(self) -> AsyncIterator[Entry]:
        """See :class:`proxy.ports.Store`."""
        return self._behind.arriving()

    def entries(self) -> AsyncIterator[Entry]:
        """See :class:`proxy.ports.Store`."""
        return self._behind.entries()

    def watch(self, gone: Callable[[Key], None]) -> None:
        """See :class:`proxy.ports.Store`."""
        self._behind.watch(gone)

    async def heed(self) -> None:
        """Heed what other processes withdraw; never ends."""
        await self._behind.heed(self.withdrawn)

    async def close(self) -> None:
        """See :class:`proxy.ports.Store`."""
        await self._behind.close()
