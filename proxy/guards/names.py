"""Names: a capital inside a sentence says that a word means one thing in particular."""

from collections.abc import Sequence

from proxy.guards.tables import STOPWORDS
from proxy.guards.text import Word

_NO_NAMES = frozenset({"i", "ok", "tv", "pc", "faq", "id", "url", "pm", "am", "mr", "mrs", "ms", "dr"})


def names_of(words: Sequence[Word]) -> tuple[str, ...]:
    """The names among *words*, in lower case, neighbours together: ``new york``."""
    proper = [word for word in words if word.kind == "word"]
    if _titled(proper):
        return ()
    found: list[str] = []
    joined = False
    for word in words:
        named = (
            word.kind == "word"
            and word.raw[0].isupper()
            and not (word.opens and not (len(word.raw) > 1 and word.raw.isupper() and len(proper) > 2))
            and word.lower not in STOPWORDS
            and word.lower not in _NO_NAMES
            and len(word.lower) > 1
        )
        if named and joined:
            found[-1] += f" {word.lower}"
        elif named:
            found.append(word.lower)
        joined = named
    return tuple(dict.fromkeys(found))


def _titled(proper: Sequence[Word]) -> bool:
    """A Text Written Like This, or LIKE THIS: its capitals say nothing."""
    capital = [word for word in proper[1:] if word.raw[0].isupper()]
    small = [word for word in proper[1:] if word.lower in STOPWORDS and len(word.lower) > 1]
    if any(word.raw[0].isupper() for word in small):
        return len(capital) * 2 > len(proper)
    return not small and len(proper) > 3 and len(capital) == len(proper) - 1


def same(name: str, words: Sequence[Word]) -> bool:
    """Whether *name* stands among *words* in some spelling: letter case, initials, a letter mistyped, a part of it."""
    lowers = [word.lower for word in words]
    parts = name.split()
    if all(part in lowers for part in parts):
        return True
    if len(parts) > 1:
        initials = "".join(part[0] for part in parts)
        if initials in lowers:
            return True
        # Surname or first name alone, or the same with a letter mistyped.
        hits = sum(any(_near(part, lower) for lower in lowers) for part in parts)
        return hits == len(parts)
    if _spells(name, lowers):
        return True
    return any(_near(name, lower) for lower in lowers)


def _spells(short: str, lowers: Sequence[str]) -> bool:
    """Whether *short* are the initials of words that follow each other: ``tdd`` of test driven development."""
    if not 2 <= len(short) <= 6:
        return False
    content = [lower for lower in lowers if lower not in ("of", "the", "and", "for", "in")]
    for row in (list(lowers), content):
        firsts = "".join(lower[0] for lower in row)
        if short in firsts and len(short) > 1:
            return True
    return False


def _near(one: str, other: str) -> bool:
    """Equal but for one letter, in words long enough for that to be a slip; or one root: ``italy``, ``italians``."""
    if one == other:
        return True
    root = min(len(one), len(other)) - 1
    if root >= 4 and one[:root] == other[:root]:
        return True
    if len(one) < 5 or len(other) < 5 or abs(len(one) - len(other)) > 1 or one[0] != other[0]:
        return False
    if len(one) > len(other):
        one, other = other, one
    at = 0
    while at < len(one) and one[at] == other[at]:
        at += 1
    if len(one) == len(other):
        swapped = one[at + 1 : at + 2] == other[at : at + 1] and one[at : at + 1] == other[at + 1 : at + 2]
        return one[at + 1 :] == other[at + 1 :] or (swapped and one[at + 2 :] == other[at + 2 :])
    return one[at:] == other[at + 1 :]
