"""Tables of words: opposites, groups of which one excludes the other. Read once from ``data/guard_words.txt``."""

from collections.abc import Iterator
from importlib import resources

from proxy.guards.stems import stem


def _sections() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in resources.files("proxy").joinpath("data/guard_words.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            lines = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return found


_SECTIONS = _sections()


def _words(section: str) -> frozenset[str]:
    return frozenset(word for line in _SECTIONS[section] for word in line.split())


def _stems(section: str) -> frozenset[str]:
    return frozenset(map(stem, _words(section)))


STOPWORDS = _words("stopwords")
"""Words that carry little of what is asked."""

SOFTLY_NEGATIVE = _stems("softly negative")
"""Words that say in another way what a negation says: ``won't start`` is ``fails to start``."""

SYMMETRIC = _stems("symmetric")
"""Words that make the order of two things indifferent."""

COMPARATIVES = _words("comparatives")
"""What may stand before ``than``, beside words in -er."""

ARTICLES = _words("articles")
"""Words that stand before a thing and are no part of it."""

PHRASE_ENDS = _words("phrase ends")
"""Words that begin another phrase."""

JOINING = _words("joining")
"""What stands between two things whose order does not matter."""

NEGATING_PREFIXES = ("un", "in", "im", "il", "ir", "dis", "non", "de", "anti", "mis", "a")


def _opposites() -> Iterator[frozenset[str]]:
    for line in _SECTIONS["opposites"]:
        word, _, others = line.partition(": ")
        for other in others.split():
            yield frozenset((stem(word), stem(other)))


OPPOSITES = frozenset(_opposites())
"""Pairs of stems of which one is not the other."""


def _members() -> dict[str, tuple[tuple[str, str], ...]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for line in _SECTIONS["groups"]:
        group, _, members = line.partition(": ")
        for spellings in members.split(", "):
            name, *others = spellings.split("|")
            for spelling in {name, *others, stem(name), *map(stem, others)}:
                found.setdefault(spelling, []).append((group, name))
    for place in _words("places"):
        found.setdefault(stem(place), []).append(("place", place))
    return {spelling: tuple(dict.fromkeys(pairs)) for spelling, pairs in found.items()}


MEMBERS = _members()
"""Stem to (group, member): two members of one group exclude each other."""
