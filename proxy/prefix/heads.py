"""The system prompts that are known: how often each was used, how long it is, when it came first and last; no texts."""

from collections import OrderedDict
from dataclasses import dataclass

from proxy.prefix.pulse import Pulse

MAX_HEADS = 1024
"""System prompts, tools included, that are remembered; the one that was used longest ago goes first."""

SHOWN = 20


@dataclass(slots=True)
class Head:
    """One system prompt, with the tools before it."""

    model: str
    octets: int
    first_s: float
    last_s: float
    pulse: Pulse
    uses: int = 0
    tokens: int | None = None
    """By its share of what the provider counted; None before the first usage."""
    read: int = 0
    """Tokens of requests with it that were read from the provider's cache."""


class Heads:
    """Those used last."""

    def __init__(self, *, capacity: int = MAX_HEADS) -> None:
        self._capacity = capacity
        self._heads: OrderedDict[bytes, Head] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Heads, {len(self._heads)} system prompts>"

    def __len__(self) -> int:
        return len(self._heads)

    def use(self, digest: bytes, *, model: str, octets: int, now: float) -> Head:
        """The system prompt with *digest* is used once more."""
        head = self._heads.get(digest)
        if head is None:
            head = self._heads[digest] = Head(model, octets, now, now, Pulse())
            if len(self._heads) > self._capacity:
                self._heads.popitem(last=False)
        else:
            self._heads.move_to_end(digest)
        head.uses += 1
        head.last_s = now
        head.pulse.beat(now)
        return head

    def find(self, digest: bytes) -> Head | None:
        """The system prompt with *digest*, if it is remembered."""
        return self._heads.get(digest)

    def most_used(self, count: int = SHOWN) -> list[tuple[bytes, Head]]:
        """Those with the most uses."""
        return sorted(self._heads.items(), key=lambda item: -item[1].uses)[:count]
