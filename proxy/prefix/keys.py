"""Which prompt cache key a request gets: none while one machine can take the traffic, then one for each share of it.

A provider sends requests of one prefix and key to one machine, up to a rate; what comes beyond goes to machines that
know nothing of it. So a busy prefix is split by keys into shares that one machine can take, and a conversation keeps
the share that it began in.
"""

import hashlib
import hmac
from collections import deque

SPARE = 1
"""Requests a minute that a share is kept short of the published rate: others may count the minute otherwise."""

FILLED = 0.65
"""How much of the rate new conversations may take of a share, once there are several: the rest is for those that come
back after a minute in which they were not counted. Where their share is full they lose all that its machine knows."""

MINUTE_S = 60.0

MAX_SHARES = 64

MAX_GROUPS = 1024
MAX_LINEAGES = 65536
"""Conversations of which the share is known; half of them go at once."""

EXPECTED_GAP_S = 15.0
"""How long a conversation is expected to wait before its next turn, before any is known."""

LEARNING = 0.1


class _Group:
    """One system prompt: what was asked in the last minute in each share, by conversation."""

    __slots__ = ("gap_s", "shares")

    def __init__(self) -> None:
        self.shares: list[deque[tuple[float, bytes]]] = [deque()]
        self.gap_s = EXPECTED_GAP_S

    def forget(self, until: float) -> None:
        for recent in self.shares:
            while recent and recent[0][0] <= until:
                recent.popleft()

    def load(self, share: int, turns: float) -> float:
        """What comes to *share* in a minute: what came, or the *turns* of every conversation that it has."""
        recent = self.shares[share]
        return max(len(recent), len({conversation for _, conversation in recent}) * turns)

    def with_room(self, limit: float, turns: float) -> int:
        """The first share with room for one more conversation, or for a request; a new one; or the emptiest."""
        limit *= FILLED if len(self.shares) > 1 else 1.0
        for wanted in (turns, 1.0):
            for share in range(len(self.shares)):
                if self.load(share, turns) + wanted <= limit:
                    return share
            if len(self.shares) < MAX_SHARES:
                self.shares.append(deque())
                return len(self.shares) - 1
        return min(range(len(self.shares)), key=lambda share: len(self.shares[share]))


class Keys:
    """The shares of every system prompt. Not safe to use from several threads."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._groups: dict[bytes, _Group] = {}
        self._young: dict[bytes, tuple[int, float]] = {}
        self._old: dict[bytes, tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Keys, {len(self._groups)} groups, {len(self._young) + len(self._old)} lineages>"

    def share(self, group: bytes, lineage: tuple[bytes, ...], *, limit_rpm: int, goes_on: bool, now: float) -> int:
        """The share of a request of *group* whose prefixes beyond the system prompt are *lineage*; 0: no key.

        *goes_on*: conversations of this kind usually have a next turn.
        """
        known = self._groups.get(group)
        if known is None:
            if len(self._groups) >= MAX_GROUPS:
                self._groups.pop(next(iter(self._groups)))
            known = self._groups[group] = _Group()
        known.forget(now - MINUTE_S)
        limit = limit_rpm - SPARE
        before = next((found for digest in reversed(lineage) if (found := self._find(digest)) is not None), None)
        if before is not None:
            known.gap_s += LEARNING * (min(now - before[1], MINUTE_S) - known.gap_s)
        if before is not None and before[0] < len(known.shares) and len(known.shares[before[0]]) < limit:
            chosen = before[0]
        else:
            # Its own share is full: it would go to a machine that knows nothing. Another share knows the beginning.
            turns = min(MINUTE_S / max(known.gap_s, 1.0), float(limit)) if goes_on or before is not None else 1.0
            chosen = known.with_room(limit, max(1.0, turns))
        known.shares[chosen].append((now, lineage[0] if lineage else b""))
        for digest in {*lineage[:1], *lineage[-1:]}:
            self._remember(digest, chosen, now)
        return chosen

    def key(self, group: bytes, share: int) -> str:
        """The key of a share: ASCII, and nothing can be read in it."""
        told = hmac.new(self._secret, group + share.to_bytes(2, "big"), hashlib.sha256).hexdigest()
        return f"ao-{told[:24]}"

    def _find(self, digest: bytes) -> tuple[int, float] | None:
        return self._young.get(digest) or self._old.get(digest)

    def _remember(self, digest: bytes, share: int, now: float) -> None:
        if len(self._young) >= MAX_LINEAGES // 2:
            self._old, self._young = self._young, {}
        self._young[digest] = (share, now)
