"""Entries in one file: they outlast the process, and several processes share them."""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from proxy.errors import CacheError, Unreadable
from proxy.model import Entry, Key
from proxy.stores.codec import Codec
from proxy.stores.fading import Fading
from proxy.stores.memory import gone_at, worth
from proxy.stores.sqlite_threads import SqliteThreads
from proxy.tasks import Tasks

ROW_BYTES = 350
"""What an entry takes in the file beside its octets: two rows, four index items, a share of half-empty pages."""

BATCH = 256
"""So many entries that came at about the same time are written in one transaction."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Answers that wait to be written; what comes then is not kept."""

MAX_USES = 10_000
"""Entries whose uses are noted between two writes."""

USES_EVERY_S = 2.0
"""Uses are written this often: they matter when room is made, not before."""

EXPIRED_AT_ONCE = 200
"""So many expired entries are removed with each write."""

LISTED_AT_ONCE = 200

LOOKING_S = 5.0
"""No request waits for what is looked for now and then."""

LONG_S = 300.0
"""For what goes through the whole file."""

WITHDRAWALS_KEPT = 10_000
"""Whoever has not looked for longer than this many withdrawals forgets all it has."""


_ALL = "SELECT id, key, octets FROM entry JOIN content USING (id) WHERE id > ? AND gone > ? ORDER BY id LIMIT ?"
_ASKED = _ALL.replace("WHERE", "WHERE asked AND")


@dataclass(frozen=True, slots=True)
class _Written:
    """What a batch came to."""

    kept: Sequence[bool]
    gone: Sequence[Key]


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
        self._codec = codec
        self._max_bytes = max_bytes
        self._lru = eviction == "lru"
        self._now = now
        self._tasks = Tasks()
        self._waiting = _Waiting()
        self._writing: asyncio.Task[None] | None = None
        self._uses: Counter[Key] = Counter()
        self._uses_written = now()
        self._gone: list[Callable[[Key], None]] = []
        self._entries = self._bytes = 0
        self.evicted = 0
        self.expired = 0
        self._unreadable = Fading(str(threads.file.path))

    def __repr__(self) -> str:
        return f"<SqliteStore {self._threads.file.path}, {self._entries} entries, {self._bytes} of {self._max_bytes}>"

    def __len__(self) -> int:
        return self._entries

    @property
    def bytes_used(self) -> int:
        """Octets in use when it was last looked, overhead included."""
        return self._bytes

    @property
    def max_bytes(self) -> int:
        """The budget."""
        return self._max_bytes

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
        now, wanted = self._now(), _octets(key)

        def look(connection: sqlite3.Connection) -> Entry | Unreadable | None:
            row = connection.execute(
                "SELECT octets FROM entry JOIN content USING (id) WHERE key = ? AND gone > ?", (wanted, now)
            ).fetchone()
            return self._read(row[0], key) if row is not None else None

        found = await self._threads.read(look)
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
        now, wanted = self._now(), _octets(key)

        def remove(connection: sqlite3.Connection) -> bool:
            rows = connection.execute("DELETE FROM entry WHERE key = ? RETURNING gone", (wanted,)).fetchall()
            _withdraw(connection, [wanted])
            self._look_at_totals(connection)
            return any(gone > now for (gone,) in rows)

        dropped = await self._threads.write(remove)
        self._tell([key] if dropped else [])
        return dropped

    async def clear(self) -> int:
        """Forget every entry, here and in every other process."""
        now, listed = self._now(), bool(self._gone)

        def remove(connection: sqlite3.Connection) -> tuple[int, list[Key]]:
            (live,) = connection.execute("SELECT count(*) FROM entry WHERE gone > ?", (now,)).fetchone()
            keys = [_key(key) for (key,) in connection.execute("SELECT key FROM entry")] if listed else []
            connection.execute("DELETE FROM entry")
            connection.execute("INSERT INTO withdrawal (key) VALUES (NULL)")
            self._look_at_totals(connection)
            return live, keys

        live, keys = await self._threads.write(remove, deadline_s=LONG_S)
        self._uses.clear()
        self._tell(keys)
        return live

    async def asked(self) -> AsyncIterator[Entry]:
        """Every live entry that has a scope."""
        async for entry in self._listed(_ASKED):
            yield entry

    async def arriving(self, *, every_s: float = 0.5) -> AsyncIterator[Entry]:
        """Every entry with a scope that is put from now on; looked for now and then."""
        last: int | None = None
        while True:
            rows: list[tuple[int, bytes, bytes]] = []
            try:
                newest = await self._threads.read(_newest, deadline_s=LOOKING_S)
                # A file that was set aside has a successor that begins to count anew.
                last = newest if last is None else min(last, newest)
                if last < newest:
                    look = partial(_rows, _ASKED, (last, self._now(), LISTED_AT_ONCE))
                    rows = await self._threads.read(look, deadline_s=LOOKING_S)
                    last = rows[-1][0] if len(rows) == LISTED_AT_ONCE else newest
            except CacheError:
                # What came meanwhile is found when the file can be read again.
                rows = []
            for _, key, octets in rows:
                found = self._read(octets, _key(key))
                if isinstance(found, Entry) and found.expires > self._now():
                    yield found
            if len(rows) < LISTED_AT_ONCE:
                await asyncio.sleep(every_s)

    async def entries(self) -> AsyncIterator[Entry]:
        """Every live entry."""
        async for entry in self._listed(_ALL):
            yield entry

    async def _listed(self, query: str) -> AsyncIterator[Entry]:
        last = 0
        while True:
            now = self._now()
            rows = await self._threads.read(partial(_rows, query, (last, now, LISTED_AT_ONCE)), deadline_s=LONG_S)
            for number, key, octets in rows:
                last = number
                found = self._read(octets, _key(key))
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
                    last = await self._threads.read(_last_withdrawal, deadline_s=LOOKING_S)
                last, keys = await self._threads.read(partial(_withdrawals, last), deadline_s=LOOKING_S)
                for key in keys:
                    withdrawn(_key(key) if key is not None else None)
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
        await self._threads.read(self._look_at_totals, deadline_s=LONG_S)

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
                written = await self._threads.write(partial(self._write, entries, uses))
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

    def _write(self, entries: Sequence[Entry], uses: Counter[Key], connection: sqlite3.Connection) -> _Written:
        now = self._now()
        (clock,) = connection.execute("SELECT clock FROM total").fetchone()
        base = now if self._lru else clock
        if uses:
            connection.executemany(
                "UPDATE entry SET uses = uses + ?, priority = ? + (uses + ?) * rate WHERE key = ?",
                [(times, base, times, _octets(key)) for key, times in uses.items()],
            )
        expired = connection.execute(
            "DELETE FROM entry WHERE id IN (SELECT id FROM entry WHERE gone <= ? ORDER BY gone LIMIT ?) RETURNING key",
            (now, EXPIRED_AT_ONCE),
        ).fetchall()
        gone = [_key(key) for (key,) in expired]
        kept = [self._insert(connection, entry, gone) for entry in entries]
        if expired:
            connection.execute("UPDATE total SET expired = expired + ?", (len(expired),))
        put_again = {entry.key for entry, it_was in zip(entries, kept, strict=True) if it_was}
        self._look_at_totals(connection)
        return _Written(kept, [key for key in gone if key not in put_again])

    def _insert(self, connection: sqlite3.Connection, entry: Entry, gone: list[Key]) -> bool:
        octets = self._codec.pack(entry)
        size, key = len(octets) + ROW_BYTES, _octets(entry.key)
        if size > self._max_bytes:
            return False
        before = connection.execute("DELETE FROM entry WHERE key = ? RETURNING uses", (key,)).fetchall()
        uses = before[0][0] if before else 1
        self._make_room(connection, size, gone)
        (clock,) = connection.execute("SELECT clock FROM total").fetchone()
        rate = 0.0 if self._lru else worth(entry) / size
        base = self._now() if self._lru else clock
        (number,) = connection.execute(
            "INSERT INTO entry (key, gone, size, rate, uses, priority, asked, tenant, model)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                key,
                gone_at(entry),
                size,
                rate,
                uses,
                base + uses * rate,
                bool(entry.scope),
                entry.tenant,
                _text(entry.model),
            ),
        ).fetchone()
        connection.execute("INSERT INTO content (id, octets) VALUES (?, ?)", (number, octets))
        return True

    def _make_room(self, connection: sqlite3.Connection, size: int, gone: list[Key]) -> None:
        while True:
            (held,) = connection.execute("SELECT bytes FROM total").fetchone()
            over = held + size - self._max_bytes
            if over <= 0:
                return
            least: list[tuple[int, bytes, int, float]] = connection.execute(
                "SELECT id, key, size, priority FROM entry ORDER BY priority, id LIMIT 64"
            ).fetchall()
            if not least:
                return
            evicted = 0
            for number, key, its_size, priority in least:
                connection.execute("DELETE FROM entry WHERE id = ?", (number,))
                gone.append(_key(key))
                evicted, over, clock = evicted + 1, over - its_size, priority
                if over <= 0:
                    break
            connection.execute("UPDATE total SET clock = max(clock, ?), evicted = evicted + ?", (clock, evicted))

    def _look_at_totals(self, connection: sqlite3.Connection) -> None:
        # Each is one assignment of a whole number: the loop may read them at any time.
        self._entries, self._bytes, self.evicted, self.expired = connection.execute(
            "SELECT entries, bytes, evicted, expired FROM total"
        ).fetchone()

    def _read(self, octets: bytes, key: Key) -> Entry | Unreadable:
        try:
            return self._codec.unpack(octets, key)
        except Unreadable as error:
            return error

    def _tell(self, keys: Iterable[Key]) -> None:
        for key in keys:
            for gone in self._gone:
                gone(key)


def _newest(connection: sqlite3.Connection) -> int:
    (newest,) = connection.execute("SELECT coalesce(max(id), 0) FROM entry").fetchone()
    return int(newest)


def _rows(query: str, given: tuple[object, ...], connection: sqlite3.Connection) -> list[tuple[int, bytes, bytes]]:
    return connection.execute(query, given).fetchall()


def _octets(key: Key) -> bytes:
    """*key* as it lies in the file: half as long where it is a digest."""
    if len(key) == 64:
        try:
            octets = bytes.fromhex(key)
        except ValueError:
            pass
        else:
            if octets.hex() == key:
                return octets
    text = b":" + key.encode()
    return text if len(text) != 32 else b":" + text


def _key(octets: bytes) -> Key:
    if len(octets) == 32:
        return Key(octets.hex())
    text = octets[1:]
    return Key((text[1:] if len(octets) == 33 and text.startswith(b":") else text).decode())


def _text(text: str) -> str:
    """*text* without what UTF-8 cannot say: half a surrogate pair in the name of a model, say."""
    return text.encode("utf-8", "replace").decode()


def _withdraw(connection: sqlite3.Connection, keys: Sequence[bytes]) -> None:
    connection.executemany("INSERT INTO withdrawal (key) VALUES (?)", [(key,) for key in keys])
    connection.execute("DELETE FROM withdrawal WHERE id <= (SELECT max(id) FROM withdrawal) - ?", (WITHDRAWALS_KEPT,))


def _last_withdrawal(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM withdrawal").fetchone()
    return int(last)


def _withdrawals(after: int, connection: sqlite3.Connection) -> tuple[int, list[bytes | None]]:
    """The number of the last withdrawal, and what was withdrawn since *after*: [None] where that is not known."""
    rows = connection.execute(
        "SELECT id, key FROM withdrawal WHERE id > ? ORDER BY id LIMIT ?", (after, WITHDRAWALS_KEPT)
    ).fetchall()
    if not rows:
        # A file that is a new one begins to count anew.
        last = _last_withdrawal(connection)
        return last, [None] if last < after else []
    if rows[0][0] > after + 1:
        return _last_withdrawal(connection), [None]
    return rows[-1][0], [key for _, key in rows]
