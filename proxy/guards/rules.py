"""The guards: each a pure function of two parsed texts that tells the words in which they conflict, or nothing."""

from collections.abc import Callable
from itertools import pairwise

from proxy.guards import direction, names
from proxy.guards.parsed import Parsed
from proxy.guards.stems import stem
from proxy.guards.tables import COMPARATIVES, MEMBERS, NEGATING_PREFIXES, OPPOSITES, STOPWORDS

Conflict = tuple[str, str] | None
"""What the asked text says and what the cached one says in its place."""

Guard = Callable[[Parsed, Parsed], Conflict]


def numbers(asked: Parsed, cached: Parsed) -> Conflict:
    """Other numbers, or one that only one of the texts has."""
    one = sorted(value for value, _, _ in asked.numbers)
    other = sorted(value for value, _, _ in cached.numbers)
    if set(one) == set(other):
        return None
    return (
        ", ".join(words for value, _, words in asked.numbers if value not in other),
        ", ".join(words for value, _, words in cached.numbers if value not in one),
    )


def units(asked: Parsed, cached: Parsed) -> Conflict:
    """The same number of something else."""
    for value, unit, words in asked.numbers:
        same = [(theirs, spelled) for number, theirs, spelled in cached.numbers if number == value]
        known = [pair for pair in same if pair[0]]
        if unit and known and all(theirs != unit for theirs, _ in known):
            return words, known[0][1]
    return None


def order_of_numbers(asked: Parsed, cached: Parsed) -> Conflict:
    """The same numbers in another order: from 5 to 10, from 10 to 5."""
    one, other = [value for value, _, _ in asked.numbers], [value for value, _, _ in cached.numbers]
    if len(one) == len(other) == 2 and one == other[::-1] and one != other:
        return " ".join(words for _, _, words in asked.numbers), " ".join(words for _, _, words in cached.numbers)
    return None


def identifiers(asked: Parsed, cached: Parsed) -> Conflict:
    """Codes, versions, addresses, paths: whatever has digits or joints in it and is not the same."""
    one = {_bare(each): each for each in asked.identifiers}
    other = {_bare(each): each for each in cached.identifiers}
    joined_one, joined_other = _run_together(asked), _run_together(cached)
    mine = [spelled for bare, spelled in one.items() if bare not in other and bare not in joined_other]
    theirs = [spelled for bare, spelled in other.items() if bare not in one and bare not in joined_one]
    return (", ".join(mine), ", ".join(theirs)) if mine or theirs else None


def negation(asked: Parsed, cached: Parsed) -> Conflict:
    """One of them is negated and the other is not."""
    if len(asked.negations) % 2 == len(cached.negations) % 2:
        return None
    plain = cached if asked.negations and len(asked.negations) % 2 else asked
    if plain.softly_negative or _opposites(asked, cached) is not None:
        # "won't start" and "fails to start"; "not active" and "passive".
        return None
    return ", ".join(asked.negations), ", ".join(cached.negations)


def opposites(asked: Parsed, cached: Parsed) -> Conflict:
    """A word in the one and its opposite in the other."""
    if len(asked.negations) % 2 != len(cached.negations) % 2:
        # "not active" against "passive": two turns lead back.
        return None
    return _opposites(asked, cached)


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


_NOW = frozenset({"today", "now", "currently", "current", "tonight", "present"})
_DAYS = {
    "yesterday": "yesterday",
    "tomorrow": "tomorrow",
    "tonight": "tonight",
    "ago": "ago",
}
_RELATIVE = {
    "last": "last",
    "next": "next",
    "previous": "last",
    "past": "last",
    "coming": "next",
    "upcoming": "next",
    "following": "next",
}
_PERIODS = frozenset(
    {
        "week",
        "month",
        "year",
        "quarter",
        "weekend",
        "night",
        "day",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "season",
        "summer",
        "winter",
        "time",
    }
)


def moments(asked: Parsed, cached: Parsed) -> Conflict:
    """Another day, another week, before instead of after."""
    mine, theirs = _moments(asked), _moments(cached)
    if mine.keys() == theirs.keys():
        return None
    return " ".join(mine.values()), " ".join(theirs.values())


_BECOMING = frozenset({"becom", "become"})
_FORMERLY = frozenset({"formerly", "former", "previously", "ex"})


def aspect(asked: Parsed, cached: Parsed) -> Conflict:
    """Being something, becoming it, having been it."""
    mine, theirs = _aspect(asked), _aspect(cached)
    return (mine or "is", theirs or "is") if mine != theirs and _alike(asked, cached) else None


def comparison(asked: Parsed, cached: Parsed) -> Conflict:
    """Which of the two is more than the other."""
    one, other = _compared(asked), _compared(cached)
    if one is None or other is None:
        return None
    (left, _, right), (their_left, _, their_right) = one, other
    if left == their_right and right == their_left and left != right:
        word, their_word = one[1], other[1]
        if word == their_word or frozenset((word, their_word)) not in OPPOSITES:
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


def question_word(asked: Parsed, cached: Parsed) -> Conflict:
    """Who, when, where, how many: never a veto, for paraphrases change it as well."""
    mine, theirs = _question(asked), _question(cached)
    return (mine, theirs) if mine and theirs and mine != theirs else None


_MODALS = {"should": "should", "must": "must", "ought": "should", "may": "may", "might": "may"}


def obligation(asked: Parsed, cached: Parsed) -> Conflict:
    """Should, must, may."""
    mine = {_MODALS[stem] for stem in asked.known if stem in _MODALS}
    theirs = {_MODALS[stem] for stem in cached.known if stem in _MODALS}
    return (" ".join(sorted(mine)), " ".join(sorted(theirs))) if mine != theirs else None


_POSSESSION = frozenset({"my", "mine", "your", "yours", "our", "their", "his", "her"})


def possession(asked: Parsed, cached: Parsed) -> Conflict:
    """My, your, their: sometimes another thing, often a way of speaking."""
    mine = sorted({word.lower for word in asked.words} & _POSSESSION)
    theirs = sorted({word.lower for word in cached.words} & _POSSESSION)
    return (" ".join(mine), " ".join(theirs)) if mine and theirs and mine != theirs else None


def replacement(asked: Parsed, cached: Parsed) -> Conflict:
    """One content word stands in the place of another, all else alike."""
    mine = [word for word in asked.content if word not in cached.known]
    theirs = [word for word in cached.content if word not in asked.known]
    if len(mine) == len(theirs) == 1 and len(asked.content) == len(cached.content):
        return mine[0], theirs[0]
    return None


def addition(asked: Parsed, cached: Parsed) -> Conflict:
    """One of them says all that the other says, and something more."""
    mine = [word for word in asked.content if word not in cached.known]
    theirs = [word for word in cached.content if word not in asked.known]
    return (" ".join(mine), " ".join(theirs)) if bool(mine) != bool(theirs) else None


def _bare(identifier: str) -> str:
    return identifier.replace("-", "").replace("_", "").replace("/", "").rstrip(".").removesuffix("s")


def _run_together(parsed: Parsed) -> frozenset[str]:
    """Neighbouring words as one: ``python 3`` meets ``python3``, ``wi fi`` meets ``wi-fi``."""
    lowers = [word.lower for word in parsed.words]
    pairs = [one + other for one, other in pairwise(lowers)]
    return frozenset(_bare(each) for each in [*lowers, *pairs])


def _opposites(asked: Parsed, cached: Parsed) -> Conflict:
    mine, theirs = asked.known - cached.known, cached.known - asked.known
    for word in mine:
        for other in theirs:
            if frozenset((word, other)) in OPPOSITES or _prefixed(word, other) or _prefixed(other, word):
                return _raw(asked, word), _raw(cached, other)
    return None


def _prefixed(word: str, other: str) -> bool:
    return len(word) > 3 and any(other == prefix + word for prefix in NEGATING_PREFIXES)


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
            found[_DAYS[lower]] = lower
        elif lower in ("before", "after", "until", "since", "during"):
            found[lower] = lower
        elif lower in _RELATIVE and at + 1 < len(lowers) and stem(lowers[at + 1]) in _PERIODS:
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


def _alike(asked: Parsed, cached: Parsed) -> bool:
    """All content words shared but for one on each side at most."""
    mine = [word for word in asked.content if word not in cached.known and word not in _BECOMING]
    theirs = [word for word in cached.content if word not in asked.known and word not in _BECOMING]
    return len(mine) <= 1 and len(theirs) <= 1


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


_QUESTIONS = {
    "who": "who",
    "whom": "who",
    "whose": "whose",
    "when": "when",
    "where": "where",
    "why": "why",
    "which": "what",
    "what": "what",
    "how": "how",
}
_HOW = frozenset({"many", "much", "long", "often", "far", "old", "tall", "big", "fast"})


def _question(parsed: Parsed) -> str:
    lowers = [word.lower for word in parsed.words]
    for at, lower in enumerate(lowers):
        if lower == "how" and at + 1 < len(lowers) and lowers[at + 1] in _HOW:
            return f"how {lowers[at + 1]}"
        if lower in _QUESTIONS:
            return _QUESTIONS[lower]
    return ""


HARD: dict[str, Guard] = {
    "numbers": numbers,
    "units": units,
    "order_of_numbers": order_of_numbers,
    "identifiers": identifiers,
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

SOFT: dict[str, Guard] = {
    "question_word": question_word,
    "obligation": obligation,
    "possession": possession,
    "replacement": replacement,
    "addition": addition,
}
"""Guards that only tell the verifier something."""
