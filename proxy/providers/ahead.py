"""A request to the provider that may set off before it is known to be needed."""

import asyncio
from collections.abc import Awaitable, Callable

from proxy.errors import UpstreamError
from proxy.providers.provider import Incoming
from proxy.tasks import Tasks


class Ahead:
    """Asks once: when it is told to, or when the answer is wanted."""

    def __init__(self, ask: Callable[[], Awaitable[Incoming]], tasks: Tasks) -> None:
        self._ask = ask
        self._tasks = tasks
        self._asking: asyncio.Task[Incoming] | None = None

    def __repr__(self) -> str:
        return f"<Ahead, {'asking' if self._asking is not None else 'waiting'}>"

    def set_off(self) -> None:
        """Ask now; whoever calls this calls off, or takes the answer."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask())

    async def answer(self) -> Incoming:
        """The answer, asked for now if that has not been done."""
        if self._asking is None:
            return await self._ask()
        try:
            return await self._asking
        except asyncio.CancelledError:
            self.call_off()
            raise

    def call_off(self) -> None:
        """Nobody wants it any more: the provider is told by the end of the connection."""
        if self._asking is not None:
            self._asking.cancel()
            self._tasks.start(_let_go(self._asking), name="call off")


async def _let_go(asking: asyncio.Task[Incoming]) -> None:
    try:
        async with await asking:
            pass
    except (UpstreamError, asyncio.CancelledError):
        # It failed, or never came about; nobody asks any more.
        pass
