"""One fetch for all processes that share a store: whoever holds the lease asks, the others wait for what it keeps.

A lease is short and renewed while its holder lives, so a process that died holds nobody up for longer than that. Nobody
waits longer than the settings say, and nobody waits for a store that fails: then everybody asks for itself, as without
leases.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from types import TracebackType

from proxy.accounts.usage import Usage
from proxy.errors import CacheError
from proxy.headers import Fields, parse_lines
from proxy.model import Entry, Key
from proxy.ports import Leases, Store
from proxy.providers.provider import Incoming, Take
from proxy.replay import Replayed
from proxy.tasks import Tasks

log = logging.getLogger(__name__)

LEASE_S = 3.0
"""How long the lease of a process that died holds the others up; the living renew it in time."""

RENEW_EVERY_S = 1.0

LOOK_EVERY_S = 0.02
"""How soon a kept answer is noticed at best."""

MAX_LOOK_EVERY_S = 0.2
"""And at worst: whoever has waited for long can wait a little longer."""

TOKEN_BYTES = 12

Again = Callable[[Entry], Awaitable[Replayed | None]]
"""An entry as it was asked for; None where it cannot be given so."""


class Leasing:
    """Gives out leases, where there is a store to keep them."""

    def __init__(self, leases: Leases | None, store: Store, *, tasks: Tasks, wait_s: float) -> None:
        self._leases = leases if wait_s > 0 else None
        self._store = store
        self._tasks = tasks
        self._wait_s = wait_s

    def __repr__(self) -> str:
        return f"<Leasing {'from ' + repr(self._leases) if self._leases is not None else 'nothing'}>"

    def lease(self, key: Key, again: Again) -> "Lease | None":
        """The lease for the answer under *key*, not taken yet; None where there are none."""
        if self._leases is None:
            return None
        return Lease(key, again, self._leases, self._store, tasks=self._tasks, wait_s=self._wait_s)


class Lease:
    """The right to ask the provider for one answer."""

    def __init__(self, key: Key, again: Again, leases: Leases, store: Store, *, tasks: Tasks, wait_s: float) -> None:
        self._key = key
        self._again = again
        self._leases = leases
        self._store = store
        self._tasks = tasks
        self._wait_s = wait_s
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._renewing: asyncio.Task[None] | None = None
        self.found: Entry | None = None
        """What another process fetched, which made our fetch needless."""

    def __repr__(self) -> str:
        return f"<Lease {self._key[:16]}{' held' if self._renewing is not None else ''}>"

    async def answer(self, ask: Callable[[], Awaitable[Incoming]]) -> Incoming:
        """What another process fetched meanwhile, or what *ask* brings."""
        try:
            kept = await self._kept_by_another()
        except CacheError as error:
            log.debug("no lease: %s", error)
            kept = None
        return kept if kept is not None else await ask()

    async def _kept_by_another(self) -> "Recorded | None":
        """What another process keeps by now; None where it is for us to ask, because we hold the lease or waited long
        enough."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._wait_s
        pause_s = LOOK_EVERY_S
        while True:
            held = await self._leases.take(self._key, self._token, keep_s=LEASE_S)
            if held:
                self._renewing = self._tasks.start(self._renew(), name="lease")
            # Also where we hold it: the last who did may have kept its answer after we had looked.
            kept = await self._look()
            if kept is not None or held or loop.time() >= until:
                return kept
            await asyncio.sleep(min(pause_s, max(0.0, until - loop.time())))
            pause_s = min(1.2 * pause_s, MAX_LOOK_EVERY_S)

    async def _look(self) -> "Recorded | None":
        entry = await self._store.get(self._key)
        replayed = await self._again(entry) if entry is not None else None
        if entry is None or replayed is None:
            return None
        self.found = entry
        return Recorded(entry, replayed)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                if not await self._leases.renew(self._key, self._token, keep_s=LEASE_S):
                    return
            except CacheError:
                # It lapses, unless the store works again before that.
                continue

    def end(self) -> None:
        """The answer is kept, or there is none: the next may ask."""
        if self._renewing is not None:
            self._renewing.cancel()
            self._tasks.start(self._release(), name="release")

    async def _release(self) -> None:
        try:
            await self._leases.release(self._key, self._token)
        except CacheError as error:
            log.debug("a lease was not given back and will lapse: %s", error)


class Recorded:
    """An answer that another process fetched, coming in as from the provider."""

    def __init__(self, entry: Entry, replayed: Replayed) -> None:
        self.status = entry.status
        self.phrase = entry.phrase
        self.fields = Fields(parse_lines(replayed.head))
        self.usage: Usage | None = None
        self._body = replayed.body

    def __repr__(self) -> str:
        return f"<Recorded {self.status}, {len(self._body)} bytes>"

    async def __aenter__(self) -> "Recorded":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""

    async def flow(self, take: Take) -> bool:
        """All of it in one piece."""
        if self._body:
            take(self._body)
        return True
