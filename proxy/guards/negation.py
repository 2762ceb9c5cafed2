"""Negation: an odd number of them turns a question round."""

from collections.abc import Sequence

from proxy.guards.text import Word

_NEGATORS = frozenset(
    {"not", "no", "never", "nobody", "nothing", "none", "nowhere", "neither", "nor", "without", "non"}
)

_IDIOMS = (
    ("whether", "or", "not"),
    ("or", "not"),
    ("no", "matter"),
    ("not", "only"),
    ("no", "problem"),
    ("why", "not"),
    ("no", "one"),
    ("no", "longer"),
    ("if", "not"),
    ("is", "not", "it"),
    ("do", "not", "know"),
    ("do", "not", "understand"),
    ("not", "sure"),
    ("can", "not", "wait"),
    ("can", "not", "figure"),
    ("can", "not", "remember"),
    ("no", "idea"),
)
"""A negation in form but not in what is asked."""

_STILL = {("no", "one"), ("no", "longer")}
"""Of these, the ones that do negate, once."""


def negations(words: Sequence[Word]) -> tuple[str, ...]:
    """The negating words of a text, as they were written."""
    lowers = [word.lower for word in words]
    found: list[str] = []
    # "Isn't it an insect?" asks what "is it an insect?" asks.
    at = 2 if lowers[1:2] == ["not"] and lowers[0] not in ("do", "can") and words[0].raw == words[1].raw else 0
    while at < len(words):
        idiom = next((each for each in _IDIOMS if tuple(lowers[at : at + len(each)]) == each), None)
        if idiom is not None:
            if idiom in _STILL:
                found.append(" ".join(idiom))
            at += len(idiom)
            continue
        if lowers[at] in _NEGATORS and not (lowers[at] == "no" and _number_sign(words, at)):
            found.append(words[at].raw)
        at += 1
    return tuple(found)


def _number_sign(words: Sequence[Word], at: int) -> bool:
    """``No. 5`` is a number, and a ``no`` alone is an answer."""
    return (at + 1 < len(words) and words[at + 1].kind == "number") or len(words) == 1
