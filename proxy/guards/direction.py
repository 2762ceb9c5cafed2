"""Who does what to whom, and from where to where."""

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.guards.tables import ARTICLES, JOINING, PHRASE_ENDS, STOPWORDS, SYMMETRIC
from proxy.guards.text import Word

_CLAUSES = frozenset({"when", "if", "while", "because", "true"})
"""A clause may stand before or after the other."""

LONGEST_PHRASE = 3


@dataclass(frozen=True, slots=True)
class Route:
    """Where from and where to, as the words that stand there."""

    origin: tuple[str, ...]
    goal: tuple[str, ...]


def route(words: Sequence[Word]) -> Route:
    """The phrases after ``from`` and after ``to``; ``usd to eur`` counts as from the one to the other."""
    origin: tuple[str, ...] = ()
    goal: tuple[str, ...] = ()
    lowers = [word.lower for word in words]
    for at, lower in enumerate(lowers):
        if lower == "from" and not origin:
            origin = _phrase(words, at + 1)
        elif lower in ("to", "into", "onto") and not goal:
            goal = _phrase(words, at + 1)
            if not origin and goal and at:
                before = words[at - 1]
                if before.lower not in STOPWORDS and before.lower not in ARTICLES:
                    origin = (before.stem,)
    return Route(origin, goal)


def _phrase(words: Sequence[Word], at: int) -> tuple[str, ...]:
    found: list[str] = []
    for word in words[at:]:
        if word.lower in ARTICLES and not found:
            continue
        if word.lower in PHRASE_ENDS or word.lower in STOPWORDS or len(found) == LONGEST_PHRASE:
            break
        found.append(word.stem)
    return tuple(found)


def turned_route(asked: Sequence[Word], cached: Sequence[Word]) -> tuple[str, str] | None:
    """The words of two routes of which one is the other backwards."""
    if any(word.stem in SYMMETRIC for word in (*asked, *cached)):
        return None
    one, other = route(asked), route(cached)
    if not (one.origin and one.goal and other.origin and other.goal):
        return None
    there = _meets(one.origin, other.goal)
    back = _meets(one.goal, other.origin)
    straight = _meets(one.origin, other.origin) or _meets(one.goal, other.goal)
    if (there and back) and not straight:
        return f"{' '.join(one.origin)} > {' '.join(one.goal)}", f"{' '.join(other.origin)} > {' '.join(other.goal)}"
    return None


def _meets(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return one[-1] == other[-1] or one[0] == other[0]


def swapped(asked: Sequence[Word], cached: Sequence[Word]) -> tuple[str, str] | None:
    """Two phrases that have changed places around a word that makes a difference of it.

    The texts must be alike but for that: P x M y S against P y M x S.
    """
    one, other = _core(asked), _core(cached)
    if len(one) < 2 or sorted(one) != sorted(other) or one == other:
        return None
    if any(word in SYMMETRIC for word in one):
        return None
    first = 0
    while one[first] == other[first]:
        first += 1
    last = len(one)
    while one[last - 1] == other[last - 1]:
        last -= 1
    a, b = one[first:last], other[first:last]
    if _CLAUSES & set(a):
        return None
    passive = _passive(asked) != _passive(cached)
    for left in range(1, min(LONGEST_PHRASE, len(a) - 1) + 1):
        for right in range(1, min(LONGEST_PHRASE, len(a) - left) + 1):
            x, middle, y = a[:left], a[left : len(a) - right], a[len(a) - right :]
            if y + middle + x != b:
                continue
            if not middle or all(word in JOINING for word in middle):
                # Side by side, or joined by "and": nothing lies between that they could do to each other.
                return None
            if passive:
                # One of the two is in the passive voice: there the places do change.
                return None
            return " ".join(a), " ".join(b)
    return None


def turned_voice(asked: Sequence[Word], cached: Sequence[Word]) -> tuple[str, str] | None:
    """``was A hit by B`` against ``did A hit B``: the same words, and the other one is hit."""
    one, other = _passive(asked), _passive(cached)
    if one == other:
        return None
    passive, active = (asked, cached) if one else (cached, asked)
    agent, actor = _after(passive, ("by",)), _after(active, ("do", "does", "did"))
    names = sorted(word.stem for word in active if word.lower not in STOPWORDS)
    others = sorted(word.stem for word in passive if word.lower not in STOPWORDS)
    if not agent or not actor or names != others or actor[0] in agent or agent[-1] not in names:
        return None
    spelled = " ".join(word.lower for word in active), " ".join(word.lower for word in passive)
    return (spelled[1], spelled[0]) if one else spelled


def _core(words: Sequence[Word]) -> list[str]:
    return [
        "i" if word.lower == "me" else word.stem
        for word in words
        if word.lower not in ARTICLES
        and word.lower not in ("do", "does", "did", "is", "are", "was", "were", "be", "been", "by", "please")
    ]


def _passive(words: Sequence[Word]) -> bool:
    lowers = [word.lower for word in words]
    return "by" in lowers and any(
        lower in ("is", "are", "was", "were", "be", "been", "being", "get", "got", "gets") for lower in lowers
    )


def _after(words: Sequence[Word], marks: Sequence[str]) -> tuple[str, ...]:
    """The phrase after the first of *marks*."""
    for at, word in enumerate(words):
        if word.lower in marks:
            return _phrase(words, at + 1)
    return ()
