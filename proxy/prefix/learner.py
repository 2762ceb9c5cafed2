"""Which prefixes have been seen, when, and how often they came again in time: a bounded map of digests."""

from collections import deque
from dataclasses import dataclass

from proxy.prefix import worth
from proxy.prefix.chain import Chain
from proxy.prefix.reach import EVERYWHERE, Reach
from proxy.values import value

MAX_PENDING = 65536
"""Places that wait to be seen again or to lapse; older ones are forgotten without a verdict."""

MAX_LEVELS = 16384
"""Families times levels of which the chance of being seen again is known."""

SATURATED = 256.0
"""Verdicts beyond this are halved, so that a change in the traffic is noticed."""

OPEN = 0.5
"""How much of a lapse an open verdict counts for."""

NEVER = float("-inf")


@dataclass(slots=True)
class Node:
    """A prefix that was seen."""

    seen: float
    written: float = NEVER
    """When the provider last wrote it to its cache, or read it there, as far as its rules tell."""
    sightings: int = 0
    again: float = 0.0
    lapsed: float = 0.0
    waits: "Level | None" = None
    """Whose verdict is open until it is seen again or its time is over."""
    until: float = NEVER
    """When that is."""


@dataclass(slots=True)
class Level:
    """Places of one kind in one family of requests: how often they came again in time, how often not."""

    again: float = 0.0
    lapsed: float = 0.0
    open: int = 0
    """Verdicts that are awaited."""
    wider: "Level | None" = None

    def wait(self, number: int) -> None:
        """So many verdicts more are awaited, or less, here and in the wider level."""
        self.open += number
        if self.wider is not None:
            self.wider.wait(number)

    def add(self, *, again: bool) -> None:
        """One more verdict, here and in the wider level."""
        if again:
            self.again += 1.0
        else:
            self.lapsed += 1.0
        if self.again + self.lapsed > SATURATED:
            self.again /= 2.0
            self.lapsed /= 2.0
        if self.wider is not None:
            self.wider.add(again=again)

    @property
    def verdicts(self) -> float:
        """How many are known, here or in the wider level."""
        return max(self.again + self.lapsed, self.wider.verdicts if self.wider is not None else 0.0)

    @property
    def chance(self) -> float:
        """The chance that such a place is seen again in time; 0 where nothing is known."""
        # What comes again does so soon, what does not is known only when its time is over.
        lapsed = self.lapsed + OPEN * self.open
        return worth.blended(self.again, lapsed, self.wider.chance if self.wider is not None else 0.0)


@value
class Known:
    """What was known of a prompt at a moment. Lengths in blocks."""

    ever: int
    """Seen at any time."""
    alive: int
    """Seen within the time that the provider keeps a prefix."""
    cached: int
    """What the provider should read from its cache."""


class Learner:
    """The prefixes that were seen. Not safe to use from several threads."""

    def __init__(self, *, max_nodes: int) -> None:
        self._half = max(1, max_nodes // 2)
        self._young: dict[bytes, Node] = {}
        self._old: dict[bytes, Node] = {}
        self._levels: dict[tuple[bytes, str], Level] = {}
        self._pending: deque[tuple[float, bytes, Level]] = deque()

    def __repr__(self) -> str:
        return f"<Learner, {len(self)} prefixes>"

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def find(self, digest: bytes) -> Node | None:
        """The prefix with *digest*, if it is remembered."""
        return self._young.get(digest) or self._old.get(digest)

    def known(self, chain: Chain, *, now: float, ttl_s: float, reach: Reach = EVERYWHERE) -> Known:
        """What is known of *chain*: a walk from its start to the first block that was never seen."""
        ever = alive = cached = 0
        looked_up = reach.looked_up
        young, old = self._young, self._old
        for digest in chain.digests:
            node = young.get(digest) or old.get(digest)
            if node is None:
                break
            ever += 1
            if alive == ever - 1 and now - node.seen <= ttl_s:
                alive = ever
            if now - node.written <= ttl_s and (looked_up is None or ever in looked_up):
                cached = ever
        return Known(ever=ever, alive=alive, cached=cached)

    def observe(self, chain: Chain, *, now: float, ttl_s: float, written: frozenset[int] | None, read: int = 0) -> None:
        """*chain* was sent; the provider writes the prefixes of the lengths *written* and reads that of *read*."""
        self._lapse(now)
        length = len(chain.digests)
        # From the end: what is before a prefix must not be forgotten before it.
        for number in range(length, 0, -1):
            digest = chain.digests[number - 1]
            node = self._young.get(digest)
            if node is None:
                node = self._old.pop(digest, None) or Node(now)
                self._put(digest, node)
            level = node.waits
            if node.sightings:
                in_time = now - node.seen <= ttl_s
                if in_time:
                    node.again += 1.0
                else:
                    node.lapsed += 1.0
                if level is not None:
                    level.add(again=in_time)
                    level.wait(-1)
                    node.waits = None
            node.seen = now
            node.sightings += 1
            if written is None or number in written or number == read:
                node.written = now

    def await_again(self, digest: bytes, level: Level, *, until: float) -> None:
        """The verdict on *digest*, just observed, is to count for *level*: seen again by *until*, or not."""
        node = self.find(digest)
        if node is not None:
            node.waits, node.until = level, until
            level.wait(1)
            self._pending.append((until, digest, level))
            if len(self._pending) > MAX_PENDING:
                self._expire()

    def level(self, wide: bytes, family: bytes, name: str) -> Level:
        """The places called *name* in *family*, which is one of all that *wide* takes in."""
        found = self._levels.get((family, name))
        if found is None:
            if len(self._levels) >= MAX_LEVELS:
                self._levels.clear()
            wider = self._levels.setdefault((wide, name), Level())
            found = self._levels.setdefault((family, name), Level(wider=wider))
        return found

    def chance(self, digest: bytes, level: Level) -> float:
        """The chance that the prefix with *digest*, at a place of *level*, is seen again in time."""
        node = self.find(digest)
        prior = level.chance
        return prior if node is None else worth.blended(node.again, node.lapsed, prior)

    def _put(self, digest: bytes, node: Node) -> None:
        if len(self._young) >= self._half:
            # Whatever was not seen since the last turn of generations is forgotten, in one stroke.
            self._old, self._young = self._young, {}
        self._young[digest] = node

    def _lapse(self, now: float) -> None:
        while self._pending and self._pending[0][0] < now:
            self._expire()

    def _expire(self) -> None:
        """The oldest open verdict: it was not seen again."""
        until, digest, level = self._pending.popleft()
        node = self.find(digest)
        if node is None or (node.waits is level and node.until == until):
            level.add(again=False)
            level.wait(-1)
        if node is not None and node.until == until:
            node.waits = None
