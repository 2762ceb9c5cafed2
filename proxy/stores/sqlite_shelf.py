"""Small values and shared counters in the file of the sqlite store."""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

from proxy.errors import CacheError
from proxy.stores.shelf import MAX_SHELF_BYTES
from proxy.stores.sqlite_threads import SqliteThreads

LAPSED_AT_ONCE = 50
"""So many lapsed pages are removed with each addition."""

SHELF_S = 2.0
"""No request waits for these."""


class SqliteShelf:
    """Values by name."""

    def __init__(self, threads: SqliteThreads) -> None:
        self._threads = threads

    def __repr__(self) -> str:
        return f"<SqliteShelf {self._threads.file.path}>"

    async def read(self, name: str) -> bytes | None:
        """See :class:`proxy.ports.Shelf`."""
        return await self._threads.read(lambda connection: _value(connection, name), deadline_s=SHELF_S)

    async def write(self, name: str, octets: bytes) -> None:
        """See :class:`proxy.ports.Shelf`."""

        if not await self._threads.write(lambda connection: _put(connection, name, octets)):
            raise CacheError(_no_room(name, octets))

    async def create(self, name: str, octets: bytes) -> bytes:
        """See :class:`proxy.ports.Shelf`."""

        def put(connection: sqlite3.Connection) -> bytes:
            connection.execute("INSERT OR IGNORE INTO shelf (name, octets) VALUES (?, ?)", (name, octets))
            return _value(connection, name) or b""

        return await self._threads.write(put)

    async def replace(self, name: str, octets: bytes, *, instead_of: bytes | None) -> bool:
        """See :class:`proxy.ports.Shelf`."""

        def put(connection: sqlite3.Connection) -> bool | None:
            return _put(connection, name, octets) or None if _value(connection, name) == instead_of else False

        done = await self._threads.write(put)
        if done is None:
            raise CacheError(_no_room(name, octets))
        return done


class SqliteTallies:
    """Pages of counters by name."""

    def __init__(self, threads: SqliteThreads, *, now: Callable[[], float] = time.time) -> None:
        self._threads = threads
        self._now = now

    def __repr__(self) -> str:
        return f"<SqliteTallies {self._threads.file.path}>"

    async def add(self, page: str, counts: Mapping[str, int], *, keep_s: float) -> None:
        """See :class:`proxy.ports.Tallies`."""
        now = self._now()

        def put(connection: sqlite3.Connection) -> None:
            lapsed = connection.execute(
                "DELETE FROM tally_page WHERE page IN (SELECT page FROM tally_page WHERE lapses < ? LIMIT ?)"
                " OR (page = ? AND lapses < ?) RETURNING page",
                (now, LAPSED_AT_ONCE, page, now),
            ).fetchall()
            connection.executemany("DELETE FROM tally WHERE page = ?", lapsed)
            connection.execute("REPLACE INTO tally_page (page, lapses) VALUES (?, ?)", (page, now + keep_s))
            connection.executemany(
                "INSERT INTO tally (page, name, count) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET count = count + excluded.count",
                [(page, name, count) for name, count in counts.items()],
            )

        await self._threads.write(put)

    async def read(self, pages: Sequence[str]) -> Sequence[Mapping[str, int]]:
        """See :class:`proxy.ports.Tallies`."""
        now = self._now()

        def look(connection: sqlite3.Connection) -> list[dict[str, int]]:
            return [
                dict(
                    connection.execute(
                        "SELECT name, count FROM tally JOIN tally_page USING (page) WHERE page = ? AND lapses >= ?",
                        (page, now),
                    ).fetchall()
                )
                for page in pages
            ]

        return await self._threads.read(look, deadline_s=SHELF_S)


def _put(connection: sqlite3.Connection, name: str, octets: bytes) -> bool:
    """Keep *octets* under *name*; False where there is no room for it."""
    (others,) = connection.execute(
        "SELECT coalesce(sum(length(octets)), 0) FROM shelf WHERE name <> ?", (name,)
    ).fetchone()
    if others + len(octets) > MAX_SHELF_BYTES:
        return False
    connection.execute("REPLACE INTO shelf (name, octets) VALUES (?, ?)", (name, octets))
    return True


def _no_room(name: str, octets: bytes) -> str:
    return f"no room on the shelf for {len(octets)} bytes under {name}"


def _value(connection: sqlite3.Connection, name: str) -> bytes | None:
    row = connection.execute("SELECT octets FROM shelf WHERE name = ?", (name,)).fetchone()
    return bytes(row[0]) if row is not None else None
