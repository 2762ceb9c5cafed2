"""What the classes have in common: the hand that reads and writes entries, and the count of what it found."""

import time
from dataclasses import dataclass

from proxy.accounts.counting import Counting
from proxy.byhand import CHAT, TARGET, ByHand
from proxy.call import Call
from proxy.headers import Fields
from proxy.ports import Store
from proxy.reception import Reception
from proxy.semantic.recalling import Recalling
from proxy.settings import CacheSettings, SemanticSettings
from proxy.tasks import Tasks
from proxy.tiers.exact import ExactTier
from proxy.tiers.semantic import SemanticTier

MAX_BYTES = 256 * 1024 * 1024
"""What entries in memory may take where nobody says otherwise."""

SECRET = b"one program, one tenant"
"""Keys tell tenants apart; here there is one."""


def hand(store: Store, tier: SemanticTier | None, semantic: SemanticSettings, *, ttl_s: float, tasks: Tasks) -> ByHand:
    """A hand that goes by *store*, and where there is one by *tier*."""
    exact = ExactTier(store, now=time.time)
    settings = CacheSettings(share="everyone", ttl_s=ttl_s)
    return ByHand(
        reception=Reception(settings, secret=SECRET, trusted=lambda _: False, semantic=semantic),
        exact=exact,
        recalling=Recalling(tier, exact=exact, counting=Counting(tasks), maker=None, parallel=False),
        ttl_s=ttl_s,
        now=time.time,
    )


def call(body: bytes) -> Call:
    """The chat request with *body*, sent by nobody in particular."""
    return Call(method=b"POST", target=TARGET, fields=Fields(()), body=body, dialect=CHAT)


@dataclass(slots=True)
class Found:
    """How often something was found, and how often not."""

    hits: int = 0
    misses: int = 0

    def count(self, *, hit: bool) -> None:
        """One more."""
        if hit:
            self.hits += 1
        else:
            self.misses += 1

    @property
    def rate(self) -> float:
        """The share of hits; 0 before the first."""
        looked = self.hits + self.misses
        return self.hits / looked if looked else 0.0

    def shown(self) -> dict[str, object]:
        """By the names that every class here uses."""
        return {"hits": self.hits, "misses": self.misses, "hit_rate": self.rate}
