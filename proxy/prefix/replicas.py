"""Which of several replicas of one engine gets a request: the one that will have its first token first. Pure.

Each replica's memory is mirrored by what was sent to it: the prefixes that it should still hold, oldest first out. What
is not held must be computed, behind what waits already; how fast, is learned from how long first answers took. What is
computed keeps others waiting, too: the busier a replica has been, the more of them come while it computes.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import StrEnum

from proxy.prefix.chain import Chain
from proxy.prefix.pulse import Pulse
from proxy.values import value

MAX_REPLICAS = 64

SPEED = 1000.0
"""Tokens a second that a replica computes, before anything is known."""

LEARNING = 0.1

SLOWEST = 1.0

LEAST_TIMED = 64
"""Tokens below which a time tells of other things than computing."""

MOST_BUSY = 0.9
"""No replica is taken to compute for a larger share of the time: what waits behind it would seem endless."""

ALIKE = 0.1
"""Expected times within so much of one another are taken for equal: the less busy of two such gets the request."""

CROWDED = 1.5
"""No replica gets more than this times its share of what is under way, and two more, whatever it holds."""

EXPLORED = 0.01
"""The share of requests that go to any replica, so that one that has become fast is noticed."""

FAULTS_TO_EJECT = 3
FIRST_EJECTION_S = 5.0
LONGEST_EJECTION_S = 60.0

SLOW_START_S = 10.0
"""How long one that is back counts as slower than it is, less and less."""

OCTETS_PER_TOKEN = 4


class Routing(StrEnum):
    """How a replica is chosen."""

    PREFIX = "prefix"
    """Least expected time to the first token."""
    AFFINITY = "affinity"
    """Most of the prefix held, unless it is busier than the others."""
    ROUND_ROBIN = "round_robin"
    """One after the other."""


@value
class Load:
    """What one prompt means for a replica."""

    fresh: int = 0
    """Tokens to compute."""
    expected_s: float = 0.0
    """Until its answer begins, what was sent before it included."""
    upto: int = 0
    """Tokens that were ever sent to the replica to compute, these included."""
    speed: float = SPEED
    """At which it is expected to, in tokens a second."""


class Replica:
    """One of them, as far as it is known from here."""

    __slots__ = (
        "_capacity",
        "_held",
        "_octets",
        "asked",
        "back_at",
        "busy_until",
        "computing",
        "ejected_until",
        "ejections",
        "faults",
        "sent",
        "speed",
        "under_way",
        "work",
    )

    def __init__(self, *, tokens: int) -> None:
        self._capacity = tokens * OCTETS_PER_TOKEN
        self._held: OrderedDict[bytes, int] = OrderedDict()
        self._octets = 0
        self.busy_until = -math.inf
        """When it should have computed all that was sent to it."""
        self.asked = 0
        """Tokens that it was ever sent to compute."""
        self.computing = 0
        """Prompts whose answers have not begun."""
        self.under_way = 0
        self.sent = 0
        self.speed = SPEED
        self.work = Pulse()
        """Seconds that it computes."""
        self.faults = 0
        self.ejections = 0
        self.ejected_until = 0.0
        self.back_at = -math.inf

    def __repr__(self) -> str:
        return f"<Replica, {self.under_way} under way, {self.computing} not begun, {self.speed:.0f} tokens/s>"

    def holds(self, chain: Chain) -> int:
        """How many octets of *chain* it should still have in memory."""
        blocks = 0
        for digest in chain.digests:
            if digest not in self._held:
                break
            blocks += 1
        return chain.upto(blocks)

    def take(self, chain: Chain) -> None:
        """*chain* goes through its memory."""
        before = 0
        sizes = []
        for digest, end in zip(chain.digests, chain.ends, strict=True):
            sizes.append((digest, end - before))
            before = end
        # From the end: a block without the one before it is of no use.
        for digest, size in reversed(sizes):
            if digest in self._held:
                self._held.move_to_end(digest)
            else:
                self._held[digest] = size
                self._octets += size
        while self._octets > self._capacity and self._held:
            self._octets -= self._held.popitem(last=False)[1]

    def forget(self) -> None:
        """It was restarted, or may have been."""
        self._held.clear()
        self._octets = 0


class Replicas:
    """All of them. Not safe to use from several threads."""

    def __init__(
        self,
        count: int,
        *,
        routing: Routing,
        tokens: int,
        now: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.all: Sequence[Replica] = [Replica(tokens=tokens) for _ in range(count)]
        self._routing = routing
        self._now = now
        self._chance = chance
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Replicas, {self._routing}, {list(self.all)!r}>"

    def choose(self, chain: Chain | None, *, without: frozenset[int] = frozenset()) -> int:
        """The number of the replica that should get the prompt *chain* (None: not known); *without* some."""
        now = self._now()
        fit = [n for n, each in enumerate(self.all) if n not in without and each.ejected_until <= now]
        # Where all are out, any may be back; nobody is refused for our opinion of them.
        fit = fit or [n for n in range(len(self.all)) if n not in without] or list(range(len(self.all)))
        if len(fit) == 1:
            return fit[0]
        if self._routing is Routing.ROUND_ROBIN:
            self._turn += 1
            return fit[self._turn % len(fit)]
        if chain is None or not chain.digests:
            return min(fit, key=lambda n: (self.all[n].under_way, self.all[n].sent))
        if self._chance() < EXPLORED:
            return fit[int(self._chance() * len(fit))]
        share = sum([each.under_way for each in self.all]) / len(fit)
        fit = [n for n in fit if self.all[n].under_way <= CROWDED * share + 2] or fit
        if self._routing is Routing.AFFINITY:
            return max(fit, key=lambda n: (self.all[n].holds(chain), -self.all[n].under_way))
        waits = {n: self._wait_s(n, chain, now) for n in fit}
        least = min(waits.values())
        alike = [n for n in fit if waits[n] <= least * (1 + ALIKE)]
        return min(self._two_of(alike), key=lambda n: (self.all[n].under_way, self.all[n].sent))

    def _two_of(self, numbers: list[int]) -> list[int]:
        """Two at random (the power of two choices): all would run to the same one before its load shows."""
        if len(numbers) <= 2:
            return numbers
        first = int(self._chance() * len(numbers))
        second = int(self._chance() * (len(numbers) - 1))
        return [numbers[first], [*numbers[:first], *numbers[first + 1 :]][second]]

    def _wait_s(self, number: int, chain: Chain, now: float) -> float:
        """Seconds until replica *number* would have the first token, and that others would wait for it."""
        replica = self.all[number]
        fresh = (chain.octets - replica.holds(chain)) / OCTETS_PER_TOKEN
        since = now - replica.back_at
        speed = replica.speed * (max(0.1, since / SLOW_START_S) if since < SLOW_START_S else 1.0)
        # Of a replica that computes for a share u of the time, a second more is waited for by others for u / (1 - u):
        # so much comes while it computes that, and while it computes what has come.
        busy = min(MOST_BUSY, replica.work.per_minute(now) / 60.0)
        return max(0.0, replica.busy_until - now) + (fresh / (1.0 - busy) + 1) / speed

    def began(self, number: int, chain: Chain | None) -> Load:
        """A prompt is sent to replica *number*: what it has to do for it."""
        replica = self.all[number]
        fresh = 0
        if chain is not None:
            fresh = (chain.octets - replica.holds(chain)) // OCTETS_PER_TOKEN
            replica.take(chain)
        wait_s = self._queued(replica, fresh)
        replica.computing += 1
        replica.under_way += 1
        return Load(fresh=fresh, expected_s=wait_s, upto=replica.asked, speed=replica.speed)

    def heard(self, number: int, chain: Chain, load: Load) -> Load:
        """Another process sent *chain* to replica *number*, which means *load* for it; and here what is returned."""
        replica = self.all[number]
        replica.take(chain)
        # Whoever sends there knows how fast it is better than one who may not have for long.
        replica.speed = max(SLOWEST, replica.speed * (load.speed / replica.speed) ** LEARNING)
        self._queued(replica, load.fresh)
        return Load(fresh=load.fresh, upto=replica.asked)

    def heard_answered(self, number: int, load: Load) -> None:
        """Replica *number* no longer computes *load*, of which was heard."""
        self._computed(self.all[number], load)

    def _queued(self, replica: Replica, fresh: int) -> float:
        """So many tokens more wait at *replica*; seconds until they should be computed."""
        now = self._now()
        work_s = fresh / replica.speed
        wait_s = max(0.0, replica.busy_until - now) + work_s
        replica.busy_until = now + wait_s
        replica.work.beat(now, times=work_s)
        replica.asked += fresh
        replica.sent += 1
        return wait_s

    def answered(self, number: int, load: Load, *, seconds: float | None) -> None:
        """Its answer to a prompt begins, after *seconds* where that tells how fast it computes."""
        replica = self.all[number]
        if seconds and load.fresh >= LEAST_TIMED:
            # Twice as long as expected is half as fast; no single answer says more than that.
            off = min(2.0, max(0.5, load.expected_s / seconds))
            replica.speed = max(SLOWEST, replica.speed * off**LEARNING)
        replica.computing = max(0, replica.computing - 1)
        self._computed(replica, load)
        if replica.ejections:
            replica.back_at = self._now()
        replica.faults = replica.ejections = 0
        replica.ejected_until = 0.0

    def _computed(self, replica: Replica, load: Load) -> None:
        """It no longer computes *load*, nor what was sent before it: what came after that is all that waits."""
        left_s = (replica.asked - load.upto) / replica.speed
        replica.busy_until = min(replica.busy_until, self._now() + left_s)

    def ended(self, number: int) -> None:
        """An answer of replica *number* is over, however it ended."""
        self.all[number].under_way -= 1

    def failed(self, number: int, load: Load) -> None:
        """Replica *number* could not be asked, or said that it cannot answer."""
        replica = self.all[number]
        replica.computing = max(0, replica.computing - 1)
        self._computed(replica, load)
        replica.faults += 1
        if replica.faults >= FAULTS_TO_EJECT:
            replica.ejections += 1
            out_s = min(LONGEST_EJECTION_S, FIRST_EJECTION_S * 2.0 ** (replica.ejections - 1))
            replica.ejected_until = self._now() + out_s
            replica.faults = FAULTS_TO_EJECT - 1
            replica.forget()
