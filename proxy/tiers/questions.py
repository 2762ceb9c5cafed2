"""The questions whose answers are kept: their texts, their scopes, and who has asked them."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.model import Key

MAX_QUESTIONS = 1_000_000
"""A bound for stores that outlive the process; the oldest are forgotten first."""


@dataclass(slots=True)
class Known:
    """A question that has an answer."""

    text: str
    scope: str
    maker: str
    seen_twice: bool = False
    """Somebody else than its maker has asked it, too."""
    placed: bool = False
    """Its vector is in the index."""


class Questions:
    """Known questions by the key of their entry, and by scope."""

    def __init__(self, *, most: int = MAX_QUESTIONS) -> None:
        self._most = most
        self._known: OrderedDict[Key, Known] = OrderedDict()
        self._scopes: dict[str, dict[Key, None]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"<Questions, {len(self._known)} in {len(self._scopes)} scopes>"

    def add(self, key: Key, known: Known) -> Key | None:
        """Know one more; the key of one that had to be forgotten for it."""
        before = self.drop(key)
        if before is not None:
            known.seen_twice = known.seen_twice or (before.seen_twice and before.maker == known.maker)
        self._known[key] = known
        self._scopes.setdefault(known.scope, {})[key] = None
        return next(iter(self._known)) if len(self._known) > self._most else None

    def get(self, key: Key) -> Known | None:
        """The question under *key*."""
        return self._known.get(key)

    def drop(self, key: Key) -> Known | None:
        """Forget one."""
        known = self._known.pop(key, None)
        if known is not None:
            scope = self._scopes[known.scope]
            del scope[key]
            if not scope:
                del self._scopes[known.scope]
        return known

    def others(self, scope: str, key: Key) -> bool:
        """Whether *scope* has a question that is not the one under *key*."""
        within = self._scopes.get(scope)
        return within is not None and (len(within) > 1 or key not in within)

    def unplaced(self, scope: str, most: int) -> Sequence[Key]:
        """Some questions of *scope* that have no vector yet. Only the latest are looked at: they come in order."""
        found: list[Key] = []
        for key in reversed(self._scopes.get(scope, {})):
            if self._known[key].placed or len(found) == most:
                break
            found.append(key)
        return found

    def seen(self, key: Key, maker: str) -> None:
        """*maker* has asked it."""
        known = self._known.get(key)
        if known is not None and known.maker != maker:
            known.seen_twice = True

    def beginning(self, prefix: str) -> Sequence[Key]:
        """The keys that begin with *prefix*."""
        return [key for key in self._known if key.startswith(prefix)]

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()
        self._scopes.clear()
