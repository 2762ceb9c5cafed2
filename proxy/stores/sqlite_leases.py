"""Leases in the file of the sqlite store."""

import sqlite3
import time
from collections.abc import Callable
from functools import partial

from proxy.stores.guard import Guard
from proxy.stores.sqlite_threads import SqliteThreads


class SqliteLeases:
    """Names with who holds them, and until when."""

    def __init__(self, threads: SqliteThreads, *, deadline_s: float, now: Callable[[], float] = time.time) -> None:
        self._threads = threads
        self._deadline_s = deadline_s
        # Of its own: requests wait for leases, so they give up sooner than what puts answers away.
        self._guard = Guard(f"leases at {threads.file.path}")
        self._now = now

    def __repr__(self) -> str:
        return f"<SqliteLeases {self._threads.file.path}>"

    async def take(self, name: str, token: bytes, *, keep_s: float) -> bool:
        """See :class:`proxy.ports.Leases`."""
        take = partial(self._take, name, token, keep_s)
        return await self._threads.write(take, deadline_s=self._deadline_s, guard=self._guard)

    def _take(self, name: str, token: bytes, keep_s: float, connection: sqlite3.Connection) -> bool:
        now = self._now()
        taken = connection.execute(
            "INSERT INTO lease (name, token, lapses) VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET token = excluded.token, lapses = excluded.lapses WHERE lapses <= ? OR token = excluded.token",
            (name, token, now + keep_s, now),
        )
        return taken.rowcount == 1

    async def renew(self, name: str, token: bytes, *, keep_s: float) -> bool:
        """See :class:`proxy.ports.Leases`."""

        def renew(connection: sqlite3.Connection) -> bool:
            now = self._now()
            held = "UPDATE lease SET lapses = ? WHERE name = ? AND token = ? AND lapses > ?"
            return connection.execute(held, (now + keep_s, name, token, now)).rowcount == 1

        return await self._threads.write(renew, guard=self._guard)

    async def release(self, name: str, token: bytes) -> None:
        """See :class:`proxy.ports.Leases`."""

        def release(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM lease WHERE (name = ? AND token = ?) OR lapses <= ?", (name, token, self._now())
            )

        await self._threads.write(release, guard=self._guard)
