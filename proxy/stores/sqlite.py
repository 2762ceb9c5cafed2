"""Entries in one file: they outlast the process, and several processes share them."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from proxy.errors import CacheError, Unreadable
from proxy.model import Entry, Key
from proxy.stores import sqlite_entries
from proxy.stores.codec import Codec
from proxy.stores.fading import Fading
from proxy.stores.memory import gone_at
from proxy.stores.sqlite_entries import ALL, ASKED, SqliteEntries, key_of
from proxy.stores.sqlite_threads import SqliteThreads
from proxy.tasks import Tasks

BATCH = 256
"""So many entries that came at about the same time are written in one transaction."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Answers that wait to be written; what comes then is not kept."""

MAX_USES = 10_000
"""Entries whose uses are noted between two writes."""

USES_EVERY_S = 2.0
"""Uses are written this often: they matter when room is made, not before."""

LISTED_AT_ONCE = 200

LOOKING_S = 5.0
"""No request waits for what is looked for now and then."""

LONG_S = 300.0
"""For what goes through the whole file."""


@dataclass(slots=True)
class _Waiting:
    """Entries that wait to be written."""

    entries: list[tuple[Entry, asyncio.Future[bool]]] = field(default_factory=list)
    bytes: int = 0


class SqliteStore:
    """A table of entries in a file, within *max_bytes*; made room in as a ``MemoryStore`` does, by worth or by age."""

    def __init__(
        self,
        threads: SqliteThreads,
        codec: Codec,
        *,
        max_bytes: int,
        eviction: str = "gdsf",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._threads = threads
        self._table = SqliteEntries(codec, max_bytes=max_bytes, lru=eviction == "lru", now=now)
        self._max_bytes = max_bytes
        self._now = now
        self._tasks = Tasks()
        self._waiting = _Waiting()
        self._writing: asyncio.Task[None] | None = None
        self._uses: Counter[Key] = Counter()
        self._uses_written = now()
        self._gone: list[Callable[[Key], None]] = []
        self._unreadable = Fading(str(threads.file.path))

    def __repr__(self) -> str:
        held = self._table.totals
        return f"<SqliteStore {self._threads.file.path}, {held.entries} entries, {held.bytes} of {self._max_bytes}>"

    def __len__(self) -> int:
        return self._table.totals.entries

    @property
    def bytes_used(self) -> int:
        """Octets in use when it was last looked, overhead included."""
        return self._table.totals.bytes

    @property
    def max_bytes(self) -> int:
        """The budget."""
        return self._max_bytes

    @property
    def evicted(self) -> int:
        """How many entries made room for others, by all processes together."""
        return self._table.totals.evicted

    @property
    def expired(self) -> int:
        """How many entries were removed because their time was over."""
        return self._table.totals.expired

    @property
    def fault(self) -> str:
        """Why the store does not work now; empty where it does."""
        return self._threads.reads.fault or self._threads.writes.fault

    async def get(self, key: Key) -> Entry | None:
        """The live entry under *key*; the use is noted and written later."""
        found = await self.get_even_stale(key)
        return found if found is not None and found.expires > self._now() else None

    async def get_even_stale(self, key: Key) -> Entry | None:
        """The entry under *key*, live or within its grace; the use is noted and written later."""
        now = self._now()
        found = await self._threads.read(partial(self._table.find, key, now))
        if isinstance(found, Unreadable):
            self._unreadable.found(found)
            return None
        if found is None or gone_at(found) <= now:
            return None
        self.used(key, 1)
        return found

    def used(self, key: Key, times: int) -> None:
        """The entry under *key* was used *times* more."""
        if key in self._uses or len(self._uses) < MAX_USES:
            self._uses[key] += times
        if self._now() - self._uses_written >= USES_EVERY_S:
            self._write_soon()

    async def put(self, entry: Entry) -> bool:
        """Keep *entry*; False where it is larger than the whole budget or already expired."""
        if entry.expires <= self._now():
            return False
        size = len(entry.body) + len(entry.head)
        if self._waiting.bytes + size > MAX_WAITING_BYTES:
            raise CacheError(f"{self._waiting.bytes} bytes of answers wait to be written")
        put = asyncio.get_running_loop().create_future()
        self._waiting.entries.append((entry, put))
        self._waiting.bytes += size
        self._write_soon()
        return bool(await put)

    async def drop(self, key: Key) -> bool:
        """Forget the entry under *key*, here and in every other process."""
        dropped = await self._threads.write(partial(self._table.remove, key))
        self._tell([key] if dropped else [])
        return dropped

    async def clear(self) -> int:
        """Forget every entry, here and in every other process."""
        remove = partial(self._table.remove_all, listed=bool(self._gone))
        live, keys = await self._threads.write(remove, deadline_s=LONG_S)
        self._uses.clear()
        self._tell(keys)
        return live

    async def asked(self) -> AsyncIterator[Entry]:
        """Every live entry that has a scope."""
        async for entry in self._listed(ASKED):
            yield entry

    async def arriving(self, *, every_s: float = 0.5) -> AsyncIterator[Entry]:
        """Every entry with a scope that is put from now on; looked for now and then."""
        last: int | None = None
        while True:
            rows: list[tuple[int, bytes, bytes]] = []
            try:
                newest = await self._threads.read(sqlite_entries.newest, deadline_s=LOOKING_S)
                # A file that was set aside has a successor that begins to count anew.
                last = newest if last is None else min(last, newest)
                if last < newest:
                    look = partial(sqlite_entries.rows, ASKED, (last, self._now(), LISTED_AT_ONCE))
                    rows = await self._threads.read(look, deadline_s=LOOKING_S)
                    last = rows[-1][0] if len(rows) == LISTED_AT_ONCE else newest
            except CacheError:
                # What came meanwhile is found when the file can be read again.
                rows = []
            for _, key, octets in rows:
                found = self._table.unpack(octets, key_of(key))
                if isinstance(found, Entry) and found.expires > self._now():
                    yield found
            if len(rows) < LISTED_AT_ONCE:
                await asyncio.sleep(every_s)

    async def entries(self) -> AsyncIterator[Entry]:
        """Every live entry."""
        async for entry in self._listed(ALL):
            yield entry

    async def _listed(self, query: str) -> AsyncIterator[Entry]:
        last = 0
        while True:
            now = self._now()
            rows = await self._threads.read(
                partial(sqlite_entries.rows, query, (last, now, LISTED_AT_ONCE)), deadline_s=LONG_S
            )
            for number, key, octets in rows:
                last = number
                found = self._table.unpack(octets, key_of(key))
                if isinstance(found, Entry) and found.expires > now:
                    yield found
            if len(rows) < LISTED_AT_ONCE:
                return

    def watch(self, gone: Callable[[Key], None]) -> None:
        """Call *gone* with the key of each entry that this process removes."""
        self._gone.append(gone)

    async def heed(self, withdrawn: Callable[[Key | None], None], *, every_s: float = 0.25) -> None:
        """Call *withdrawn* with each key that any process withdraws, with None where that is all; never ends."""
        last: int | None = None
        while True:
            try:
                if last is None:
                    last = await self._threads.read(sqlite_entries.last_withdrawal, deadline_s=LOOKING_S)
                last, keys = await self._threads.read(partial(sqlite_entries.withdrawals, last), deadline_s=LOOKING_S)
                for key in keys:
                    withdrawn(key_of(key) if key is not None else None)
            except CacheError:
                # What was withdrawn meanwhile is not known.
                if last is not None:
                    withdrawn(None)
                last = None
            await self._threads.look_after()
            await asyncio.sleep(every_s)

    async def open(self) -> None:
        """Take hold of the file, so that the first request need not wait for it.

        Raises:
            CacheError: it cannot be opened; it is tried again with the requests.
        """
        await self._threads.read(self._table.look_at_totals, deadline_s=LONG_S)

    async def close(self) -> None:
        """Write what waits, and let go of the file."""
        if self._uses or self._waiting.entries:
            self._write_soon()
        if self._writing is not None:
            await asyncio.wait((self._writing,), timeout=5.0)
        await self._tasks.close()
        await self._threads.close()

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = self._tasks.start(self._write_all(), name="sqlite-writing")

    async def _write_all(self) -> None:
        """Write what waits, and what comes meanwhile."""
        while True:
            batch = self._waiting.entries[:BATCH]
            del self._waiting.entries[:BATCH]
            self._waiting.bytes -= sum([len(entry.body) + len(entry.head) for entry, _ in batch])
            uses, self._uses, self._uses_written = self._uses, Counter(), self._now()
            entries = [entry for entry, _ in batch]
            try:
                written = await self._threads.write(partial(self._table.write, entries, uses))
            except BaseException as error:
                fault = error if isinstance(error, CacheError) else CacheError(f"the store failed: {error!r}")
                for _, put in batch:
                    if not put.done():
                        put.set_exception(fault)
                        # Who put it may have gone by now.
                        put.exception()
                if not isinstance(error, CacheError):
                    raise
            else:
                for (_, put), kept in zip(batch, written.kept, strict=True):
                    if not put.done():
                        put.set_result(kept)
                self._tell(written.gone)
            if not self._waiting.entries:
                return

    def _tell(self, keys: Iterable[Key]) -> None:
        for key in keys:
            for gone in self._gone:
                gone(key)
