"""The entries in the file of the sqlite store: what is done with them, as SQL on a connection. Synchronous."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.errors import Unreadable
from proxy.model import Entry, Key
from proxy.stores.codec import Codec
from proxy.stores.memory import gone_at, worth

ROW_BYTES = 350
"""What an entry takes in the file beside its octets: two rows, four index items, a share of half-empty pages."""

EXPIRED_AT_ONCE = 200
"""So many expired entries are removed with each write."""

WITHDRAWALS_KEPT = 10_000
"""Whoever has not looked for longer than this many withdrawals forgets all it has."""

ALL = "SELECT id, key, octets FROM entry JOIN content USING (id) WHERE id > ? AND gone > ? ORDER BY id LIMIT ?"
ASKED = ALL.replace("WHERE", "WHERE asked AND")


@dataclass(frozen=True, slots=True)
class Totals:
    """How much there is, overhead included, and what went."""

    entries: int = 0
    bytes: int = 0
    evicted: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """What a batch came to."""

    kept: Sequence[bool]
    gone: Sequence[Key]


class SqliteEntries:
    """What threads do with the table, each on a connection of its own; within *max_bytes*."""

    def __init__(self, codec: Codec, *, max_bytes: int, lru: bool, now: Callable[[], float]) -> None:
        self._codec = codec
        self._max_bytes = max_bytes
        self._lru = lru
        self._now = now
        self.totals = Totals()
        """When it was last looked."""

    def __repr__(self) -> str:
        return f"<SqliteEntries, {self.totals}>"

    def find(self, key: Key, now: float, connection: sqlite3.Connection) -> Entry | Unreadable | None:
        """The entry under *key*, live or within its grace."""
        row = connection.execute(
            "SELECT octets FROM entry JOIN content USING (id) WHERE key = ? AND gone > ?", (_octets(key), now)
        ).fetchone()
        return self.unpack(row[0], key) if row is not None else None

    def remove(self, key: Key, connection: sqlite3.Connection) -> bool:
        """Remove and withdraw the entry under *key*; whether it was still there for anybody."""
        now, wanted = self._now(), _octets(key)
        rows = connection.execute("DELETE FROM entry WHERE key = ? RETURNING gone", (wanted,)).fetchall()
        _withdraw(connection, [wanted])
        self.look_at_totals(connection)
        return any(gone > now for (gone,) in rows)

    def remove_all(self, connection: sqlite3.Connection, *, listed: bool) -> tuple[int, list[Key]]:
        """Remove and withdraw every entry: how many were still there, and where *listed* the keys of all."""
        (live,) = connection.execute("SELECT count(*) FROM entry WHERE gone > ?", (self._now(),)).fetchone()
        keys = [key_of(key) for (key,) in connection.execute("SELECT key FROM entry")] if listed else []
        connection.execute("DELETE FROM entry")
        connection.execute("INSERT INTO withdrawal (key) VALUES (NULL)")
        self.look_at_totals(connection)
        return live, keys

    def write(self, entries: Sequence[Entry], uses: Counter[Key], connection: sqlite3.Connection) -> Written:
        """Keep *entries* and count *uses*; what is over, or makes room, is removed."""
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
        gone = [key_of(key) for (key,) in expired]
        kept = [self._insert(connection, entry, gone) for entry in entries]
        if expired:
            connection.execute("UPDATE total SET expired = expired + ?", (len(expired),))
        put_again = {entry.key for entry, it_was in zip(entries, kept, strict=True) if it_was}
        self.look_at_totals(connection)
        return Written(kept, [key for key in gone if key not in put_again])

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
                gone.append(key_of(key))
                evicted, over, clock = evicted + 1, over - its_size, priority
                if over <= 0:
                    break
            connection.execute("UPDATE total SET clock = max(clock, ?), evicted = evicted + ?", (clock, evicted))

    def look_at_totals(self, connection: sqlite3.Connection) -> None:
        """See how much there is now."""
        row = connection.execute("SELECT entries, bytes, evicted, expired FROM total").fetchone()
        # One assignment: the loop may read them at any time.
        self.totals = Totals(*row)

    def unpack(self, octets: bytes, key: Key) -> Entry | Unreadable:
        """The entry in *octets*, or why there is none."""
        try:
            return self._codec.unpack(octets, key)
        except Unreadable as error:
            return error


def newest(connection: sqlite3.Connection) -> int:
    """The number of the entry that came last."""
    (number,) = connection.execute("SELECT coalesce(max(id), 0) FROM entry").fetchone()
    return int(number)


def rows(query: str, given: tuple[object, ...], connection: sqlite3.Connection) -> list[tuple[int, bytes, bytes]]:
    """Number, key and octets of the entries that *query* finds."""
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


def key_of(octets: bytes) -> Key:
    """The key that lies in the file as *octets*."""
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


def last_withdrawal(connection: sqlite3.Connection) -> int:
    """The number of the last withdrawal."""
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM withdrawal").fetchone()
    return int(last)


def withdrawals(after: int, connection: sqlite3.Connection) -> tuple[int, list[bytes | None]]:
    """The number of the last withdrawal, and what was withdrawn since *after*: [None] where that is not known."""
    found = connection.execute(
        "SELECT id, key FROM withdrawal WHERE id > ? ORDER BY id LIMIT ?", (after, WITHDRAWALS_KEPT)
    ).fetchall()
    if not found:
        # A file that is a new one begins to count anew.
        last = last_withdrawal(connection)
        return last, [None] if last < after else []
    if found[0][0] > after + 1:
        return last_withdrawal(connection), [None]
    return found[-1][0], [key for _, key in found]
