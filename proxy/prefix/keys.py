"""Which prompt cache key a request gets: none while one machine can take the traffic, then one for each share of it.

A provider sends requests of one prefix and key to one machine, up to a rate; what comes beyond goes to machines that
know nothing of it. So a busy prefix is split by keys into shares that one machine can take, and a conversation keeps
the share that it began in.
"""

import hashlib
import hmac

from proxy.prefix.pulse import Pulse

HEADROOM = 0.8
"""How much of the published rate a share is filled to: traffic comes in bursts."""

MAX_SHARES = 64

MAX_GROUPS = 1024
MAX_LINEAGES = 65536
"""Conversations of which the share is known; half of them go at once."""

EXPECTED_TURNS = 4.0
"""Requests a minute that a conversation is expected to bring, where conversations go on."""


class Keys:
    """The shares of every busy system prompt. Not safe to use from several threads."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._groups: dict[bytes, list[Pulse]] = {}
        self._young: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}

    def __repr__(self) -> str:
        return f"<Keys, {len(self._groups)} groups, {len(self._young) + len(self._old)} lineages>"

    def share(
        self,
        group: bytes,
        lineage: tuple[bytes, ...],
        *,
        rpm: float,
        limit_rpm: float,
        goes_on: bool,
        now: float,
    ) -> int:
        """The share of a request of *group* whose prefixes beyond the system prompt are *lineage*; 0: no key.

        *rpm*: what the group asks in all. *goes_on*: its conversations usually have a next turn.
        """
        filled = limit_rpm * HEADROOM
        known = next((share for digest in reversed(lineage) if (share := self._find(digest)) is not None), None)
        shares = self._groups.get(group)
        if known is None and shares is None and rpm <= filled:
            return 0
        if shares is None:
            if len(self._groups) >= MAX_GROUPS:
                self._groups.pop(next(iter(self._groups)))
            shares = self._groups[group] = []
        if known is None:
            known = self._first_free(shares, filled, EXPECTED_TURNS if goes_on else 1.0, now)
        while len(shares) <= known:
            shares.append(Pulse())
        shares[known].beat(now)
        if lineage:
            self._remember(lineage[-1], known)
        return known

    def key(self, group: bytes, share: int) -> str:
        """The key of a share: ASCII, and nothing can be read in it."""
        told = hmac.new(self._secret, group + share.to_bytes(2, "big"), hashlib.sha256).hexdigest()
        return f"ao-{told[:24]}"

    @staticmethod
    def _first_free(shares: list[Pulse], filled: float, more: float, now: float) -> int:
        for number, pulse in enumerate(shares):
            if pulse.per_minute(now) + more <= filled:
                return number
        if len(shares) < MAX_SHARES:
            return len(shares)
        return min(range(len(shares)), key=lambda number: shares[number].per_minute(now))

    def _find(self, digest: bytes) -> int | None:
        found = self._young.get(digest)
        return self._old.get(digest) if found is None else found

    def _remember(self, digest: bytes, share: int) -> None:
        if len(self._young) >= MAX_LINEAGES // 2:
            self._old, self._young = self._young, {}
        self._young[digest] = share
