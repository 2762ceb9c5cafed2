"""Whose questions are answered by others' far more often, or far less, than everybody else's. Pure.

Who feels for what others asked, or lays out near misses to be given in error, has questions near to others' that are
hardly ever answered; who harvests has nearly all of them answered.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proxy.model import Apart
from proxy.values import value

WINDOW_S = 3600
"""Over so long a time questions are counted; then counting begins anew."""

LEAST = 50
"""With fewer questions near to others' nobody is looked at, and nobody is compared with by name."""

LOOKS = tuple(LEAST * 2**at for at in range(8))
"""At so many questions a client is looked at. To look at every one would find something sooner or later."""

FALSE_ALARMS = 0.01
"""In so few windows, at the most, one client is named of any number that are all alike."""

FEWER, MORE = 0.5, 0.2
"""A share below so much of the others', or by so much above theirs, is worth a word; what is certain need not be."""

MAX_CLIENTS = 1000
"""Clients counted by name; those that come later are counted as one, and not looked at."""

REST = "(other)"

DECIDED = frozenset(
    {Apart.GUARDED, Apart.UNSURE, Apart.TOLD_APART, Apart.UNSEEN, Apart.UNLIKE, Apart.EXPLORED, Apart.SHADOW}
)
"""Words that were found by comparing; of the others none tells anything of the question."""

GOOD = frozenset({Apart.EXPLORED, Apart.SHADOW})
"""It passed, though it was not answered for another reason."""


@value
class Odd:
    """A client whose share of answered questions is not like that of any other."""

    client: str
    near: int
    """Its questions that were near to another, in this window, when that was found."""
    answered: int
    """Those of them whose answer could be another's."""
    others: float
    """The share of all others together."""


@dataclass(slots=True)
class _Count:
    near: int = 0
    answered: int = 0


class Standing:
    """Counts for each client how many of its questions near to another's could be answered by it, and who stands out.

    A client stands out where an exact test (Fisher's, two-sided) tells it apart from every other with ``LEAST``
    questions, and from all smaller ones together, and its share is far from theirs; there must be two others. Each
    test is held to a level at which in ``FALSE_ALARMS`` of the windows, or fewer, one is named by chance, were all
    clients alike and each question decided for itself.
    """

    def __init__(self) -> None:
        self._ends = -math.inf
        self._counts: dict[str, _Count] = {}
        self._odd: dict[str, Odd] = {}
        self._odd_before: dict[str, Odd] = {}

    def __repr__(self) -> str:
        return f"<Standing of {len(self._counts)} clients, {len(self._odd)} odd>"

    def note(self, client: str, apart: Apart | None, now: float) -> Odd | None:
        """A question of *client* was answered by another's answer, or why it was not; the client, where it is found
        to stand out for the first time in this window."""
        if apart is not None and apart not in DECIDED:
            return None
        self._turn(now)
        if client not in self._counts and len(self._counts) >= MAX_CLIENTS:
            client = REST
        count = self._counts.setdefault(client, _Count())
        count.near += 1
        count.answered += apart is None or apart in GOOD
        if client == REST or client in self._odd or count.near not in LOOKS or not self._stands_out(client, count):
            return None
        others = [each for name, each in self._counts.items() if name != client]
        share = sum(each.answered for each in others) / sum(each.near for each in others)
        odd = Odd(client=client, near=count.near, answered=count.answered, others=share)
        self._odd[client] = odd
        return odd

    def odd(self, now: float) -> Mapping[str, Odd]:
        """Who stands out in this window, or did in the one before."""
        self._turn(now)
        return {**self._odd_before, **self._odd}

    @property
    def clients(self) -> int:
        """How many are counted in this window."""
        return len(self._counts)

    def shown(self, now: float, *, named: bool) -> Mapping[str, object]:
        """As JSON; who they are only where that may be *named*."""
        odd = self.odd(now)
        return {
            "window_s": WINDOW_S,
            "clients": self.clients,
            "odd": len(odd),
            "named": [
                {"client": each.client, "near": each.near, "answered": each.answered, "others": round(each.others, 4)}
                for each in odd.values()
                if named
            ],
        }

    def _turn(self, now: float) -> None:
        if now < self._ends:
            return
        self._odd_before = self._odd if now < self._ends + WINDOW_S else {}
        self._counts, self._odd = {}, {}
        self._ends = now + WINDOW_S

    def _stands_out(self, client: str, count: _Count) -> bool:
        others = len(self._counts) - 1
        level = FALSE_ALARMS / (MAX_CLIENTS * len(LOOKS))
        # The likest first: most clients have one that is like them.
        share = count.answered / count.near
        against = sorted(self._against(client), key=lambda each: abs(each.answered / each.near - share))
        return (
            others >= 2
            and bool(against)
            and all(_far(share, each.answered / each.near) and unlikely(count, each) <= level for each in against)
        )

    def _against(self, client: str) -> Iterator[_Count]:
        small = _Count()
        for name, each in self._counts.items():
            if name != client and each.near >= LEAST:
                yield each
            elif name != client:
                small.near += each.near
                small.answered += each.answered
        if small.near >= LEAST:
            yield small


def _far(share: float, others: float) -> bool:
    return share <= FEWER * others or share >= others + MORE


def unlikely(one: _Count, other: _Count) -> float:
    """How likely shares that differ so much, or more, are by chance alone: twice the smaller tail of Fisher's test."""
    both, answered = one.near + other.near, one.answered + other.answered
    # From what was seen outwards each term is smaller than the one before.
    up = one.answered * both > one.near * answered
    edge = min(one.near, answered) if up else max(0, answered - other.near)
    at, step = one.answered, 1 if up else -1
    term = total = math.exp(
        _ways(answered, at) + _ways(both - answered, one.near - at) - _ways(both, one.near),
    )
    while at != edge and term > total * 1e-16:
        if up:
            term *= (answered - at) * (one.near - at) / ((at + 1) * (other.near - answered + at + 1))
        else:
            term *= at * (other.near - answered + at) / ((answered - at + 1) * (one.near - at + 1))
        at += step
        total += term
    return min(1.0, 2 * total)


def _ways(of: int, some: int) -> float:
    """The logarithm of in how many ways *some* can be taken *of* so many."""
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)
