"""What was decided about pairs of questions: remembered, until it turns out to be wrong."""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from proxy.model import Key
from proxy.semantic.recall import Recalled

MAX_ALIASES = 65536
MAX_APART = 65536
MAX_DUMPED = 2000
"""So many of the pairs that are known to differ outlive the process, the latest."""

MAX_SAID = 4096
"""So many pairs are known that people told apart. All of them outlive the process: no number of pairs that were found
to differ by comparing answers makes one of them be forgotten."""

MAX_SERVED = 4096
"""For how many of the last answers a verdict is taken by their id."""

Pair = tuple[Key, Key]

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Alias:
    """A question that was given the answer of another."""

    key: Key
    """The other's."""
    cosine: float
    score: float


@dataclass(frozen=True, slots=True)
class Served:
    """One answer that was given, for a verdict on it."""

    asked: Key
    cached: Key
    score: float
    kind: str


class Pairs:
    """Aliases, pairs that are known to differ, and what was served of late; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._aliases: OrderedDict[Key, Alias] = OrderedDict()
        self._apart: OrderedDict[Pair, None] = OrderedDict()
        self._said: OrderedDict[Pair, None] = OrderedDict()
        self._served: OrderedDict[str, Served] = OrderedDict()
        self._unwritten: OrderedDict[Pair, bool] = OrderedDict()
        """Pairs that nobody else knows to differ, and whether somebody said so."""
        self._dumped: frozenset[Pair] = frozenset()

    def __repr__(self) -> str:
        return f"<Pairs, {self.aliases} aliases, {self.apart} apart>"

    @property
    def aliases(self) -> int:
        """How many questions are answered by another's."""
        return len(self._aliases)

    @property
    def apart(self) -> int:
        """How many pairs are known to differ."""
        return len(self._said) + len(self._apart)

    @property
    def news(self) -> bool:
        """Whether it is known of any pair here alone that somebody told it apart."""
        return any(self._unwritten.values())

    def alias(self, asked: Key) -> Alias | None:
        """What was decided for this very question."""
        found = self._aliases.get(asked)
        if found is not None:
            self._aliases.move_to_end(asked)
        return found

    def serve(self, given: Recalled) -> None:
        """An answer was given."""
        cached = given.entry.key
        _put(self._aliases, given.asked, Alias(cached, given.similarity, given.score), MAX_ALIASES)
        _put(self._served, given.id, Served(given.asked, cached, given.score, given.kind), MAX_SERVED)

    def forget(self, asked: Key) -> None:
        """The question has an answer of its own, or its alias leads nowhere."""
        self._aliases.pop(asked, None)

    def tell_apart(self, asked: Key, cached: Key, *, said: bool = False) -> None:
        """The two have different answers, whichever is asked first; *said* by somebody, or found by comparing them."""
        pair = _unordered(asked, cached)
        _put(self._unwritten, pair, said or self._unwritten.get(pair, False), MAX_DUMPED + MAX_SAID)
        self._know(pair, said=said)

    def _know(self, pair: Pair, *, said: bool) -> None:
        if said:
            self._apart.pop(pair, None)
            _put(self._said, pair, None, MAX_SAID)
        elif pair not in self._said:
            _put(self._apart, pair, None, MAX_APART)
        for one, other in (pair, pair[::-1]):
            alias = self._aliases.get(one)
            if alias is not None and alias.key == other:
                del self._aliases[one]

    def told_apart(self, asked: Key, cached: Key) -> bool:
        """Whether they are known to have different answers."""
        pair = _unordered(asked, cached)
        return pair in self._said or pair in self._apart

    def served(self, name: str) -> list[Served]:
        """What was served of late under the id *name*, or from the entry whose key begins with it."""
        if name in self._served:
            return [self._served[name]]
        return [each for each in self._served.values() if each.cached.startswith(name)]

    def dumped(self) -> dict[str, list[Pair]]:
        """The pairs that are known to differ, the latest of those that were found, to be read again by ``restore``."""
        self._dumped = frozenset(self._unwritten)
        return {"apart": list(islice(reversed(self._apart), MAX_DUMPED))[::-1], "said": list(self._said)}

    def written(self) -> None:
        """What was dumped last is known to others now."""
        for pair in self._dumped:
            self._unwritten.pop(pair, None)
        self._dumped = frozenset()

    def restore(self, apart: object, said: object) -> None:
        """Take up what an earlier process knew, or another. What is known here alone stays the latest."""
        for dumped, by_people in ((apart, False), (said, True)):
            for pair in dumped if isinstance(dumped, list) else ():
                match pair:
                    case [str() as one, str() as other]:
                        self._know(_unordered(Key(one), Key(other)), said=by_people)
                    case _:
                        pass
        for pair, by_people in self._unwritten.items():
            self._know(pair, said=by_people)

    def clear(self) -> None:
        """Forget what was served. What is known to differ stays known: the texts did not change."""
        self._aliases.clear()
        self._served.clear()


def _unordered(one: Key, other: Key) -> tuple[Key, Key]:
    return (one, other) if one < other else (other, one)


def _put(table: OrderedDict[K, V], name: K, entry: V, most: int) -> None:
    table[name] = entry
    table.move_to_end(name)
    if len(table) > most:
        table.popitem(last=False)
