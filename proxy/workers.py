"""Work off the event loop: few threads, a bounded line in front of them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from proxy.errors import EmbedderError

T = TypeVar("T")


class Workers:
    """*threads* threads that take one piece of work after the other; no more than *max_waiting* wait for them."""

    def __init__(self, *, threads: int, max_waiting: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._max_waiting = max_waiting
        self._name = name
        self._under_way: set[Future[Any]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Workers {self._name}, {len(self._under_way)} pieces of work>"

    async def run(self, work: Callable[[], T]) -> T:
        """What *work* returns, done in one of the threads. Work whose caller is cancelled before its turn is left out.

        Raises:
            EmbedderError: too many wait already, or the workers have been closed.
        """
        if self._closed:
            raise EmbedderError(f"{self._name}: closed")
        if len(self._under_way) >= self._max_waiting:
            raise EmbedderError(f"{self._name}: {len(self._under_way)} wait already")
        future = self._pool.submit(work)
        self._under_way.add(future)
        try:
            return await asyncio.wrap_future(future)
        finally:
            # A piece of work that has begun goes on to its end even if nobody waits for it, and counts until then.
            if future.done():
                self._under_way.discard(future)
            else:
                future.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Begin nothing more; what has begun ends by itself."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
