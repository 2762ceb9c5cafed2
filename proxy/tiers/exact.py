"""L1: the same request was answered before."""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from proxy import fingerprint
from proxy.accounts.usage import Usage
from proxy.errors import CacheError
from proxy.headers import Fields
from proxy.model import Entry, Key, Reason
from proxy.ports import Store

log = logging.getLogger(__name__)

NAME = "exact"

TELL_AGAIN_S = 30.0
"""A fault that comes after so long without one is another one, and told of again."""

AT_ONCE = 64
"""Keys that are looked up at the same time."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is kept under the key, and how old it is."""

    entry: Entry
    age_s: float


@dataclass(frozen=True, slots=True)
class Missed:
    """Nothing that may be given, and why."""

    reason: Reason
    stale: Entry | None = None
    """What has expired, but may be given where nothing better can be had."""


class ExactTier:
    """Looks entries up by exact key, narrowed by the request fields that answers on this path vary by."""

    def __init__(self, store: Store, *, now: Callable[[], float], stale: bool = False) -> None:
        """*stale*: what has expired is of use, too, as long as it is kept."""
        self._store = store
        self._stale = stale
        self._now = now
        self._varies: dict[str, frozenset[bytes]] = {}
        self._faulty = False
        self._failed = -math.inf
        self.generation = 0
        """Grows whenever something is learned that changes under which key a call is found, or who may be answered."""

    def __repr__(self) -> str:
        return f"<ExactTier on {self._store!r}>"

    @property
    def degraded(self) -> bool:
        """The last use of the store failed."""
        return self._faulty

    def narrow(self, key: Key, dialect: str, fields: Fields) -> Key:
        """*key* with the values of the fields that answers of *dialect* have been seen to vary by."""
        names = self._varies.get(dialect)
        return fingerprint.with_vary(key, names, fields) if names else key

    def learn_vary(self, dialect: str, names: frozenset[bytes]) -> bool:
        """From now on calls of *dialect* are told apart by *names* too; False where that would be too many.

        What is learned is never forgotten: remembering can only cost a hit.
        """
        known = self._varies.get(dialect, frozenset())
        if names <= known:
            return True
        known |= names
        if len(known) > fingerprint.MAX_VARY_NAMES:
            return False
        self._varies[dialect] = known
        self.generation += 1
        return True

    def turn(self) -> None:
        """Who may be answered is no longer what it was: what was remembered of hits no longer holds."""
        self.generation += 1

    async def look_up(self, key: Key, *, max_age_s: float | None) -> Found | Missed:
        """The entry under *key*, if it is young enough for the request."""
        try:
            entry = await (self._store.get_even_stale(key) if self._stale else self._store.get(key))
        except CacheError as error:
            self._fault(error)
            return Missed(Reason.CACHE_FAULT)
        self._faulty = False
        if entry is None:
            return Missed(Reason.NOT_FOUND)
        if self._stale and entry.expires <= self._now():
            return Missed(Reason.NOT_FOUND, stale=entry if max_age_s is None else None)
        age_s = max(0.0, self._now() - entry.created)
        if max_age_s is not None and age_s > max_age_s:
            return Missed(Reason.TOO_OLD)
        return Found(entry, age_s)

    async def look_up_all(self, keys: Sequence[Key], *, max_age_s: float | None) -> list[Found | Missed]:
        """What ``look_up`` says of each of *keys*, in their order; nothing more is looked up after a fault."""
        found: list[Found | Missed] = []
        while len(found) < len(keys):
            some = keys[len(found) : len(found) + AT_ONCE]
            found += await asyncio.gather(*(self.look_up(key, max_age_s=max_age_s) for key in some))
            if any(isinstance(each, Missed) and each.reason is Reason.CACHE_FAULT for each in found[-len(some) :]):
                found += [Missed(Reason.CACHE_FAULT)] * (len(keys) - len(found))
            # Stores in memory do not wait for anything, and others shall have their turn.
            await asyncio.sleep(0)
        return found

    async def keep(self, entry: Entry) -> bool:
        """Put *entry* away; False where the store failed or has no room."""
        try:
            return await self._store.put(entry)
        except CacheError as error:
            self._fault(error)
            return False

    async def amend(self, entry: Entry, usage: Usage) -> bool:
        """Put *usage* to *entry*, which named none; False where another stands in its place by now."""
        try:
            kept = await self._store.get(entry.key)
            if kept is None or (kept.created, kept.usage) != (entry.created, None):
                return False
            return await self._store.put(replace(kept, usage=usage))
        except CacheError as error:
            self._fault(error)
            return False

    def _fault(self, error: CacheError) -> None:
        # One line when it breaks, not one for each request while it stays so; look-ups that copies answer lie between.
        now = self._now()
        if now - self._failed >= TELL_AGAIN_S:
            log.warning("the store failed; requests go on as misses: %s", error)
        self._failed = now
        self._faulty = True
