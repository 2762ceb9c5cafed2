"""Guards that forbid nothing: paraphrases differ in these, too. They tell the verifier something."""

from proxy.guards.parsed import Parsed
from proxy.guards.rules import Conflict, Guard

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


def question_word(asked: Parsed, cached: Parsed) -> Conflict:
    """Who, when, where, how many: never a veto, for paraphrases change it as well."""
    mine, theirs = _question(asked), _question(cached)
    return (mine, theirs) if mine and theirs and mine != theirs else None


def _question(parsed: Parsed) -> str:
    lowers = [word.lower for word in parsed.words]
    for at, lower in enumerate(lowers):
        if lower == "how" and at + 1 < len(lowers) and lowers[at + 1] in _HOW:
            return f"how {lowers[at + 1]}"
        if lower in _QUESTIONS:
            return _QUESTIONS[lower]
    return ""


_MODALS = {"should": "should", "must": "must", "ought": "should", "may": "may", "might": "may"}


def tense(asked: Parsed, cached: Parsed) -> Conflict:
    """What will be, and what was."""
    mine, theirs = _tense(asked), _tense(cached)
    return (mine, theirs) if mine != theirs else None


def _tense(parsed: Parsed) -> str:
    lowers = {word.lower for word in parsed.words}
    if lowers & {"will", "going", "shall", "won't"}:
        return "future"
    if lowers & {"did", "was", "were", "had"}:
        return "past"
    return "present"


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


SOFT: dict[str, Guard] = {
    "question_word": question_word,
    "tense": tense,
    "obligation": obligation,
    "possession": possession,
    "replacement": replacement,
    "addition": addition,
}
"""Guards that only tell the verifier something."""
