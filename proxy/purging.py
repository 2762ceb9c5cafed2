"""Removing entries: all of them, or those that answer to a description."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from proxy.model import Entry, Key
from proxy.ports import Store

SHORTEST_KEY = 8
"""Fewer digits of a key could name many entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries are to go; what is None is not asked for, and nothing asked for means all."""

    key: str | None = None
    """The key, or its beginning as ``x-cache-key`` shows it."""
    model: str | None = None
    """As the answer names it, with or without its date; ``*`` and ``?`` may stand in it."""
    namespace: str | None = None
    tag: str | None = None
    older_than_s: float | None = None

    @property
    def everything(self) -> bool:
        """Nothing is asked for in particular."""
        return all(each is None for each in (self.key, self.model, self.namespace, self.tag, self.older_than_s))

    def fits(self, entry: Entry, now: float) -> bool:
        """Whether *entry* answers to the description."""
        return (
            (self.key is None or entry.key.startswith(self.key))
            and (self.model is None or _is_model(entry.model, self.model))
            and (self.namespace is None or entry.namespace == self.namespace)
            and (self.tag is None or entry.tag == self.tag)
            and (self.older_than_s is None or now - entry.created > self.older_than_s)
        )


def _is_model(named: str, wanted: str) -> bool:
    return fnmatchcase(named, wanted) or re.fullmatch(rf"{re.escape(wanted)}-\d{{4}}-?\d\d-?\d\d", named) is not None


async def purge(store: Store, wanted: Wanted, *, now: Callable[[], float], dry_run: bool) -> int:
    """Remove what is *wanted*; how many entries that is, or with *dry_run* would be.

    Raises:
        CacheError: the store failed; some may be gone.
    """
    if wanted.everything and not dry_run:
        return await store.clear()
    found: list[Key] = [entry.key async for entry in store.entries() if wanted.fits(entry, now())]
    if dry_run:
        return len(found)
    return sum([await store.drop(key) for key in found])
