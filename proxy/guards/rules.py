"""The guards that forbid: each tells the words in which two parsed texts conflict, or nothing."""

from collections.abc import Callable
from itertools import pairwise

from proxy.guards import direction, names, unshared
from proxy.guards.parsed import Parsed
from proxy.guards.stems import stem
from proxy.guards.tables import COMPARATIVES, MEMBERS, NEGATING_PREFIXES, OPPOSITES, STOPWORDS

Conflict = tuple[str, str] | None
"""What the asked text says and what the cached one says in its place."""

Guard = Callable[[Parsed, Parsed], Conflict]


def numbers(asked: Parsed, cached: Parsed) -> Conflict:
    """Each has a number that the other lacks."""
    mine, theirs = unshared.numbers(asked, cached)
    return (", ".join(mine), ", ".join(theirs)) if mine and theirs else None


def numbers_missing(asked: Parsed, cached: Parsed) -> Conflict:
    """A number that only one of them has."""
    mine, theirs = unshared.numbers(asked, cached)
    return (", ".join(mine), ", ".join(theirs)) if bool(mine) != bool(theirs) else None


def units(asked: Parsed, cached: Parsed) -> Conflict:
    """The same number of something else."""
    for value, measure, words in asked.numbers:
        same = [(theirs, spelled) for number, theirs, spelled in cached.numbers if number == value]
        known = [pair for pair in same if pair[0]]
        if measure and known and all(theirs != measure for theirs, _ in known):
            return words, known[0][1]
    return None


_COMMUTING = frozenset(
    {"tim", "plus", "multiply", "multipli", "multiplied", "add", "sum", "product", "and", "x", "by", "%"}
)


def order_of_numbers(asked: Parsed, cached: Parsed) -> Conflict:
    """The same numbers in another order, all else alike: from 5 to 10, from 10 to 5."""
    one, other = [value for value, _, _ in asked.numbers], [value for value, _, _ in cached.numbers]
    if len(one) != 2 or one != other[::-1] or one == other or _COMMUTING & (asked.known | cached.known):
        return None
    values = {word for _, _, words in (*asked.numbers, *cached.numbers) for word in words.lower().split()}
    if [word for word in asked.stems if word not in values] != [word for word in cached.stems if word not in values]:
        return None
    return " ".join(words for _, _, words in asked.numbers), " ".join(words for _, _, words in cached.numbers)


def identifiers(asked: Parsed, cached: Parsed) -> Conflict:
    """Codes, versions, addresses, paths: each has one that the other lacks."""
    mine, theirs = unshared.identifiers(asked, cached)
    return (", ".join(mine), ", ".join(theirs)) if mine and theirs else None


def identifiers_missing(asked: Parsed, cached: Parsed) -> Conflict:
    """A code, a version, an address that only one of them has."""
    mine, theirs = unshared.identifiers(asked, cached)
    return (", ".join(mine), ", ".join(theirs)) if bool(mine) != bool(theirs) else None


def negation(asked: Parsed, cached: Parsed) -> Conflict:
    """One of them is negated and the other is not."""
    if len(asked.negations) % 2 == len(cached.negations) % 2:
        return None
    negated, plain = (asked, cached) if len(asked.negations) % 2 else (cached, asked)
    if set(plain.softly_negative) - set(negated.softly_negative) or _opposites(asked, cached) is not None:
        # "won't start" and "fails to start"; "not active" and "passive".
        return None
    return ", ".join(asked.negations), ", ".join(cached.negations)


def opposites(asked: Parsed, cached: Parsed) -> Conflict:
    """A word in the one and its opposite in the other."""
    one, other = _compared(asked), _compared(cached)
    turned = one is not None and other is not None and (one[0] == other[2] or one[2] == other[0])
    if turned or len(asked.negations) % 2 != len(cached.negations) % 2:
        # "not active" against "passive", "A is bigger than B" against "B is smaller than A": two turns lead back.
        return None
    if _count_of_opposites(asked, cached) > 1:
        return None
    return _opposites(asked, cached) or _particles(asked, cached)


def categories(asked: Parsed, cached: Parsed) -> Conflict:
    """Two of one kind, of which one excludes the other: Monday and Friday, CSV and JSON."""
    mine, theirs = _groups(asked, cached), _groups(cached, asked)
    for group, members in mine.items():
        others = theirs.get(group, {})
        if others and not members.keys() & others.keys():
            return ", ".join(members.values()), ", ".join(others.values())
    return None


def proper_names(asked: Parsed, cached: Parsed) -> Conflict:
    """Each names somebody or something that the other does not."""
    mine = [name for name in asked.names if not names.same(name, cached.words) and not _meant(name, cached)]
    theirs = [name for name in cached.names if not names.same(name, asked.words) and not _meant(name, asked)]
    if not mine or not theirs:
        return None
    return ", ".join(mine), ", ".join(theirs)


_DAYS = frozenset({"yesterday", "tomorrow", "tonight"})
_RELATIVE = {
    "last": "last",
    "previous": "last",
    "past": "last",
    "next": "next",
    "coming": "next",
    "upcoming": "next",
    "following": "next",
}
_PERIODS = frozenset(
    {
        "week",
        "weeks",
        "month",
        "months",
        "year",
        "years",
        "quarter",
        "weekend",
        "night",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
    }
    | {"saturday", "sunday", "season", "summer", "winter"}
)


def moments(asked: Parsed, cached: Parsed) -> Conflict:
    """Another day or week, or one that only one of them names."""
    mine, theirs = _moments(asked), _moments(cached)
    if mine.keys() != theirs.keys():
        return " ".join(mine.values()), " ".join(theirs.values())
    return None


_BECOMING = frozenset({"becom", "become"})
_FORMERLY = frozenset({"formerly", "former", "previously", "ex"})


def aspect(asked: Parsed, cached: Parsed) -> Conflict:
    """Being something, becoming it, having been it."""
    mine, theirs = _aspect(asked), _aspect(cached)
    return (mine or "is", theirs or "is") if mine != theirs else None


def comparison(asked: Parsed, cached: Parsed) -> Conflict:
    """Which of the two is more than the other."""
    one, other = _compared(asked), _compared(cached)
    if one is None or other is None:
        return None
    (left, word, right), (their_left, their_word, their_right) = one, other
    # With another comparative the exchange may well lead back: "A is hotter than B" and "B is cooler than A".
    if word == their_word and left == their_right and right == their_left and left != right:
        return f"{left} {word} than {right}", f"{their_left} {their_word} than {their_right}"
    return None


_MALE = frozenset({"he", "him", "his", "himself"})
_FEMALE = frozenset({"she", "her", "hers", "herself"})


def pronouns(asked: Parsed, cached: Parsed) -> Conflict:
    """He and she."""
    mine = {word.lower for word in asked.words}
    theirs = {word.lower for word in cached.words}
    one, other = _gender(mine), _gender(theirs)
    if one and other and one != other:
        return " ".join(sorted(mine & (_MALE | _FEMALE))), " ".join(sorted(theirs & (_MALE | _FEMALE)))
    return None


def routes(asked: Parsed, cached: Parsed) -> Conflict:
    """From A to B, from B to A."""
    return direction.turned_route(asked.words, cached.words)


def roles(asked: Parsed, cached: Parsed) -> Conflict:
    """Who does it to whom: the same words, and two of them have changed places."""
    if len(asked.words) > 20 or len(cached.words) > 20:
        return None
    return direction.swapped(asked.words, cached.words) or direction.turned_voice(asked.words, cached.words)


def _opposites(asked: Parsed, cached: Parsed) -> Conflict:
    mine, theirs = asked.known - cached.known, cached.known - asked.known
    for word in mine:
        for other in theirs:
            if frozenset((word, other)) in OPPOSITES or _prefixed(word, other) or _prefixed(other, word):
                return _raw(asked, word), _raw(cached, other)
    return None


_PARTICLES = {"in": "out", "out": "in", "on": "off", "off": "on", "up": "down", "down": "up", "over": "under"}


def _particles(asked: Parsed, cached: Parsed) -> Conflict:
    """``Opt in`` and ``opt out``, ``turn on`` and ``turn off``."""
    theirs = {(one, other) for one, other in pairwise(cached.stems)}
    for one, other in pairwise(asked.stems):
        turned = _PARTICLES.get(other)
        if turned is not None and (one, turned) in theirs and (one, other) not in theirs:
            return f"{one} {other}", f"{one} {turned}"
    return None


def _count_of_opposites(asked: Parsed, cached: Parsed) -> int:
    """ "More pessimistic" against "less optimistic": two opposites lead back."""
    mine, theirs = asked.known - cached.known, cached.known - asked.known
    return sum(
        any(
            frozenset((word, other)) in OPPOSITES or _prefixed(word, other) or _prefixed(other, word)
            for other in theirs
        )
        for word in mine
    )


def _prefixed(word: str, other: str) -> bool:
    if len(word) <= 3 or not other.endswith(word):
        return False
    prefix = other[: -len(word)]
    return prefix in NEGATING_PREFIXES and (len(prefix) > 1 or len(word) > 6)


def _raw(parsed: Parsed, wanted: str) -> str:
    return next((word.raw for word in parsed.words if word.stem == wanted), wanted)


def _groups(parsed: Parsed, other: Parsed) -> dict[str, dict[str, str]]:
    """Group to member to the word as written, for words that the *other* text lacks."""
    found: dict[str, dict[str, str]] = {}
    for word in parsed.words:
        for group, member in MEMBERS.get(word.stem, ()) or MEMBERS.get(word.lower, ()):
            if word.stem not in other.known:
                found.setdefault(group, {})[member] = word.raw
    return found


def _meant(name: str, other: Parsed) -> bool:
    """Whether *other* says the same in another way: a member of the same group under another spelling."""
    groups = {pair for part in name.split() for pair in MEMBERS.get(stem(part), ())}
    return bool(groups) and any(pair in groups for each in other.stems for pair in MEMBERS.get(each, ()))


def _moments(parsed: Parsed) -> dict[str, str]:
    found: dict[str, str] = {}
    lowers = [word.lower for word in parsed.words]
    for at, lower in enumerate(lowers):
        if lower in _DAYS:
            found[lower] = lower
        elif lower in _RELATIVE and at + 1 < len(lowers) and lowers[at + 1] in _PERIODS:
            found[f"{_RELATIVE[lower]} {stem(lowers[at + 1])}"] = f"{lower} {lowers[at + 1]}"
    return found


def _aspect(parsed: Parsed) -> str:
    lowers = [word.lower for word in parsed.words]
    if any(one == "used" and other == "to" for one, other in pairwise(lowers)) and not (
        {"is", "are", "be", "get", "getting", "got", "am"} & set(lowers)
    ):
        return "used to"
    if _FORMERLY & parsed.known:
        return "formerly"
    if _BECOMING & parsed.known:
        return "becoming"
    return ""


def _compared(parsed: Parsed) -> tuple[str, str, str] | None:
    """(the word before, the comparative, the word after) of ``A is better than B``."""
    lowers = [word.lower for word in parsed.words]
    if "than" not in lowers:
        return None
    at = lowers.index("than")
    compared = next(
        (place for place in range(at - 1, -1, -1) if lowers[place] in COMPARATIVES or lowers[place].endswith("er")),
        None,
    )
    if compared is None:
        return None
    left = [word.stem for word in parsed.words[:compared] if word.lower not in STOPWORDS]
    right = [word.stem for word in parsed.words[at + 1 :] if word.lower not in STOPWORDS]
    if not left or not right:
        return None
    return left[-1], parsed.words[compared].stem, right[0]


def _gender(lowers: set[str]) -> str:
    male, female = bool(lowers & _MALE), bool(lowers & _FEMALE)
    return "male" if male and not female else "female" if female and not male else ""


HARD: dict[str, Guard] = {
    "numbers": numbers,
    "numbers_missing": numbers_missing,
    "units": units,
    "order_of_numbers": order_of_numbers,
    "identifiers": identifiers,
    "identifiers_missing": identifiers_missing,
    "negation": negation,
    "opposites": opposites,
    "categories": categories,
    "names": proper_names,
    "moments": moments,
    "aspect": aspect,
    "comparison": comparison,
    "pronouns": pronouns,
    "routes": routes,
    "roles": roles,
}
"""Guards of which each is a reason not to serve, where both texts are short."""

ALWAYS = frozenset({"numbers", "units", "identifiers", "pronouns", "routes", "roles", "comparison", "order_of_numbers"})
"""Hard guards that need no likeness of the rest: what they find is a difference however it is said."""
