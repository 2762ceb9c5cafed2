"""Work on the file of the sqlite store, off the loop: reads side by side, writes one after the other."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from proxy.errors import CacheError
from proxy.stores.guard import PAUSE_S, Guard
from proxy.stores.sqlite_file import SqliteFile

T = TypeVar("T")

READERS = 2

MAX_WAITING = 1000
"""So many pieces of work may wait for a thread; what comes then is refused at once."""

WRITE_S = 2.0
"""No client waits for a write; what takes longer than this is given up so that the next may try."""

Work = Callable[[sqlite3.Connection], T]


class SqliteThreads:
    """A few threads with a connection each."""

    def __init__(self, file: SqliteFile, *, deadline_s: float) -> None:
        self.file = file
        self._deadline_s = deadline_s
        self._readers = ThreadPoolExecutor(READERS, "sqlite-reader")
        self._writer = ThreadPoolExecutor(1, "sqlite-writer")
        self._waiting = 0
        # Apart: where nothing can be written, on a full disk or beside a long write, reading goes on.
        self.reads = Guard(f"the store at {file.path}", pause_s=PAUSE_S)
        self.writes = Guard(f"writing to the store at {file.path}")

    def __repr__(self) -> str:
        return f"<SqliteThreads of {self.file.path}, {self._waiting} waiting>"

    async def read(self, work: Work[T], *, deadline_s: float | None = None) -> T:
        """What *work* reads.

        Raises:
            CacheError: the file cannot be read, or not within the deadline.
        """

        def run() -> T:
            with self.file.reading() as connection:
                return work(connection)

        within = self._deadline_s if deadline_s is None else deadline_s
        return await self.reads.within(within, lambda: self._start(self._readers, run))

    async def write(self, work: Work[T], *, deadline_s: float = WRITE_S, guard: Guard | None = None) -> T:
        """What *work* came to, within a transaction of its own; it counts as a fault at *guard* where it is one.

        Raises:
            CacheError: the file cannot be written, or not within *deadline_s*; then nothing of it was written, or all.
        """

        def run() -> T:
            with self.file.writing() as connection:
                return work(connection)

        return await (guard or self.writes).within(deadline_s, lambda: self._start(self._writer, run))

    async def look_after(self) -> None:
        """Let go of a file that another process found damaged."""
        await asyncio.wrap_future(self._writer.submit(self.file.look_after))

    async def close(self) -> None:
        """Finish what is under way and let go of the file."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._writer.shutdown()
        self.file.close()

    def _start(self, threads: ThreadPoolExecutor, run: Callable[[], T]) -> asyncio.Future[T]:
        if self._waiting >= MAX_WAITING:
            raise CacheError(f"the store at {self.file.path} is behind with {self._waiting} pieces of work")
        self._waiting += 1
        try:
            started = threads.submit(run)
        except RuntimeError as error:
            self._waiting -= 1
            raise CacheError(f"the store at {self.file.path} is closed") from error
        future = asyncio.wrap_future(started)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _: asyncio.Future[T]) -> None:
        self._waiting -= 1
